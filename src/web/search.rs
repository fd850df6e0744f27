//! The grammar of the dashboard's search: `word`, `"exact"`, `team:`, `status:`, `group:`, each with `-` before it.
//! All terms must hold.

use super::status::Status;

/// What a term looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Subject {
    /// Characters of the pipeline's or team's name, in order.
    Word(String),
    /// The whole name.
    Exact(String),
    Team(String),
    State(String),
    /// An instance group by the name its pipelines share.
    Group(String),
}

/// A search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Search {
    terms: Vec<(bool, Subject)>,
}

/// What a search sees of a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct Subjected<'a> {
    /// Team.
    pub team: &'a str,
    /// Name.
    pub name: &'a str,
    /// Instance variables in words.
    pub vars: &'a str,
    /// Status over its jobs.
    pub status: Status,
    /// Any build runs.
    pub running: bool,
    /// Any build waits.
    pub pending: bool,
    /// Paused.
    pub paused: bool,
}

impl Search {
    /// Reads what was typed; nothing is an error.
    pub fn parse(text: &str) -> Search {
        let terms = words(text).into_iter().filter_map(|word| {
            let (not, word) = match word.strip_prefix('-') {
                Some(rest) if !rest.is_empty() => (true, rest.to_owned()),
                _ => (false, word),
            };
            subject(&word).map(|s| (not, s))
        });
        Search { terms: terms.collect() }
    }

    /// Whether everything matches.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a pipeline belongs to the result.
    pub fn matches(&self, p: &Subjected<'_>) -> bool {
        self.terms.iter().all(|(not, subject)| subject.matches(p) != *not)
    }
}

/// Splits at white space outside of quotes.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            c if c.is_whitespace() && !quoted => {
                all.push(std::mem::take(&mut word));
            }
            c => {
                quoted ^= c == '"';
                word.push(c);
            }
        }
    }
    all.push(word);
    all.retain(|w| !w.is_empty());
    all
}

fn subject(word: &str) -> Option<Subject> {
    let bare = |s: &str| s.trim_matches('"').to_lowercase();
    let made = match word.split_once(':') {
        Some(("team", v)) => Subject::Team(bare(v)),
        Some(("status", v)) => Subject::State(bare(v)),
        Some(("group", v)) => Subject::Group(bare(v)),
        _ if word.starts_with('"') => Subject::Exact(bare(word)),
        _ => Subject::Word(bare(word)),
    };
    let empty = matches!(&made, Subject::Word(v) | Subject::Exact(v) | Subject::Team(v) | Subject::State(v)
        | Subject::Group(v) if v.is_empty());
    (!empty).then_some(made)
}

impl Subject {
    fn matches(&self, p: &Subjected<'_>) -> bool {
        let (team, name) = (p.team.to_lowercase(), p.name.to_lowercase());
        match self {
            Subject::Word(w) => in_order(w, &name) || in_order(w, &team) || p.vars.to_lowercase().contains(w.as_str()),
            Subject::Exact(w) => *w == name || *w == team,
            Subject::Team(w) => in_order(w, &team),
            Subject::Group(w) => !p.vars.is_empty() && in_order(w, &name),
            Subject::State(w) => match w.as_str() {
                "paused" => p.paused,
                "running" => p.running && !p.paused,
                "pending" => !p.paused && (p.pending || p.status == Status::None),
                word => !p.paused && p.status == Status::parse(word) && p.status != Status::None,
            },
        }
    }
}

/// Whether the characters of `needle` come in this order in `hay`, gaps allowed.
fn in_order(needle: &str, hay: &str) -> bool {
    let mut hay = hay.chars();
    needle.chars().all(|c| hay.any(|h| h == c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_narrow_down() {
        let p = Subjected {
            team: "main",
            name: "Deploy-App",
            vars: "branch: x",
            status: Status::Failed,
            running: true,
            pending: false,
            paused: false,
        };
        for (search, expected) in [
            ("", true),
            ("dapp", true),
            ("appd", false),
            ("\"deploy-app\"", true),
            ("\"deploy\"", false),
            ("-dapp", false),
            ("team:main", true),
            ("-team:main", false),
            ("team:other deploy", false),
            ("status:failed", true),
            ("status:running -status:paused", true),
            ("status:succeeded", false),
            ("group:deploy", true),
            ("branch", true),
            ("team:", true),
            ("-", true),
        ] {
            assert_eq!(Search::parse(search).matches(&p), expected, "{search}");
        }
    }
}
