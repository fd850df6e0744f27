//! Where the client writes: what is a terminal, which words get colour, and how JSON is printed.
//!
//! Colours follow fly: words in tables are coloured when stdout is a terminal, everything else (even on stderr) too.

use std::io::{self, IsTerminal, Write};

/// A look a word can have on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Headers and what the reader should copy.
    Bold,
    /// A value that is not there.
    Faint,
    /// A build that waits.
    White,
    /// A build that runs.
    Yellow,
    /// A build that went well.
    Green,
    /// A build that failed, and warnings.
    Red,
    /// A build that errored.
    BoldRed,
    /// A build that was aborted.
    Magenta,
    /// Something switched on.
    Cyan,
    /// What must not be missed.
    Alarm,
}

impl Style {
    /// The codes that switch it on and off.
    fn codes(self) -> (&'static str, &'static str) {
        match self {
            Style::Bold => ("1", "22"),
            Style::Faint => ("2", "22"),
            Style::White => ("37", "0"),
            Style::Yellow => ("33", "0"),
            Style::Green => ("32", "0"),
            Style::Red => ("31", "0"),
            Style::BoldRed => ("31;1", "0;22"),
            Style::Magenta => ("35", "0"),
            Style::Cyan => ("36", "0"),
            Style::Alarm => ("5;37;41;1", "25;0;0;22"),
        }
    }

    /// `text` in this style.
    pub fn paint(self, text: &str) -> String {
        let (on, off) = self.codes();
        format!("\x1b[{on}m{text}\x1b[{off}m")
    }

    /// How fly shows the status of a build.
    pub fn of_status(status: &str) -> Style {
        match status {
            "pending" => Style::White,
            "started" => Style::Yellow,
            "succeeded" => Style::Green,
            "failed" => Style::Red,
            "errored" => Style::BoldRed,
            "aborted" => Style::Magenta,
            _ => Style::Alarm,
        }
    }
}

/// The two output streams and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    terminal: bool,
    colour: bool,
}

impl Console {
    /// Looks at this process's streams and environment.
    pub fn of_process() -> Self {
        let terminal = io::stdout().is_terminal();
        let dumb = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|t| t == "dumb");
        Console { terminal, colour: terminal && !dumb }
    }

    /// No terminal, no colours.
    #[cfg(test)]
    pub fn plain() -> Self {
        Console { terminal: false, colour: false }
    }

    /// Whether stdout is a terminal.
    pub fn is_terminal(self) -> bool {
        self.terminal
    }

    /// Whether somebody can answer a question: both stdin and stdout are terminals.
    pub fn is_interactive(self) -> bool {
        self.terminal && io::stdin().is_terminal()
    }

    /// `text` in `style` where colours are wanted.
    pub fn paint(self, style: Style, text: &str) -> String {
        if self.colour { style.paint(text) } else { text.to_owned() }
    }

    /// `text` in bold on a terminal.
    pub fn bold(self, text: &str) -> String {
        if self.terminal { Style::Bold.paint(text) } else { text.to_owned() }
    }

    /// Writes `text` to stdout as it is.
    pub fn print(self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_ref())?;
        out.flush()
    }

    /// Writes a line to stdout.
    pub fn say(self, line: impl AsRef<str>) -> io::Result<()> {
        self.print(format!("{}\n", line.as_ref()))
    }

    /// Writes a line to stderr.
    pub fn tell(self, line: impl AsRef<str>) -> io::Result<()> {
        let mut err = io::stderr().lock();
        writeln!(err, "{}", line.as_ref())
    }

    /// Prints `value` as Go's indented JSON.
    pub fn json(self, value: &serde_json::Value) -> io::Result<()> {
        self.say(go_json(value))
    }
}

/// Indented JSON as Go's encoder writes it: two spaces, and `<`, `>`, `&` escaped.
pub fn go_json(value: &serde_json::Value) -> String {
    escape_html(&format!("{value:#}"))
}

/// Escapes what Go's JSON encoder escapes. These characters only occur inside strings, so the text can be treated whole.
pub fn escape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => out.push_str("\\u003c"),
            '>' => out.push_str("\\u003e"),
            '&' => out.push_str("\\u0026"),
            '\u{2028}' => out.push_str("\\u2028"),
            '\u{2029}' => out.push_str("\\u2029"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_gos() {
        assert_eq!(
            go_json(&json!({"a": "<&>", "b": [], "c": {}})),
            "{\n  \"a\": \"\\u003c\\u0026\\u003e\",\n  \"b\": [],\n  \"c\": {}\n}"
        );
    }

    #[test]
    fn styles_close_what_they_open() {
        assert_eq!(Style::Bold.paint("x"), "\x1b[1mx\x1b[22m");
        assert_eq!(Style::of_status("errored").paint("x"), "\x1b[31;1mx\x1b[0;22m");
        assert_eq!(Style::of_status("?").paint("x"), "\x1b[5;37;41;1mx\x1b[25;0;0;22m");
    }
}
