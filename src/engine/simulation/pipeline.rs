//! Chance from a seed, and pipelines made of it.

use serde_json::{Value, json};

/// Numbers that follow from a seed.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        // xorshift*: good enough to shake pipelines.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, n: usize) -> bool {
        self.below(100) < n
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        (!of.is_empty()).then(|| &of[self.below(of.len())])
    }
}

/// A pipeline: one to three resources, two to four jobs, each with a task that goes on until it is let go.
pub fn config(chance: &mut Chance) -> Value {
    let resources: Vec<String> = (0..1 + chance.below(3)).map(|r| format!("r{r}")).collect();
    let mut jobs: Vec<Value> = Vec::new();
    // Which of the jobs so far get or put a resource.
    let mut users: Vec<(String, Vec<String>)> = resources.iter().map(|r| (r.clone(), Vec::new())).collect();
    for n in 0..2 + chance.below(3) {
        let name = format!("j{n}");
        let mut plan = Vec::new();
        for (resource, before) in &mut users {
            if !plan.is_empty() && chance.percent(50) {
                continue;
            }
            let mut get = json!({"get": resource, "trigger": chance.percent(70)});
            let passed: Vec<&String> = before.iter().filter(|_| chance.percent(60)).collect();
            if !passed.is_empty() {
                get["passed"] = json!(passed);
            }
            if chance.percent(15) {
                get["version"] = json!("every");
            }
            plan.push(get);
            before.push(name.clone());
        }
        plan.push(json!({"task": "t", "config": {"platform": "linux", "rootfs_uri": "host:///", "run": {"path": "do", "args": ["out:on", "hold"]}}}));
        if chance.percent(10) {
            plan.push(json!({"put": resources[0]}));
        }
        let mut job = json!({"name": name, "plan": plan});
        match chance.below(6) {
            0 | 1 => job["serial"] = json!(true),
            2 => job["max_in_flight"] = json!(2),
            3 | 4 => job["serial_groups"] = json!([if chance.percent(50) { "a" } else { "b" }]),
            _ => {}
        }
        jobs.push(job);
    }
    let resources: Vec<_> = resources
        .iter()
        .map(|r| json!({"name": r, "type": "mock", "check_every": "never", "source": {"initial_version": r}}))
        .filter(|r| {
            jobs.iter()
                .any(|j| j["plan"].to_string().contains(&format!("\"{}\"", r["name"].as_str().unwrap_or_default())))
        })
        .collect();
    json!({"resources": resources, "jobs": jobs})
}
