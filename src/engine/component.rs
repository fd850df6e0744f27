//! The passes under the names that Concourse gives to who does their work, so that an administrator can pause them.

/// The name of a pass as the API shows it.
pub fn of_pass(pass: &'static str) -> &'static str {
    match pass {
        "schedule" => "scheduler",
        "track" => "tracker",
        "check" => "scanner",
        "gc" => "collector",
        "retention" => "reaper",
        "rotate" => "signing_key_lifecycler",
        other => other,
    }
}

/// The component that a name means: one collector does the work of all of Concourse's, and the reaper pauses what
/// nobody uses.
pub fn named(name: &str) -> &str {
    match name {
        "pipeline_pauser" => "reaper",
        _ if name.starts_with("collector_") => "collector",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concourse_s_collectors_are_one() {
        assert_eq!(named("collector_volumes"), of_pass("gc"));
        assert_eq!(named("scheduler"), of_pass("schedule"));
    }
}
