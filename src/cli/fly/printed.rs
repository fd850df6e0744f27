//! What `--json` prints of an answer: the fields of Go's types in their order, and nothing a server says beside them.

use serde_json::{Map, Value};

use super::{Fly, failure::Outcome};

/// A field of a Go type.
pub struct Field {
    name: &'static str,
    kind: Kind,
    /// Whether it is left out where it is empty.
    optional: bool,
}

/// What a field holds.
enum Kind {
    Text,
    Number,
    Flag,
    /// A time; never, where there is none.
    Time,
    /// A map of anything.
    Table,
    /// Anything, its maps in the order of their keys.
    Any,
    /// Anything, as the server wrote it.
    Raw,
    /// Names, of which the empty ones do not count.
    Tags,
    List(&'static [Field]),
    /// A struct, or none.
    Record(&'static [Field]),
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, optional: false }
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, optional: true }
}

/// Who is logged in.
pub static USER_INFO: &[Field] = &[
    field("sub", Kind::Text),
    field("name", Kind::Text),
    field("user_id", Kind::Text),
    field("user_name", Kind::Text),
    field("email", Kind::Text),
    field("is_admin", Kind::Flag),
    field("is_system", Kind::Flag),
    field("teams", Kind::Table),
    field("connector", Kind::Text),
    field("display_user_id", Kind::Text),
];

/// Who was here.
pub static USER: &[Field] = &[
    optional("id", Kind::Number),
    optional("username", Kind::Text),
    optional("connector", Kind::Text),
    optional("last_login", Kind::Number),
    optional("sub", Kind::Text),
];

/// A team.
pub static TEAM: &[Field] =
    &[optional("id", Kind::Number), optional("name", Kind::Text), optional("auth", Kind::Table)];

/// A worker.
pub static WORKER: &[Field] = &[
    field("addr", Kind::Text),
    field("baggageclaim_url", Kind::Text),
    optional("certs_path", Kind::Any),
    optional("http_proxy_url", Kind::Text),
    optional("https_proxy_url", Kind::Text),
    optional("no_proxy", Kind::Text),
    field("active_containers", Kind::Number),
    field("active_volumes", Kind::Number),
    field("active_tasks", Kind::Number),
    field("resource_types", Kind::List(WORKER_RESOURCE_TYPE)),
    field("platform", Kind::Text),
    field("tags", Kind::Tags),
    field("team", Kind::Text),
    field("name", Kind::Text),
    field("version", Kind::Text),
    field("start_time", Kind::Number),
    field("ephemeral", Kind::Flag),
    field("state", Kind::Text),
];

static WORKER_RESOURCE_TYPE: &[Field] = &[
    field("type", Kind::Text),
    field("image", Kind::Text),
    field("version", Kind::Text),
    field("privileged", Kind::Flag),
    field("unique_version_history", Kind::Flag),
];

/// A container.
pub static CONTAINER: &[Field] = &[
    field("id", Kind::Text),
    field("worker_name", Kind::Text),
    optional("state", Kind::Text),
    optional("type", Kind::Text),
    optional("step_name", Kind::Text),
    optional("attempt", Kind::Text),
    optional("pipeline_id", Kind::Number),
    optional("job_id", Kind::Number),
    optional("build_id", Kind::Number),
    optional("resource_id", Kind::Number),
    optional("resource_type_id", Kind::Number),
    optional("pipeline_name", Kind::Text),
    optional("pipeline_instance_vars", Kind::Table),
    optional("job_name", Kind::Text),
    optional("build_name", Kind::Text),
    optional("resource_name", Kind::Text),
    optional("resource_type_name", Kind::Text),
    optional("user", Kind::Text),
    optional("working_directory", Kind::Text),
    optional("expires_in", Kind::Text),
];

/// A volume.
pub static VOLUME: &[Field] = &[
    field("id", Kind::Text),
    field("worker_name", Kind::Text),
    field("type", Kind::Text),
    field("container_handle", Kind::Text),
    field("path", Kind::Text),
    field("parent_handle", Kind::Text),
    field("resource_type", Kind::Record(&VOLUME_RESOURCE_TYPE)),
    field("base_resource_type", Kind::Record(VOLUME_BASE_RESOURCE_TYPE)),
    field("pipeline_id", Kind::Number),
    field("pipeline_name", Kind::Text),
    field("pipeline_instance_vars", Kind::Table),
    field("job_name", Kind::Text),
    field("step_name", Kind::Text),
];

static VOLUME_RESOURCE_TYPE: [Field; 3] = [
    field("resource_type", Kind::Record(&VOLUME_RESOURCE_TYPE)),
    field("base_resource_type", Kind::Record(VOLUME_BASE_RESOURCE_TYPE)),
    field("version", Kind::Table),
];

static VOLUME_BASE_RESOURCE_TYPE: &[Field] = &[field("name", Kind::Text), field("version", Kind::Text)];

