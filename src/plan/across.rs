//! `across`: the one plan that is written when the build starts becomes one for each combination of values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{AcrossPlan, Action, Plan, PlanId};
use crate::vars::{self, Lookup, Missing, Reference, traverse};

/// Every combination of one value of each list, the last list's varying fastest.
pub fn combinations(lists: &[Vec<Value>]) -> Vec<Vec<Value>> {
    lists.iter().fold(vec![Vec::new()], |found, list| {
        found.iter().flat_map(|head| list.iter().map(|v| [head.as_slice(), std::slice::from_ref(v)].concat())).collect()
    })
}

/// The plans of `across` (node `id`) for these combinations, with ids of their own: `id/combination/node`.
pub fn expand(id: &PlanId, across: &AcrossPlan, combinations: &[Vec<Value>]) -> Result<Vec<Plan>, String> {
    let plan = |(i, values): (usize, &Vec<Value>)| {
        let given = Given(across.vars.iter().map(|v| v.var.as_str()).zip(values).collect());
        let filled = vars::interpolate(&across.template, &given, Missing::Leave)
            .map_err(|e| format!("failed to interpolate template: {e}"))?;
        let mut plan: Plan = serde_json::from_value(filled).map_err(|e| format!("invalid template bytes: {e}"))?;
        renumber(&mut plan, &format!("{id}/{i}"));
        Ok(plan)
    };
    combinations.iter().enumerate().map(plan).collect()
}

/// The values of one combination. Variables of the build that are not among them stay for later.
struct Given<'a>(BTreeMap<&'a str, &'a Value>);

impl Lookup for Given<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Value>, vars::Error> {
        match self.0.get(reference.path.as_str()) {
            Some(value) if reference.source == "." => traverse(value, &reference.without_source()).map(Some),
            _ => Ok(None),
        }
    }

    fn decimals(&self, _: &Reference) -> bool {
        true
    }
}

fn renumber(plan: &mut Plan, prefix: &str) {
    let mut renamed = BTreeMap::new();
    plan.each_mut(&mut |node| {
        let id = PlanId(format!("{prefix}/{}", renamed.len()));
        renamed.insert(std::mem::replace(&mut node.id, id.clone()), id);
    });
    plan.each_mut(&mut |node| {
        if let Action::Get(get) = &mut node.action
            && let Some(from) = &mut get.version_from
            && let Some(id) = renamed.get(from)
        {
            *from = id.clone();
        }
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::Config;
    use crate::plan::{Planner, shown};

    fn across(text: &str) -> (PlanId, AcrossPlan) {
        let value: Value = serde_yaml::from_str(text).unwrap();
        let config: Config = serde_json::from_value(value).unwrap();
        let plan = Planner::new(&config, BTreeMap::new(), false).job(&config.jobs[0]).unwrap();
        let mut found = None;
        plan.each(&mut |node| {
            if let Action::Across(across) = &node.action {
                found = Some((node.id.clone(), (**across).clone()));
            }
        });
        found.unwrap()
    }

    #[test]
    fn the_last_list_varies_fastest() {
        let lists = [vec![json!(1), json!(2)], vec![json!("a")], vec![json!(null), json!({"x": 1})]];
        let want = json!([[1, "a", null], [1, "a", {"x": 1}], [2, "a", null], [2, "a", {"x": 1}]]);
        assert_eq!(json!(combinations(&lists)), want);
        assert_eq!(json!(combinations(&[vec![json!(1)], vec![]])), json!([]));
    }

    #[test]
    fn each_combination_has_ids_and_values_of_its_own() {
        let (id, plan) = across(
            "
resources: [{name: r, type: mock}]
jobs:
- name: j
  plan:
  - across: [{var: v, values: [1]}, {var: w, values: [1]}]
    attempts: 2
    do:
    - task: t-((.:v))-((.:other))
      config: {platform: linux, params: {V: ((.:v)), W: ((.:w))}, run: {path: x, args: ['x-((.:v))', ((plain))]}}
    - put: r
      params: {n: ((.:v)), m: ((.:w))}
    on_success: {task: after-((.:v)), file: a/b}
",
        );
        let found = expand(&id, &plan, &[vec![json!(1.5), json!({"a": true})]]).unwrap();
        let mut seen = Vec::new();
        found[0].each(&mut |node| {
            let what = match &node.action {
                Action::Task(t) => {
                    json!([t.name, t.config.as_ref().unwrap().params, t.config.as_ref().unwrap().run.args])
                }
                Action::Put(p) => json!(p.params),
                Action::Get(g) => json!(g.version_from),
                _ => Value::Null,
            };
            seen.push((node.id.0.clone(), what));
        });
        let task = json!(["t-1.5-((.:other))", {"V": "1.5", "W": "{\"a\":true}"}, ["x-1.5", "((plain))"]]);
        let put = json!({"n": 1.5, "m": {"a": true}});
        let id = |n: usize| format!("{id}/0/{n}");
        assert_eq!(seen[..3], [(id(0), Value::Null), (id(1), Value::Null), (id(2), task)]);
        assert_eq!(seen[4], (id(4), put));
        assert_eq!(seen[5], (id(5), json!(id(4))));
        assert_eq!(seen[6].0, id(6), "the second attempt goes on counting");
    }

    #[test]
    fn what_a_value_makes_unreadable_is_said() {
        let (id, plan) =
            across("jobs: [{name: j, plan: [{across: [{var: v, values: [1]}], task: ((.:v)), file: a/b}]}]");
        assert!(expand(&id, &plan, &[vec![json!({})]]).unwrap_err().starts_with("invalid template bytes: "));
        let (id, plan) =
            across("jobs: [{name: j, plan: [{across: [{var: v, values: [1]}], task: x-((.:v)), file: a/b}]}]");
        let error = expand(&id, &plan, &[vec![json!([])]]).unwrap_err();
        assert!(error.starts_with("failed to interpolate template: cannot interpolate non-primitive value"), "{error}");
        assert_eq!(shown(&expand(&id, &plan, &[vec![json!("y")]]).unwrap()[0])["task"]["name"], "x-y");
    }
}
