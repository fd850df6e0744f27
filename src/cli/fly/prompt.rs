//! Questions to the person at the keyboard: yes or no, a line, one of several.

use std::io::{self, BufRead, Write};
use std::os::fd::AsFd;

use super::console::{Console, Style};
use super::terminal::{Hidden, typed_lines};

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// Standard input ended before one.
    #[error("no answer: standard input is closed (use the command's flags to answer beforehand)")]
    Closed,
    /// The streams failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks `question`; yes, no or nothing (no) are answers, everything else is asked again.
pub fn confirm(question: &str) -> Result<bool, PromptError> {
    confirm_on(&mut io::stdin().lock(), &mut io::stdout().lock(), question)
}

fn confirm_on(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> Result<bool, PromptError> {
    loop {
        match line_on(input, output, &format!("{question} [yN]: "))?.to_lowercase().as_str() {
            "y" | "yes" => return Ok(true),
            "n" | "no" | "" => return Ok(false),
            _ => writeln!(output, "Unknown input. Please enter y/yes/n/no.")?,
        }
    }
}

/// Asks for a line.
pub fn line(question: &str) -> Result<String, PromptError> {
    line_on(&mut io::stdin().lock(), &mut io::stdout().lock(), &format!("{question}: "))
}

/// Asks for a line that is not shown while it is typed.
pub fn hidden(question: &str) -> Result<String, PromptError> {
    let _hidden = Hidden::enter()?;
    io::stderr().write_all(format!("{question}: ").as_bytes())?;
    let (sender, lines) = std::sync::mpsc::channel();
    let _typing = typed_lines(move |line| drop(sender.send(line)))?;
    let answer = lines.recv().ok().flatten().ok_or(PromptError::Closed)?;
    Ok(answer.trim().to_owned())
}

fn line_on(input: &mut impl BufRead, output: &mut impl Write, question: &str) -> Result<String, PromptError> {
    write!(output, "{question}")?;
    output.flush()?;
    let mut answer = String::new();
    if input.read_line(&mut answer)? == 0 {
        writeln!(output)?;
        return Err(PromptError::Closed);
    }
    Ok(answer.trim().to_owned())
}

/// Lets one of `items` be chosen by its number; `None` when the person leaves without choosing.
pub fn choose(console: Console, title: &str, items: &[String]) -> Result<Option<usize>, PromptError> {
    if !console.is_interactive() && !may_answer(io::stdin()) {
        return Err(PromptError::Closed);
    }
    choose_on(&mut io::stdin().lock(), &mut io::stdout().lock(), title, items)
}

/// Whether somebody is at the other end of an input that is no terminal: a pipe, not a file or nothing.
fn may_answer(input: impl AsFd) -> bool {
    use nix::sys::stat::{SFlag, fstat};
    let kind = fstat(input).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    matches!(kind, Ok(SFlag::S_IFIFO | SFlag::S_IFSOCK))
}

fn choose_on(
    input: &mut impl BufRead,
    output: &mut impl Write,
    title: &str,
    items: &[String],
) -> Result<Option<usize>, PromptError> {
    for (i, item) in items.iter().enumerate() {
        writeln!(output, "{}: {item}", Style::Bold.paint(&(i + 1).to_string()))?;
    }
    loop {
        let answer = line_on(input, output, &format!("{title}: "))?;
        if matches!(answer.as_str(), "" | "q") {
            return Ok(None);
        }
        match answer.parse::<usize>() {
            Ok(n) if (1..=items.len()).contains(&n) => return Ok(Some(n - 1)),
            _ => writeln!(output, "invalid selection (1 to {}, or q to leave)", items.len())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(typed: &str) -> (Option<bool>, String) {
        let mut shown = Vec::new();
        let yes = confirm_on(&mut typed.as_bytes(), &mut shown, "go?").ok();
        (yes, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn only_a_clear_yes_is_one() {
        for (typed, yes) in
            [("y\n", Some(true)), ("YES\n", Some(true)), ("\n", Some(false)), ("no\n", Some(false)), ("", None)]
        {
            assert_eq!(answer(typed).0, yes, "{typed:?}");
        }
        assert_eq!(
            answer("eh\ny\n"),
            (Some(true), "go? [yN]: Unknown input. Please enter y/yes/n/no.\ngo? [yN]: ".into())
        );
    }

    #[test]
    fn a_pipe_may_answer_and_a_file_does_not() {
        let (read, _write) = nix::unistd::pipe().unwrap();
        assert!(may_answer(read));
        assert!(!may_answer(std::fs::File::open("/dev/null").unwrap()));
        assert!(!may_answer(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn a_choice_is_a_number_on_the_list() {
        let items = ["a".to_owned(), "b".to_owned()];
        let mut shown = Vec::new();
        for (typed, chosen) in [("2\n", Some(1)), ("3\nx\n1\n", Some(0)), ("q\n", None)] {
            assert_eq!(choose_on(&mut typed.as_bytes(), &mut shown, "which", &items).unwrap(), chosen);
        }
    }
}