/// A part of the server that works by itself.
pub static COMPONENT: &[Field] = &[
    field("name", Kind::Text),
    field("interval", Kind::Number),
    field("last_ran", Kind::Time),
    field("paused", Kind::Flag),
];

/// A pipeline.
pub static PIPELINE: &[Field] = &[
    field("id", Kind::Number),
    field("name", Kind::Text),
    optional("instance_vars", Kind::Table),
    field("paused", Kind::Flag),
    optional("paused_by", Kind::Text),
    optional("paused_at", Kind::Number),
    field("public", Kind::Flag),
    field("archived", Kind::Flag),
    optional("groups", Kind::List(GROUP)),
    field("team_name", Kind::Text),
    optional("display", Kind::Record(DISPLAY)),
    optional("user_data", Kind::Any),
    optional("parent_build_id", Kind::Number),
    optional("parent_job_id", Kind::Number),
    optional("last_updated", Kind::Number),
];

static GROUP: &[Field] = &[field("name", Kind::Text), optional("jobs", Kind::Tags), optional("resources", Kind::Tags)];

static DISPLAY: &[Field] = &[optional("background_image", Kind::Text), optional("background_filter", Kind::Text)];

/// A build.
pub static BUILD: &[Field] = &[
    field("id", Kind::Number),
    field("team_name", Kind::Text),
    field("name", Kind::Text),
    field("status", Kind::Text),
    field("api_url", Kind::Text),
    optional("comment", Kind::Text),
    optional("job_name", Kind::Text),
    optional("resource_name", Kind::Text),
    optional("pipeline_id", Kind::Number),
    optional("pipeline_name", Kind::Text),
    optional("pipeline_instance_vars", Kind::Table),
    optional("start_time", Kind::Number),
    optional("end_time", Kind::Number),
    optional("reap_time", Kind::Number),
    optional("rerun_number", Kind::Number),
    optional("rerun_of", Kind::Record(RERUN_OF)),
    optional("created_by", Kind::Any),
];

static RERUN_OF: &[Field] = &[optional("id", Kind::Number), optional("name", Kind::Text)];

/// A version of a resource.
pub static RESOURCE_VERSION: &[Field] = &[
    field("id", Kind::Number),
    optional("metadata", Kind::List(METADATA)),
    field("version", Kind::Table),
    field("enabled", Kind::Flag),
];

static METADATA: &[Field] = &[field("name", Kind::Text), field("value", Kind::Text)];

/// A resource.
pub static RESOURCE: &[Field] = &[
    field("name", Kind::Text),
    field("pipeline_id", Kind::Number),
    field("pipeline_name", Kind::Text),
    optional("pipeline_instance_vars", Kind::Table),
    field("team_name", Kind::Text),
    field("type", Kind::Text),
    optional("last_checked", Kind::Number),
    optional("icon", Kind::Text),
    optional("pinned_version", Kind::Table),
    optional("pinned_in_config", Kind::Flag),
    optional("pin_comment", Kind::Text),
    optional("build", Kind::Record(BUILD_SUMMARY)),
];

static BUILD_SUMMARY: &[Field] = &[
    field("id", Kind::Number),
    field("name", Kind::Text),
    field("status", Kind::Text),
    optional("start_time", Kind::Number),
    optional("end_time", Kind::Number),
    field("team_name", Kind::Text),
    field("pipeline_id", Kind::Number),
    field("pipeline_name", Kind::Text),
    optional("pipeline_instance_vars", Kind::Table),
    optional("job_name", Kind::Text),
    optional("plan", Kind::Raw),
];

impl Fly {
    /// Prints an answer, or a list of them, with the fields of its type.
    pub(super) fn json_of(&self, fields: &[Field], answer: &Value) -> Outcome {
        self.json(&shape(fields, answer))
    }
}

fn shape(fields: &[Field], value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| record(fields, item)).collect(),
        Value::Null => Value::Null,
        value => record(fields, value),
    }
}

fn record(fields: &[Field], value: &Value) -> Value {
    let filled = fields.iter().map(|f| (f, f.kind.of(&value[f.name])));
    let shown = filled.filter(|(f, value)| !f.optional || !f.kind.is_empty(value));
    shown.map(|(f, value)| (f.name.to_owned(), value)).collect::<Map<_, _>>().into()
}

impl Kind {
    fn of(&self, value: &Value) -> Value {
        match (self, value) {
            (Kind::Text, _) => value.as_str().unwrap_or_default().into(),
            (Kind::Number, Value::Number(_)) | (Kind::Flag, Value::Bool(_)) | (Kind::Time, Value::String(_)) => {
                value.clone()
            }
            (Kind::Number, _) => 0.into(),
            (Kind::Flag, _) => false.into(),
            (Kind::Time, _) => "0001-01-01T00:00:00Z".into(),
            (Kind::Table | Kind::Any, _) => sorted(value),
            (Kind::Raw, _) => value.clone(),
            (Kind::Tags, Value::Array(tags)) => tags.iter().filter(|t| *t != "").cloned().collect(),
            (Kind::List(fields), Value::Array(items)) => items.iter().map(|item| record(fields, item)).collect(),
            (Kind::Record(fields), Value::Object(_)) => record(fields, value),
            (Kind::Tags | Kind::List(_) | Kind::Record(_), _) => Value::Null,
        }
    }

