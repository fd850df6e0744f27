//! Where a variable's value may stand: path templates as Concourse's, `/concourse/{{.Team}}/{{.Pipeline}}/{{.Secret}}`.

use std::fmt;
use std::str::FromStr;

use super::name::{Name, NameError};

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Nothing there.
    #[error("a path template must not be empty")]
    Empty,
    /// `{{` without `}}`.
    #[error("path template {0:?}: a `{{{{` is not closed")]
    Unclosed(String),
    /// Something else than the three.
    #[error(
        "path template {template:?} has {{{{{field}}}}}; there are {{{{.Team}}}}, {{{{.Pipeline}}}} and {{{{.Secret}}}}"
    )]
    Unknown {
        /// The template.
        template: String,
        /// What is in it.
        field: String,
    },
    /// Every name would be at the same path.
    #[error("path template {0:?} must contain {{{{.Secret}}}}")]
    NoSecret(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Team,
    Pipeline,
    Secret,
}

/// A path with places for team, pipeline and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

/// Who looks for a variable, by names that are safe in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its team.
    pub team: Name,
    /// Its pipeline, if it has one.
    pub pipeline: Option<Name>,
}

impl Place {
    /// Takes the names of a team and a pipeline.
    pub fn new(team: &str, pipeline: Option<&str>) -> Result<Place, NameError> {
        let pipeline = pipeline.map(|p| Name::of_part("the pipeline", p)).transpose()?;
        Ok(Place { team: Name::of_part("the team", team)?, pipeline })
    }
}

impl Template {
    /// Whether it names the pipeline, and so is of no use outside of one.
    pub fn needs_pipeline(&self) -> bool {
        self.pieces.contains(&Piece::Pipeline)
    }

    /// Whether it has the team's name in it.
    pub fn names_team(&self) -> bool {
        self.pieces.contains(&Piece::Team)
    }

    /// Whether no two teams can have a path in common: a name must end where the next part of the path begins, else
    /// `a-b` of team `x` is `b` of team `x-a`.
    pub fn keeps_teams_apart(&self) -> bool {
        let team = self.pieces.iter().position(|p| *p == Piece::Team);
        let next = team.and_then(|at| self.pieces.get(at + 1));
        matches!(next, Some(Piece::Text(text)) if text.starts_with('/'))
    }

    /// The path of a variable; none outside of a pipeline where the template needs one.
    pub fn path(&self, place: &Place, name: &Name) -> Option<String> {
        self.filled(place, name.as_str())
    }

    /// The part of the path before the variable's name.
    pub fn prefix(&self, place: &Place) -> Option<String> {
        let whole = self.filled(place, "\0")?;
        Some(whole.split('\0').next().unwrap_or_default().to_owned())
    }

    fn filled(&self, place: &Place, name: &str) -> Option<String> {
        let mut path = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Team => path.push_str(place.team.as_str()),
                Piece::Pipeline => path.push_str(place.pipeline.as_ref()?.as_str()),
                Piece::Secret => path.push_str(name),
            }
        }
        Some(path)
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Template, TemplateError> {
        if text.trim().is_empty() {
            return Err(TemplateError::Empty);
        }
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (field, after) = after.split_once("}}").ok_or_else(|| TemplateError::Unclosed(text.to_owned()))?;
            // `{{-` and `-}}` take the white space around them away, as in Go.
            let before = if field.starts_with("- ") { before.trim_end() } else { before };
            rest = if field.ends_with(" -") { after.trim_start() } else { after };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            let inner = field.strip_prefix("- ").unwrap_or(field);
            pieces.push(match inner.strip_suffix(" -").unwrap_or(inner).trim() {
                ".Team" => Piece::Team,
                ".Pipeline" => Piece::Pipeline,
                ".Secret" => Piece::Secret,
                _ => return Err(TemplateError::Unknown { template: text.to_owned(), field: field.to_owned() }),
            });
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if !pieces.contains(&Piece::Secret) {
            return Err(TemplateError::NoSecret(text.to_owned()));
        }
        Ok(Template { text: text.to_owned(), pieces })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(template: &str, pipeline: Option<&str>, name: &str) -> Option<String> {
        let template: Template = template.parse().unwrap();
        template.path(&Place::new("t", pipeline).unwrap(), &Name::of_variable(name).unwrap())
    }

    #[test]
    fn a_template_is_filled_in() {
        let text = "/prod/concourse/pipelines/{{.Team}}/{{ .Pipeline }}/{{.Secret}}";
        assert_eq!(path(text, Some("p"), "a/b").as_deref(), Some("/prod/concourse/pipelines/t/p/a/b"));
        assert_eq!(path(text, None, "a"), None);
        assert_eq!(path("/x/{{- .Team -}} /{{.Secret}}/v", None, "a").as_deref(), Some("/x/t/a/v"));
        let template: Template = text.parse().unwrap();
        assert_eq!(
            template.prefix(&Place::new("t", Some("p")).unwrap()).as_deref(),
            Some("/prod/concourse/pipelines/t/p/")
        );
    }

    #[test]
    fn teams_are_kept_apart_by_a_slash() {
        for (text, expected) in [
            ("/c/{{.Team}}/{{.Pipeline}}/{{.Secret}}", true),
            ("/c/ci-{{.Team}}/{{.Secret}}", true),
            ("/c/{{.Team}}-{{.Secret}}", false),
            ("/c/{{.Team}}{{.Secret}}", false),
            ("/c/{{.Secret}}/{{.Team}}", false),
            ("/c/{{.Secret}}", false),
        ] {
            assert_eq!(text.parse::<Template>().unwrap().keeps_teams_apart(), expected, "{text}");
        }
    }

    #[test]
    fn a_bad_template_is_told() {
        for (text, told) in [
            ("", "must not be empty"),
            ("/{{.Team", "is not closed"),
            ("/{{.Teem}}/{{.Secret}}", "has {{.Teem}}"),
            ("/{{.Team}}", "must contain {{.Secret}}"),
        ] {
            let error = text.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    /// What a file system, a URL or a careless server would make of a path.
    fn resolved(path: &str) -> String {
        let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/");
        let decoded = decoded.split('\0').next().unwrap_or_default().replace('\\', "/");
        let mut parts: Vec<&str> = Vec::new();
        for part in decoded.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    proptest! {
        #[test]
        fn a_look_up_never_leaves_the_team_s_prefix(
            name in r"([a-z./%\\{}\x00]|%2e|%2f|\.\./|\{\{\.Team\}\}|other|．){1,12}",
            team in r"([a-z.]|\.\./|/|%2e){1,5}",
            pipeline in proptest::option::of(r"([a-z.]|\.\./|/|%2f){1,5}"),
        ) {
            let Ok(place) = Place::new(&team, pipeline.as_deref()) else { return Ok(()) };
            let Ok(name) = Name::of_variable(&name) else { return Ok(()) };
            for text in ["/c/{{.Team}}/{{.Pipeline}}/{{.Secret}}", "/c/{{.Team}}/{{.Secret}}", "/d/c/{{.Team}}/x-{{.Secret}}"] {
                let template: Template = text.parse().unwrap();
                if let Some(path) = template.path(&place, &name) {
                    let prefix = format!("{}{team}/", text.split("{{").next().unwrap());
                    prop_assert!(path.starts_with(&prefix) && resolved(&path).starts_with(&prefix), "{path}");
                }
            }
        }
    }
}
