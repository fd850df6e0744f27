//! Values that stand in a pipeline's own configuration (`var_sources` of type dummy).

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::{Answer, Found, Path, Source, SourceError};

/// See the module's doc. Paths are `TEAM/PIPELINE/NAME`, `TEAM/NAME` and `NAME`.
pub struct Dummy {
    vars: Map<String, Value>,
}

/// Where values of such a source may stand.
pub const TEMPLATES: [&str; 3] = ["{{.Team}}/{{.Pipeline}}/{{.Secret}}", "{{.Team}}/{{.Secret}}", "{{.Secret}}"];

impl Dummy {
    /// From `config.vars`.
    pub fn new(config: Value) -> Result<Dummy, String> {
        let Value::Object(mut config) = config else {
            return Err("its config must be a map with the key `vars`".to_owned());
        };
        match config.remove("vars") {
            Some(Value::Object(vars)) => Ok(Dummy { vars }),
            _ => Err("config.vars must be a map".to_owned()),
        }
    }
}

#[async_trait]
impl Source for Dummy {
    fn name(&self) -> &str {
        "dummy"
    }

    async fn get_many(&self, paths: &[Path]) -> Result<Answer, SourceError> {
        let value = |path: &Path| self.vars.get(&path.text).cloned().map(Found::lasting);
        Ok(Answer { values: paths.iter().map(value).collect(), calls: 0 })
    }

    fn about(&self) -> Value {
        json!({"dummy": {}})
    }

    async fn health(&self) -> Result<(), SourceError> {
        Ok(())
    }
}