    /// What Go's `omitempty` leaves out.
    fn is_empty(&self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null) => true,
            (Kind::Text, value) => value == "",
            (Kind::Number, value) => value == 0,
            (Kind::Flag, value) => value == false,
            (Kind::Table, Value::Object(map)) => map.is_empty(),
            (Kind::List(_) | Kind::Tags, Value::Array(items)) => items.is_empty(),
            _ => false,
        }
    }
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(sorted).collect(),
        Value::Object(map) => {
            let mut map: Vec<_> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            map.sort_by(|(a, _), (b, _)| a.cmp(b));
            map.into_iter().collect::<Map<_, _>>().into()
        }
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_type_prints_its_own_fields_in_order() {
        let answer = json!({
            "teams": {"b": ["owner"], "a": []}, "groups": ["x"], "groups_read_at": 5, "sub": "s", "is_admin": true,
        });
        assert_eq!(
            shape(USER_INFO, &answer).to_string(),
            r#"{"sub":"s","name":"","user_id":"","user_name":"","email":"","is_admin":true,"is_system":false,"teams":{"a":[],"b":["owner"]},"connector":"","display_user_id":""}"#
        );
    }

    #[test]
    fn what_is_empty_is_left_out_where_go_does() {
        for (fields, answer, printed) in [
            (USER, json!([{"id": 0, "username": "ann", "sub": "", "email": "x"}]), json!([{"username": "ann"}])),
            (TEAM, json!([{"name": "t", "auth": {}}]), json!([{"name": "t"}])),
            (TEAM, json!(null), json!(null)),
            (GROUP, json!({"name": "g", "jobs": null}), json!({"name": "g"})),
            (PIPELINE, json!({"id": 1, "groups": [], "user_data": {}, "display": {}}), {
                json!({"id": 1, "name": "", "paused": false, "public": false, "archived": false, "team_name": "", "display": {}, "user_data": {}})
            }),
            (RESOURCE_VERSION, json!({"metadata": []}), json!({"id": 0, "version": null, "enabled": false})),
            (COMPONENT, json!({"name": "c"}), {
                json!({"name": "c", "interval": 0, "last_ran": "0001-01-01T00:00:00Z", "paused": false})
            }),
        ] {
            assert_eq!(shape(fields, &answer), printed);
        }
    }

    #[test]
    fn every_type_has_gos_field_names() {
        let names = |fields: &[Field]| {
            let all = fields.iter().map(|f| if f.optional { format!("{}?", f.name) } else { f.name.to_owned() });
            all.collect::<Vec<_>>().join(" ")
        };
        for (fields, expected) in [
            (USER, "id? username? connector? last_login? sub?"),
            (
                WORKER,
                "addr baggageclaim_url certs_path? http_proxy_url? https_proxy_url? no_proxy? active_containers active_volumes \
                 active_tasks resource_types platform tags team name version start_time ephemeral state",
            ),
            (
                CONTAINER,
                "id worker_name state? type? step_name? attempt? pipeline_id? job_id? build_id? resource_id? resource_type_id? \
                 pipeline_name? pipeline_instance_vars? job_name? build_name? resource_name? resource_type_name? user? \
                 working_directory? expires_in?",
            ),
            (
                VOLUME,
                "id worker_name type container_handle path parent_handle resource_type base_resource_type pipeline_id \
                 pipeline_name pipeline_instance_vars job_name step_name",
            ),
            (
                BUILD,
                "id team_name name status api_url comment? job_name? resource_name? pipeline_id? pipeline_name? \
                 pipeline_instance_vars? start_time? end_time? reap_time? rerun_number? rerun_of? created_by?",
            ),
            (
                RESOURCE,
                "name pipeline_id pipeline_name pipeline_instance_vars? team_name type last_checked? icon? pinned_version? \
                 pinned_in_config? pin_comment? build?",
            ),
        ] {
            assert_eq!(names(fields), expected);
        }
    }

    #[test]
    fn a_volume_of_a_custom_type_nests() {
        let kind = json!({"resource_type": {"base_resource_type": {"name": "git", "version": "1", "x": 1}}, "version": {"b": "1", "a": "2"}});
        assert_eq!(
            record(&VOLUME_RESOURCE_TYPE, &kind).to_string(),
            r#"{"resource_type":{"resource_type":null,"base_resource_type":{"name":"git","version":"1"},"version":null},"base_resource_type":null,"version":{"a":"2","b":"1"}}"#
        );
    }
}
