//! Reads the words of a command line one after another, as fly does: which flag takes the next word, what letters behind
//! one dash mean, where a flag of every command may stand. What comes out says the same so that nothing can be read in two
//! ways: each flag by its long name, with its value behind a sign of equality.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command};

/// How the reading ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// With the last word.
    All,
    /// Help is asked for, of the command that was named until then.
    Help(Option<String>),
    /// The version is asked for.
    Version,
    /// A mistake, in fly's words.
    Wrong(String),
}

/// What was read until the end.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The words; flags first, then what stands alone.
    pub plain: Vec<OsString>,
    /// The command, if there is one.
    pub command: Option<String>,
    /// Why nothing more was read.
    pub end: End,
}

/// Reads `args`, without the program's name.
pub fn read(root: &Command, args: &[OsString]) -> Words {
    let mut reader = Reader { root, command: None, rest: args.iter(), flags: Vec::new(), alone: Vec::new() };
    let end = reader.run().err().unwrap_or(End::All);
    let Reader { command, flags, alone, .. } = reader;
    let end = match (end, command, alone.first()) {
        // Nothing but a command may stand alone before one.
        (End::All, None, Some(word)) => End::Wrong(super::unknown_command(root, &word.to_string_lossy())),
        (end, ..) => end,
    };
    let alone = std::iter::once("--".into()).chain(alone);
    let command = command.map(|c| c.get_name().to_owned());
    Words { plain: flags.into_iter().chain(alone).collect(), command, end }
}

struct Reader<'a> {
    root: &'a Command,
    command: Option<&'a Command>,
    rest: std::slice::Iter<'a, OsString>,
    flags: Vec<OsString>,
    alone: Vec<OsString>,
}

/// A flag as it was found.
enum Found<'a> {
    Help,
    Version,
    Arg(&'a Arg),
}

impl<'a> Reader<'a> {
    fn run(&mut self) -> Result<(), End> {
        while let Some(word) = self.rest.next() {
            let bytes = word.as_bytes();
            if bytes == b"--" {
                self.alone.extend(self.rest.by_ref().cloned());
            } else if !is_flag(bytes) {
                self.alone(word)?;
            } else if let Some(name) = bytes.strip_prefix(b"--") {
                self.long(name)?;
            } else {
                self.short(&bytes[1..])?;
            }
        }
        Ok(())
    }

    /// The command, or a word of it.
    fn alone(&mut self, word: &OsStr) -> Result<(), End> {
        if self.command.is_some() {
            self.alone.push(word.to_owned());
            return Ok(());
        }
        let name = word.to_string_lossy();
        match self.root.find_subcommand(word) {
            Some(command) => {
                self.command = Some(command);
                self.flags.push(command.get_name().into());
                Ok(())
            }
            None => Err(End::Wrong(super::unknown_command(self.root, &name))),
        }
    }

    fn long(&mut self, word: &[u8]) -> Result<(), End> {
        let (name, value) = match word.iter().position(|b| *b == b'=') {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        let name = String::from_utf8_lossy(name);
        let found = self.find(|arg| arg.get_long() == Some(&name), name == "help");
        self.flag(found.ok_or_else(|| unknown(&name))?, value, true)
    }

    /// Letters behind one dash: flags without values, and one last one that may take the next word; only the first may have
    /// its value behind it.
    fn short(&mut self, word: &[u8]) -> Result<(), End> {
        let text = String::from_utf8_lossy(word);
        let letters: Vec<char> = text.chars().collect();
        let found = |reader: &Self, letter: char| {
            reader
                .find(|arg| arg.get_short() == Some(letter), letter == 'h')
                .ok_or_else(|| unknown(&letter.to_string()))
        };
        let first = letters[0];
        if word.get(1) == Some(&b'=') {
            return self.flag(found(self, first)?, Some(&word[2..]), true);
        }
        if letters.len() > 1 && matches!(found(self, first), Ok(Found::Arg(arg)) if takes_value(arg)) {
            return self.flag(found(self, first)?, Some(&word[first.len_utf8()..]), false);
        }
        for (at, letter) in letters.iter().enumerate() {
            self.flag(found(self, *letter)?, None, at + 1 == letters.len())?;
        }
        Ok(())
    }

    /// The command's flag or, where it has none of that name, one of every command.
    fn find(&self, is_meant: impl Fn(&Arg) -> bool, is_help: bool) -> Option<Found<'a>> {
        if is_help {
            return Some(Found::Help);
        }
        if let Some(arg) = self.command.and_then(|command| command.get_arguments().find(|arg| is_meant(arg))) {
            return Some(Found::Arg(arg));
        }
        let arg = self.root.get_arguments().find(|arg| is_meant(arg))?;
        Some(if arg.get_long() == Some("version") { Found::Version } else { Found::Arg(arg) })
    }

