//! The four roles a person can have on a team.

use serde::{Deserialize, Serialize};

/// What somebody may do on a team; each role may do all that the one before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Triggers, pauses and pins.
    PipelineOperator,
    /// Sets pipelines and enters containers.
    Member,
    /// Sets the team itself.
    Owner,
}

impl Role {
    /// All of them, the weakest first.
    pub const ALL: [Role; 4] = [Role::Viewer, Role::PipelineOperator, Role::Member, Role::Owner];

    /// Concourse's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::PipelineOperator => "pipeline-operator",
            Role::Member => "member",
            Role::Owner => "owner",
        }
    }

    /// The role of that name.
    pub fn from_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|r| r.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back_in_the_order_of_power() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
            assert_eq!(serde_json::to_string(&role).unwrap(), format!("{:?}", role.name()));
        }
        assert!(Role::ALL.is_sorted());
        assert_eq!(Role::from_name("admin"), None);
    }
}
