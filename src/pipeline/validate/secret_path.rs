//! The templates by which a source of variables makes paths, such as `/ci/{{.Team}}/{{.Secret}}`, as Go's
//! `text/template` judges them.

/// What one may name in a template.
const FIELDS: [&str; 3] = ["Team", "Pipeline", "Secret"];

const FUNCTIONS: [&str; 22] = [
    "and", "or", "not", "len", "index", "slice", "print", "printf", "println", "html", "js", "urlquery", "call", "eq",
    "ne", "lt", "le", "gt", "ge", "true", "false", "nil",
];

/// What is wrong with a template; none where it can be used.
pub(super) fn problem(name: &str, template: &str) -> Option<String> {
    let mut judged = Judged { name, template, open: 0, empty: true, field: None };
    if let Err(problem) = judged.actions() {
        return Some(problem);
    }
    if judged.open > 0 {
        return Some(judged.fails(template.len(), "unexpected EOF"));
    }
    match judged.empty {
        true => Some("secret template should not be empty".to_owned()),
        false => judged.field,
    }
}

struct Judged<'t> {
    name: &'t str,
    template: &'t str,
    /// How many `if`, `with` and `range` have not ended.
    open: usize,
    empty: bool,
    /// The first field that is not there, which only shows when the template is used.
    field: Option<String>,
}

impl Judged<'_> {
    fn fails(&self, at: usize, why: &str) -> String {
        let line = self.template[..at].matches('\n').count() + 1;
        format!("template: {}:{line}: {why}", self.name)
    }

    fn actions(&mut self) -> Result<(), String> {
        let mut at = 0;
        while let Some(start) = self.template[at..].find("{{").map(|found| at + found) {
            self.empty &= self.template[at..start].trim().is_empty();
            let inner = start + 2;
            let Some(end) = end_of_action(&self.template[inner..]).map(|length| inner + length) else {
                return Err(self.fails(start, "unclosed action"));
            };
            self.action(inner, end)?;
            at = end + 2;
        }
        self.empty &= self.template[at..].trim().is_empty();
        Ok(())
    }

    fn action(&mut self, start: usize, end: usize) -> Result<(), String> {
        let text = self.template[start..end].trim_start_matches("- ").trim_end_matches(" -");
        if text.starts_with("/*") {
            return Ok(());
        }
        self.empty = false;
        let words = words(text);
        let offset = end - self.template[start..end].trim_start_matches("- ").len();
        match words.first().map(|(_, word)| *word) {
            None => return Err(self.fails(start, "missing value for command")),
            Some(word @ ("if" | "with" | "range")) => {
                if words.len() == 1 {
                    return Err(self.fails(start, &format!("missing value for {word}")));
                }
                self.open += 1;
            }
            Some("end") if self.open == 0 => return Err(self.fails(start, "unexpected {{end}}")),
            Some("else") if self.open == 0 => return Err(self.fails(start, "unexpected {{else}}")),
            Some("end") => self.open -= 1,
            _ => {}
        }
        let keyword = matches!(words[0].1, "if" | "with" | "range" | "end" | "else" | "break" | "continue");
        for (at, word) in words.into_iter().skip(usize::from(keyword)) {
            self.word(offset + at, word)?;
        }
        Ok(())
    }

    fn word(&mut self, at: usize, word: &str) -> Result<(), String> {
        if let Some(path) = word.strip_prefix('.').filter(|path| !path.is_empty()) {
            self.path(at, word, path);
        } else if word.starts_with(|c: char| c.is_alphabetic() || c == '_') && !FUNCTIONS.contains(&word) {
            return Err(self.fails(at, &format!("function \"{word}\" not defined")));
        }
        Ok(())
    }

    fn path(&mut self, at: usize, word: &str, path: &str) {
        let (first, second) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (field, kind, at) = match second {
            _ if !FIELDS.contains(&first) => (first, "*struct { Team string; Pipeline string; Secret string }", at),
            Some(rest) => (rest.split('.').next().unwrap_or_default(), "string", at + 1 + first.len()),
            None => return,
        };
        let (name, line) = (self.name, self.template[..at].matches('\n').count() + 1);
        let column = at - self.template[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let told = format!(
            "template: {name}:{line}:{column}: executing \"{name}\" at <{word}>: can't evaluate field {field} in type {kind}"
        );
        self.field.get_or_insert(told);
    }
}

/// How long an action is, up to its closing braces, which do not count within quotes.
fn end_of_action(text: &str) -> Option<usize> {
    if let Some(comment) = text.trim_start_matches("- ").strip_prefix("/*") {
        let end = text.len() - comment.len() + comment.find("*/")? + 2;
        return text[end..].find("}}").map(|more| end + more);
    }
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) => {
                quote = if c == open && !escaped { None } else { quote };
                escaped = c == '\\' && !escaped && open == '"';
            }
            None if text[at..].starts_with("}}") => return Some(at),
            None => quote = matches!(c, '"' | '`' | '\'').then_some(c),
        }
    }
    None
}

/// The words of an action and where they stand; texts in quotes, numbers and signs mean nothing here.
fn words(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        if let Some(open) = quote {
            quote = if c == open { None } else { quote };
            continue;
        }
        let part = c.is_alphanumeric() || matches!(c, '_' | '.' | '$');
        match (start, part) {
            (None, true) => start = Some(at),
            (Some(begun), false) => {
                words.push((begun, &text[begun..at]));
                start = None;
            }
            _ => {}
        }
        if matches!(c, '"' | '`' | '\'') {
            words.push((at, "\"\""));
            quote = Some(c);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_judged_as_go_judges_them() {
        for template in
            ["/a/{{.Team}}/{{ .Pipeline }}/{{.Secret}}", "{{- .Secret -}}", "a", "{{\"}}\"}}", "{{len .Team}}"]
        {
            assert_eq!(problem("t", template), None, "{template}");
        }
        let kind = "*struct { Team string; Pipeline string; Secret string }";
        for (template, want) in [
            ("", "secret template should not be empty".to_owned()),
            (" {{/* x */}}", "secret template should not be empty".to_owned()),
            ("/x/{{.Secret", "template: t:1: unclosed action".to_owned()),
            ("{{foo}}", "template: t:1: function \"foo\" not defined".to_owned()),
            ("{{if}}", "template: t:1: missing value for if".to_owned()),
            ("{{if .Team}}", "template: t:1: unexpected EOF".to_owned()),
            ("{{end}}", "template: t:1: unexpected {{end}}".to_owned()),
            ("{{}}", "template: t:1: missing value for command".to_owned()),
            ("a{{.X}}", format!("template: t:1:3: executing \"t\" at <.X>: can't evaluate field X in type {kind}")),
            (
                "{{.Team.X}}",
                "template: t:1:7: executing \"t\" at <.Team.X>: can't evaluate field X in type string".to_owned(),
            ),
        ] {
            assert_eq!(problem("t", template), Some(want), "{template}");
        }
    }
}