    fn flag(&mut self, found: Found<'a>, value: Option<&[u8]>, may_take: bool) -> Result<(), End> {
        let arg = match found {
            Found::Arg(arg) if takes_value(arg) => arg,
            found if value.is_some() => {
                return Err(End::Wrong(format!("bool flag `{}' cannot have an argument", found.name())));
            }
            Found::Help => return Err(End::Help(self.command.map(|c| c.get_name().to_owned()))),
            Found::Version => return Err(End::Version),
            Found::Arg(arg) => {
                self.flags.push(format!("--{}", arg.get_long().unwrap_or_default()).into());
                return Ok(());
            }
        };
        let value = match value {
            Some(value) => value,
            None => self.next_for(arg, may_take)?,
        };
        let value = match unquotes(arg) {
            true => unquoted(value).ok_or_else(|| super::invalid(arg, "invalid syntax")).map_err(End::Wrong)?,
            false => value.to_owned(),
        };
        let mut word = format!("--{}=", arg.get_long().unwrap_or_default()).into_bytes();
        word.extend(value);
        self.flags.push(OsString::from_vec(word));
        Ok(())
    }

    /// The next word as a flag's value.
    fn next_for(&mut self, arg: &Arg, may_take: bool) -> Result<&'a [u8], End> {
        let expected = |but: &str| End::Wrong(format!("expected argument for flag `{}'{but}", super::name(arg)));
        let next = if may_take { self.rest.next() } else { None };
        let next = next.ok_or_else(|| expected(""))?;
        let bytes = next.as_bytes();
        let is_number = super::is_number(arg) && bytes.get(1).is_some_and(u8::is_ascii_digit);
        if is_flag(bytes) && !is_number {
            return Err(expected(&format!(", but got option `{}'", next.to_string_lossy())));
        }
        if bytes == b"--" {
            return Err(expected(", but got double dash `--'"));
        }
        Ok(bytes)
    }
}

impl Found<'_> {
    fn name(&self) -> String {
        match self {
            Found::Help => "-h, --help".to_owned(),
            Found::Version => "-v, --version".to_owned(),
            Found::Arg(arg) => super::name(arg),
        }
    }
}

/// Whether a word is a flag: a dash alone is none, nor is what begins with three.
pub fn is_flag(word: &[u8]) -> bool {
    match word {
        [b'-', b'-', third, ..] => *third != b'-',
        [b'-', second, ..] => *second != b'-',
        _ => false,
    }
}

/// Whether a value follows.
pub fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

fn unknown(name: &str) -> End {
    End::Wrong(format!("unknown flag `{name}'"))
}

/// Whether quotes around its value are taken off: not where they are part of YAML.
fn unquotes(arg: &Arg) -> bool {
    !matches!(arg.get_long(), Some("var" | "yaml-var" | "instance-var"))
}

/// A value without the quotes around it, if it begins with one; `None` where that is no text of Go's.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(value.to_owned()) };
    let inner = std::str::from_utf8(rest).ok()?.strip_suffix('"')?;
    let mut text = Vec::new();
    let mut letters = inner.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\n' => return None,
            '\\' => text.extend(escaped(&mut letters)?),
            letter => text.extend(letter.to_string().bytes()),
        }
    }
    Some(text)
}

