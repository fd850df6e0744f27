//! What commands and flags say of themselves, in fly's words and order; beside this there is no other list of them.
//!
//! `texts.txt` has a line a command and below it, indented, one for each flag, with the name of its value if that has one.
//! `<…>` are words without a flag, `[…]` begins a group, and a line with two dashes is a flag of every command. Commands
//! and flags that are not in it are only ours: they work, and help and completion are silent about them.

use clap::{Arg, Command};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A command.
    Command(&'static str, &'static str),
    /// A flag of every command.
    Everywhere(&'static str, &'static str),
    /// A flag: its name, its value's name, and its text.
    Flag(&'static str, &'static str, &'static str),
    /// A word without a flag.
    Word(&'static str, &'static str),
    /// Those that follow belong together.
    Group(&'static str),
}

/// All of them.
pub fn lines() -> impl Iterator<Item = Line> {
    include_str!("texts.txt").lines().map(|line| {
        let (name, text) = line.split_once(": ").unwrap_or((line, ""));
        let Some(name) = name.strip_prefix("  ") else {
            return match name.strip_prefix("--") {
                Some(name) => Line::Everywhere(name, text),
                None => Line::Command(name, text),
            };
        };
        let enclosed = |open, close| name.strip_prefix(open).and_then(|name| name.strip_suffix(close));
        if let Some(title) = enclosed('[', ']') {
            return Line::Group(title);
        }
        if let Some(name) = enclosed('<', '>') {
            return Line::Word(name, text);
        }
        let (name, value) = name.split_once('=').unwrap_or((name, ""));
        Line::Flag(name, value, text)
    })
}

/// The tree with the texts in their places.
pub fn apply(mut root: Command) -> Command {
    let mut of: Option<(&'static str, Vec<(usize, Line)>)> = None;
    root = root.mut_subcommands(|command| command.hide(true));
    for (order, line) in lines().enumerate() {
        match line {
            Line::Command(name, text) => {
                if let Some((name, lines)) = of.replace((name, Vec::new())) {
                    root = root.mut_subcommand(name, |command| apply_to(command, lines));
                }
                root = root.mut_subcommand(name, |command| command.about(text).display_order(order).hide(false));
            }
            Line::Everywhere(name, text) => {
                let id = id(&root, |arg| arg.get_long() == Some(name));
                root = root.mut_arg(id, |arg| arg.help(text).value_name("").display_order(order));
            }
            other => {
                if let Some((_, lines)) = &mut of {
                    lines.push((order, other));
                }
            }
        }
    }
    match of {
        Some((name, lines)) => root.mut_subcommand(name, |command| apply_to(command, lines)),
        None => root,
    }
}

fn apply_to(mut command: Command, lines: Vec<(usize, Line)>) -> Command {
    let mut words: Vec<String> = command.get_positionals().map(|arg| arg.get_id().to_string()).collect();
    let all: Vec<String> = command.get_arguments().map(|arg| arg.get_id().to_string()).collect();
    for id in all {
        command = command.mut_arg(id, |arg| arg.hide(true));
    }
    let mut group = None;
    for (order, line) in lines {
        let (id, name, text) = match line {
            Line::Flag(name, value, text) => (id(&command, |arg| arg.get_long() == Some(name)), value, text),
            Line::Word(name, text) if !words.is_empty() => (words.remove(0), name, text),
            Line::Group(title) => {
                group = Some(title);
                continue;
            }
            Line::Word(..) | Line::Command(..) | Line::Everywhere(..) => continue,
        };
        let shown = |arg: Arg| arg.help(text).value_name(name).help_heading(group).display_order(order);
        command = command.mut_arg(id, |arg| shown(arg).hide(false));
    }
    command
}

fn id(command: &Command, is_meant: impl Fn(&Arg) -> bool) -> String {
    command.get_arguments().find(|arg| is_meant(arg)).map(|arg| arg.get_id().to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What fly has not; whoever adds to it says where else people learn of it.
    const OURS: &[&str] = &[
        "audit",
        "create-service-account",
        "end-session",
        "remove-service-account",
        "service-accounts",
        "sessions",
        "set-team --google-user",
        // The flag of every command, whose letter `watch` has for something else.
        "watch --target",
    ];

    #[test]
    fn everything_has_its_text_or_is_known_to_be_only_ours() {
        let tree = super::super::command();
        let mut silent = Vec::new();
        for command in tree.get_subcommands() {
            let name = command.get_name();
            if command.is_hide_set() {
                silent.push(name.to_owned());
                continue;
            }
            let hidden = command.get_arguments().filter(|arg| arg.is_hide_set()).filter_map(Arg::get_long);
            silent.extend(hidden.map(|flag| format!("{name} --{flag}")));
        }
        silent.sort();
        assert_eq!(silent, OURS);
        for line in lines() {
            assert!(!matches!(line, Line::Flag(name, ..) | Line::Command(name, _) if name.contains(' ')), "{line:?}");
        }
    }
}
