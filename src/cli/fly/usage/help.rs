//! Prints help as fly does, whatever the width of the terminal.

use clap::{Arg, ArgAction, Command};

/// Before each flag.
const INDENT: usize = 2;
/// Before each flag of a command, more.
const INNER: usize = 4;

/// A flag as it is shown.
struct Flag {
    short: Option<char>,
    long: String,
    /// What follows the sign of equality; `None` where nothing does.
    value: Option<String>,
    /// Whether that is a name, and not a choice.
    is_named: bool,
    text: String,
    group: Option<String>,
}

impl Flag {
    fn of(arg: &Arg) -> Flag {
        let choices: Vec<String> = arg.get_possible_values().iter().map(|v| v.get_name().to_owned()).collect();
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let name = arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
        let is_named = takes && choices.is_empty() && !name.is_empty();
        let value = match choices.as_slice() {
            [] => name,
            choices => format!("[{}]", choices.join("|")),
        };
        let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(default) = arg.get_default_values().first().filter(|_| takes) {
            text.push_str(&format!(" (default: {})", default.to_string_lossy()));
        }
        Flag {
            short: arg.get_short(),
            long: arg.get_long().unwrap_or_default().to_owned(),
            value: takes.then_some(value),
            is_named,
            text,
            group: arg.get_help_heading().map(str::to_owned),
        }
    }

    fn width(&self) -> usize {
        self.long.len() + self.value.as_ref().map_or(0, String::len)
    }
}

/// A word without a flag.
struct Word {
    name: String,
    text: String,
    is_required: bool,
    is_last: bool,
}

impl Word {
    fn usage(&self) -> String {
        let name = format!("{}{}", self.name, if self.is_last { "..." } else { "" });
        if self.is_required { name } else { format!("[{name}]") }
    }
}

/// Where descriptions begin, and how long a line may be.
struct Layout {
    short: bool,
    start: usize,
    columns: usize,
}

impl Layout {
    fn new(flags: &[(&[Flag], usize)], words: &[Word], columns: usize) -> Layout {
        let all = || flags.iter().flat_map(|(flags, inner)| flags.iter().map(move |flag| (flag, inner)));
        let longest = all().map(|(flag, inner)| flag.width() + inner);
        let longest = longest.chain(words.iter().map(|word| word.name.len() + INNER)).max().unwrap_or(0);
        let short = all().any(|(flag, _)| flag.short.is_some());
        let start = longest
            + 2
            + if short { 2 } else { 0 }
            + if longest > 0 { 4 } else { 0 }
            + if all().any(|(flag, _)| flag.is_named) { 3 } else { 0 };
        Layout { short, start: start + INDENT, columns }
    }

    fn flag(&self, flag: &Flag, inner: usize) -> String {
        let mut line = " ".repeat(INDENT + inner);
        match flag.short {
            Some(short) => line.push_str(&format!("-{short}, ")),
            None if self.short => line.push_str("    "),
            None => {}
        }
        line.push_str(&format!("--{}", flag.long));
        if let Some(value) = &flag.value {
            line.push_str(&format!("={value}"));
        }
        if !flag.text.is_empty() {
            let width = self.columns.saturating_sub(self.start);
            line.push_str(&" ".repeat(self.start.saturating_sub(line.len())));
            line.push_str(&wrapped(&flag.text, width, &" ".repeat(self.start)));
        }
        line + "\n"
    }

    fn word(&self, word: &Word) -> String {
        let mut line = format!("{}{}:", " ".repeat(INDENT), word.name);
        line.push_str(&" ".repeat(self.start.saturating_sub(line.len())));
        line.push_str(&wrapped(&word.text, self.columns.saturating_sub(1 + self.start), &" ".repeat(self.start)));
        line + "\n"
    }
}

/// Help for a command, or for the whole client, which is called `program`.
pub fn text(program: &str, root: &Command, command: Option<&Command>, columns: usize) -> String {
    let (everywhere, help) = (flags(root), [of_help()]);
    let (own, words) = command.map(|command| (flags(command), words(command))).unwrap_or_default();
    let layout = Layout::new(&[(&everywhere, 0), (&help, 0), (&own, INNER)], &words, columns);
    let mut text = format!("Usage:\n  {program} [OPTIONS]{}\n", usage(command, &own, &words));
    let outer = |flags: &[Flag]| flags.iter().map(|flag| layout.flag(flag, 0)).collect::<String>();
    text.push_str(&format!("\nApplication Options:\n{}", outer(&everywhere)));
    text.push_str(&format!("\nHelp Options:\n{}", outer(&help)));
    let Some(command) = command else { return text + &commands(root) };
    if !own.is_empty() {
        text.push_str(&format!("\n[{} command options]\n", command.get_name()));
    }
    let mut group = None;
    for flag in &own {
        if group != flag.group.as_ref() {
            group = flag.group.as_ref();
            text.push_str(&group.map(|title| format!("\n    {title}:\n")).unwrap_or_default());
        }
        text.push_str(&layout.flag(flag, INNER));
    }
    if !words.is_empty() {
        let words: String = words.iter().map(|word| layout.word(word)).collect();
        text.push_str(&format!("\n[{} command arguments]\n{words}", command.get_name()));
    }
    text
}

