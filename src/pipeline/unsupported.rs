//! What a pipeline may say that the engine does not do yet: refused when a pipeline is set, never ignored.

use super::Config;
use super::problem::{Problem, Section};
use super::yaml::value::Segment;

/// Every use of a construct the engine does not do.
pub fn unsupported(config: &Config) -> Vec<Problem> {
    let sources = config.var_sources.iter().enumerate().filter(|(_, source)| source.kind == "secretsmanager");
    let refusal = |(index, source): (usize, &super::VarSource)| {
        let at = ["var_sources".into(), "type".into()].map(Segment::Key);
        let at = [at[0].clone(), Segment::Index(index), at[1].clone()];
        let message = format!(
            "var_sources.{}: sources of type `{}` are not supported by this server yet; use one of type ssm, vault, dummy or idtoken",
            source.name, source.kind
        );
        Problem::new(Section::Unsupported, &at, message)
    };
    sources.map(refusal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_use_is_named_with_its_place() {
        let config: Config = serde_json::from_value(serde_json::json!({
            "var_sources": [{"name": "d", "type": "dummy", "config": {"vars": {}}}, {"name": "v", "type": "secretsmanager", "config": {}}],
        }))
        .unwrap();
        let paths: Vec<_> = unsupported(&config).into_iter().map(|p| p.path).collect();
        assert_eq!(paths, ["var_sources[1].type"]);
    }
}