/// What stands behind a backslash.
fn escaped(letters: &mut std::str::Chars<'_>) -> Option<Vec<u8>> {
    let first = letters.next()?;
    let (base, digits) = match first {
        'a' => return Some(vec![7]),
        'b' => return Some(vec![8]),
        'f' => return Some(vec![12]),
        'n' => return Some(vec![b'\n']),
        'r' => return Some(vec![b'\r']),
        't' => return Some(vec![b'\t']),
        'v' => return Some(vec![11]),
        '\\' | '"' => return Some(first.to_string().into_bytes()),
        'x' => (16, 2),
        'u' => (16, 4),
        'U' => (16, 8),
        '0'..='7' => (8, 2),
        _ => return None,
    };
    let more: Vec<char> = letters.take(digits).collect();
    let begun = first.to_digit(8).filter(|_| base == 8).unwrap_or(0);
    let digit = |code: u32, c: &char| Some(code.checked_mul(base)? + c.to_digit(base)?);
    let code = more.iter().try_fold(begun, digit).filter(|_| more.len() == digits)?;
    match first {
        'u' | 'U' => Some(char::from_u32(code)?.to_string().into_bytes()),
        _ => Some(vec![u8::try_from(code).ok()?]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &[&str]) -> (String, End) {
        let args: Vec<OsString> = line.iter().map(OsString::from).collect();
        let Words { plain, end, .. } = read(&super::super::command(), &args);
        let plain: Vec<String> = plain.iter().map(|w| w.to_string_lossy().into_owned()).collect();
        (plain.join(" "), end)
    }

    #[test]
    fn each_flag_takes_what_is_its_own() {
        for (line, plain) in [
            (&["-t", "ci", "bs", "-c2"][..], "--target=ci builds --count=2 --"),
            (&["bs", "-ac", "2", "-tci"], "builds --all-teams --count=2 --target=ci --"),
            (&["bs", "-c", "-2"], "builds --count=-2 --"),
            (&["sw", "-m=a=b", "--ttl", "-1h"], "set-wall --message=a=b --ttl=-1h --"),
            (&["w", "-t", "-t", "x"], "watch --timestamps --timestamps -- x"),
            (&["i", "-j", "a/b", "bash", "--", "-c", "x"], "hijack --job=a/b -- bash -c x"),
            (&["ps", "a", "--", "-h"], "pipelines -- a -h"),
            (&["sp", "-p", r#""a\tb""#, "-v", r#"x="y""#], "set-pipeline --pipeline=a\tb --var=x=\"y\" --"),
            (&["js", "-p", r#""\x41\u00e9\101\"""#], "jobs --pipeline=A\u{e9}A\" --"),
        ] {
            assert_eq!(words(line), (plain.to_owned(), End::All), "{line:?}");
        }
    }

    #[test]
    fn reading_ends_where_flys_ends() {
        let wrong = |text: &str| End::Wrong(text.to_owned());
        for (line, end) in [
            (&["ps", "-h", "--zz"][..], End::Help(Some("pipelines".into()))),
            (&["-h", "zz"], End::Help(None)),
            (&["ps", "-av"], End::Version),
            (&["sp", "-v", "a=b", "--version"], End::Version),
            (&["ps", "--zz", "-h"], wrong("unknown flag `zz'")),
            (&["ps", "-aZ"], wrong("unknown flag `Z'")),
            (&["-j", "a/b", "w"], wrong("unknown flag `j'")),
            (&["bs", "-ac2"], wrong("expected argument for flag `-c, --count'")),
            (&["js", "-p"], wrong("expected argument for flag `-p, --pipeline'")),
            (&["js", "-p", "--json"], wrong("expected argument for flag `-p, --pipeline', but got option `--json'")),
            (&["js", "-p", "--"], wrong("expected argument for flag `-p, --pipeline', but got double dash `--'")),
            (&["js", "-h=x"], wrong("bool flag `-h, --help' cannot have an argument")),
            (&["js", "--json=true"], wrong("bool flag `--json' cannot have an argument")),
            (&["--", "pipelines"], wrong("Unknown command `pipelines', did you mean `pipelines'?")),
            (
                &["js", "-p", "\"a"],
                wrong("invalid argument for flag `-p, --pipeline' (expected flaghelpers.PipelineFlag): invalid syntax"),
            ),
        ] {
            assert_eq!(words(line).1, end, "{line:?}");
        }
    }
}