fn usage(command: Option<&Command>, own: &[Flag], words: &[Word]) -> String {
    let Some(command) = command else { return " <command>".to_owned() };
    let name = command.get_name();
    let options = if own.is_empty() { String::new() } else { format!(" [{name}-OPTIONS]") };
    let words: String = words.iter().map(|word| format!(" {}", word.usage())).collect();
    format!(" {name}{options}{words}")
}

fn commands(root: &Command) -> String {
    let mut commands: Vec<&Command> = root.get_subcommands().filter(|c| !c.is_hide_set()).collect();
    commands.sort_by_key(|command| command.get_name());
    let width = commands.iter().map(|command| command.get_name().len()).max().unwrap_or(0);
    let lines = commands.into_iter().map(|command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let aliases: Vec<&str> = command.get_all_aliases().collect();
        let aliases = if aliases.is_empty() { String::new() } else { format!(" (aliases: {})", aliases.join(", ")) };
        format!("  {:width$}  {about}{aliases}\n", command.get_name())
    });
    format!("\nAvailable commands:\n{}", lines.collect::<String>())
}

/// Those that are shown: of a command that only we have, all.
fn shown(command: &Command) -> Vec<&Arg> {
    let mut args: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_hide_set()).collect();
    args.sort_by_key(|arg| arg.get_display_order());
    args
}

fn flags(command: &Command) -> Vec<Flag> {
    shown(command).into_iter().filter(|arg| arg.get_long().is_some()).map(Flag::of).collect()
}

fn words(command: &Command) -> Vec<Word> {
    let words = shown(command).into_iter().filter(|arg| arg.is_positional());
    let word = |arg: &Arg| Word {
        name: arg.get_value_names().and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default(),
        text: arg.get_help().map(ToString::to_string).unwrap_or_default(),
        is_required: arg.is_required_set(),
        is_last: matches!(arg.get_action(), ArgAction::Append),
    };
    words.map(word).collect()
}

fn of_help() -> Flag {
    let text = "Show this help message".to_owned();
    Flag { short: Some('h'), long: "help".to_owned(), value: None, is_named: false, text, group: None }
}

/// Lines of at most `width`, broken at spaces, each but the first with `margin` before it.
fn wrapped(text: &str, width: usize, margin: &str) -> String {
    let width = width.max(10);
    let mut lines = Vec::new();
    let mut rest = text.trim();
    while rest.len() > width {
        let (line, more) = match rest.get(..width).and_then(|begun| begun.rfind(' ')) {
            Some(space) => (rest[..space].trim().to_owned(), &rest[space..]),
            None => {
                let (line, more) = rest.split_at(rest.floor_char_boundary(width - 1).max(1));
                // An empty line follows, as in fly.
                (format!("{}-\n", line.trim()), more)
            }
        };
        lines.push(line);
        rest = more.trim();
    }
    if !rest.is_empty() {
        lines.push(rest.to_owned());
    }
    lines.join(&format!("\n{margin}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(command: &str, columns: usize) -> String {
        let root = super::super::command();
        text("fly", &root, root.find_subcommand(command), columns)
    }

    #[test]
    fn a_command_shows_its_flags_below_those_of_all() {
        assert_eq!(
            help("pipelines", 80),
            "\
Usage:
  fly [OPTIONS] pipelines [pipelines-OPTIONS]

Application Options:
  -t, --target=               Concourse target name
  -v, --version               Print the version of Fly and exit
      --verbose               Print API requests and responses
      --print-table-headers   Print table headers even for redirected output

Help Options:
  -h, --help                  Show this help message

[pipelines command options]
      -a, --all               Show pipelines across all teams
          --include-archived  Show archived pipelines
          --json              Print command result as JSON
          --team=             Name of the team to which the pipelines belong,
                              if different from the target default
"
        );
    }

    #[test]
    fn words_groups_choices_and_defaults_are_shown() {
        for (command, parts) in [
            (
                "curl",
                &[
                    "  fly [OPTIONS] curl [curl-OPTIONS] PATH [curl flags...]\n",
                    "\n\n[curl command arguments]\n  PATH:                      Pass query params as normal curl path like\n",
                ][..],
            ),
            ("completion", &["\n[completion command options]\n          --shell=[bash|zsh|fish]\n"]),
            (
                "builds",
                &[
                    "      -c, --count=              Number of builds you want to limit the return\n                                to (default: 50)\n",
                ],
            ),
            ("set-team", &["\n    Authentication (GitHub):\n          --github-user=USERNAME"]),
            ("clear-wall", &["  fly [OPTIONS] clear-wall\n"]),
            ("hijack", &["[hijack-OPTIONS] [command...]\n", "-j, --job=PIPELINE/JOB "]),
            ("audit", &["[audit command options]\n"]),
        ] {
            let shown = help(command, 80);
            for part in parts {
                assert!(shown.contains(part), "{part:?} in {shown}");
            }
        }
    }

    #[test]
    fn the_client_lists_its_commands_and_not_those_that_only_we_have() {
        let shown = help("", 80);
        assert!(shown.starts_with("Usage:\n  fly [OPTIONS] <command>\n\nApplication Options:\n"), "{shown}");
        let line = "\n  hijack                     Execute a command in a container (aliases: intercept, i)\n";
        assert!(shown.contains(line) && !shown.contains("audit"), "{shown}");
    }

    #[test]
    fn long_words_are_broken() {
        assert_eq!(wrapped("a bcd efghijklmnopqrs t", 10, "  "), "a bcd\n  efghijklm-\n\n  nopqrs t");
    }
}
