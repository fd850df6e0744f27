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
    match typed_line(input)? {
        Some(answer) => Ok(answer.trim().to_owned()),
        None => {
            writeln!(output)?;
            Err(PromptError::Closed)
        }
    }
}

/// The next line, which a return ends as well: whoever answers fly by a pipe sends what the key sends. `None` at the end.
fn typed_line(input: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    loop {
        let ready = input.fill_buf()?;
        if ready.is_empty() {
            return Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        let end = ready.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        line.extend(&ready[..end.unwrap_or(ready.len())]);
        // A line feed behind the return belongs to it, where both have come.
        let both = end.is_some_and(|at| ready[at..].starts_with(b"\r\n"));
        let used = end.map_or(ready.len(), |at| at + 1 + usize::from(both));
        input.consume(used);
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
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
        for typed in ["maybe\ry\r", "maybe\r\ny\r\n", "maybe\ry"] {
            assert_eq!(answer(typed).0, Some(true), "{typed:?}");
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
