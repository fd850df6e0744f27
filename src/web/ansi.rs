//! What a step printed, as a terminal would show it: colours, carriage returns, erasing, moving up over lines that
//! are still kept. Fed piece by piece; any bytes give balanced, escaped HTML.
//!
//! Colours become the sixteen classes `f0`…`f15` and `b0`…`b15`: the page's policy allows no inline style, and the
//! palette stays readable. The last [`Screen::KEEP`] lines are kept; the raw log has the rest.

use std::collections::{BTreeSet, VecDeque};

use super::markup::{Markup, escape_into};

/// A line longer than this goes on in the next one, so that no single line can fill the memory.
const WIDTH: usize = 8192;
/// Longest parameter text of an escape sequence that is still looked at.
const PARAMETERS: usize = 64;

/// How a character looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    /// 0 for the default, else the colour plus one.
    fore: u8,
    back: u8,
    /// Bits: bold, dim, italic, underline, struck, inverse.
    marks: u8,
}

const MARKS: [(u8, &str); 6] = [(1, "bo"), (2, "di"), (4, "it"), (8, "un"), (16, "st"), (32, "in")];

/// One line and when it began.
#[derive(Debug, Clone, Default)]
pub struct Line {
    cells: Vec<(char, Style)>,
    /// Seconds since 1970.
    pub at: i64,
}

impl Line {
    /// Spans of one style each, every character escaped.
    pub fn html(&self) -> Markup {
        let mut out = String::with_capacity(self.cells.len() + 32);
        let mut text = String::new();
        for run in self.cells.chunk_by(|a, b| a.1 == b.1) {
            text.clear();
            text.extend(run.iter().map(|c| c.0));
            let class = run[0].1.class();
            if class.is_empty() {
                escape_into(&mut out, &text);
                continue;
            }
            out.push_str("<span class=\"");
            out.push_str(&class);
            out.push_str("\">");
            escape_into(&mut out, &text);
            out.push_str("</span>");
        }
        // Made of our own span tags, closed right here, and escaped text.
        Markup::trusted(out)
    }

    /// When it began, as a time of day.
    pub fn clock(&self) -> String {
        super::span::clock(self.at)
    }

    /// The characters alone.
    pub fn text(&self) -> String {
        self.cells.iter().map(|c| c.0).collect()
    }
}

impl Style {
    fn class(self) -> String {
        let mut names: Vec<String> = Vec::new();
        if self.fore > 0 {
            names.push(format!("f{}", self.fore - 1));
        }
        if self.back > 0 {
            names.push(format!("b{}", self.back - 1));
        }
        names.extend(MARKS.iter().filter(|(bit, _)| self.marks & bit != 0).map(|(_, name)| (*name).to_owned()));
        names.join(" ")
    }

    fn mark(&mut self, bits: u8, on: bool) {
        if on { self.marks |= bits } else { self.marks &= !bits }
    }

    /// Applies the parameters of a "select graphic rendition".
    fn select(&mut self, parameters: &[u16]) {
        let mut rest = parameters.iter().copied();
        while let Some(p) = rest.next() {
            match p {
                0 => *self = Style::default(),
                1 => self.mark(1, true),
                2 => self.mark(2, true),
                3 => self.mark(4, true),
                4 => self.mark(8, true),
                7 => self.mark(32, true),
                9 => self.mark(16, true),
                22 => self.mark(1 | 2, false),
                23 => self.mark(4, false),
                24 => self.mark(8, false),
                27 => self.mark(32, false),
                29 => self.mark(16, false),
                30..=37 => self.fore = narrow(p - 30),
                40..=47 => self.back = narrow(p - 40),
                90..=97 => self.fore = narrow(p - 90 + 8),
                100..=107 => self.back = narrow(p - 100 + 8),
                39 => self.fore = 0,
                49 => self.back = 0,
                38 | 48 => {
                    let colour = extended(&mut rest);
                    if p == 38 { self.fore = colour } else { self.back = colour }
                }
                _ => {}
            }
        }
    }
}

fn narrow(colour: u16) -> u8 {
    u8::try_from(colour + 1).unwrap_or(0)
}

/// A colour of 256, or of red, green and blue, as the nearest of sixteen, plus one; 0 if it is not one.
fn extended(rest: &mut impl Iterator<Item = u16>) -> u8 {
    let mut next = || rest.next().map(|v| u8::try_from(v.min(255)).unwrap_or(255));
    match next() {
        Some(5) => match next() {
            Some(n @ 0..16) => n + 1,
            Some(n @ 16..232) => {
                let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
                nearest([level((n - 16) / 36), level((n - 16) / 6 % 6), level((n - 16) % 6)])
            }
            Some(n) => nearest([8 + 10 * (n - 232); 3]),
            None => 0,
        },
        Some(2) => match (next(), next(), next()) {
            (Some(r), Some(g), Some(b)) => nearest([r, g, b]),
            _ => 0,
        },
        _ => 0,
    }
}

const PALETTE: [[u8; 3]; 16] = [
    [0, 0, 0],
    [205, 0, 0],
    [0, 205, 0],
    [205, 205, 0],
    [0, 0, 238],
    [205, 0, 205],
    [0, 205, 205],
    [229, 229, 229],
    [127, 127, 127],
    [255, 0, 0],
    [0, 255, 0],
    [255, 255, 0],
    [92, 92, 255],
    [255, 0, 255],
    [0, 255, 255],
    [255, 255, 255],
];

fn nearest(colour: [u8; 3]) -> u8 {
    let distance =
        |p: &[u8; 3]| -> i32 { p.iter().zip(colour).map(|(a, b)| (i32::from(*a) - i32::from(b)).pow(2)).sum() };
    (1..=16).min_by_key(|&i: &u8| distance(&PALETTE[usize::from(i) - 1])).unwrap_or(0)
}

/// Where in an escape sequence the input stands.
#[derive(Debug, Clone, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// Parameters of a control sequence so far.
    Control(String),
    /// A title or link: ignored until its end; true after an escape that may end it.
    Text(bool),
    /// One more character belongs to it (choice of a character set).
    Skip,
}

/// The lines of one step.
#[derive(Debug, Clone, Default)]
pub struct Screen {
    state: State,
    style: Style,
    lines: VecDeque<Line>,
    /// How many lines before the first kept one.
    dropped: usize,
    /// Where the next character goes: line number from 0, column.
    row: usize,
    column: usize,
    touched: BTreeSet<usize>,
}

impl Screen {
    /// Lines that are kept.
    pub const KEEP: usize = 2000;

    /// Takes in what was printed at `at` (seconds since 1970).
    pub fn feed(&mut self, text: &str, at: i64) {
        for c in text.chars() {
            match std::mem::take(&mut self.state) {
                State::Ground => self.ground(c, at),
                State::Escape => {
                    self.state = match c {
                        '[' => State::Control(String::new()),
                        ']' | 'P' | '^' | '_' | 'X' => State::Text(false),
                        '(' | ')' | '*' | '+' | '#' | '%' => State::Skip,
                        _ => State::Ground,
                    }
                }
                State::Control(parameters) => self.control(parameters, c),
                State::Text(escaped) => match c {
                    '\u{7}' => {}
                    '\\' if escaped => {}
                    _ => self.state = State::Text(c == '\u{1b}'),
                },
                State::Skip => {}
            }
        }
    }

    fn ground(&mut self, c: char, at: i64) {
        match c {
            '\u{1b}' => self.state = State::Escape,
            '\n' => self.newline(at),
            '\r' => self.column = 0,
            '\u{8}' => self.column = self.column.saturating_sub(1),
            c if c != '\t' && c.is_control() => {}
            c => {
                if self.column >= WIDTH {
                    self.newline(at);
                }
                let (column, style) = (self.column, self.style);
                let line = self.line(at);
                if line.cells.len() < column {
                    line.cells.resize(column, (' ', Style::default()));
                }
                match line.cells.get_mut(column) {
                    Some(cell) => *cell = (c, style),
                    None => line.cells.push((c, style)),
                }
                self.column += 1;
            }
        }
    }

    fn newline(&mut self, at: i64) {
        self.line(at);
        self.row += 1;
        self.column = 0;
    }

    /// The line the cursor is in, made if it is not there yet.
    fn line(&mut self, at: i64) -> &mut Line {
        while self.dropped + self.lines.len() <= self.row {
            self.lines.push_back(Line { cells: Vec::new(), at });
            self.touched.insert(self.dropped + self.lines.len() - 1);
            if self.lines.len() > Self::KEEP {
                self.lines.pop_front();
                self.dropped += 1;
            }
        }
        self.touched.insert(self.row);
        let index = self.row - self.dropped;
        &mut self.lines[index]
    }

    fn control(&mut self, mut parameters: String, c: char) {
        match c {
            '\u{20}'..='\u{3f}' => {
                if parameters.len() < PARAMETERS {
                    parameters.push(c);
                }
                self.state = State::Control(parameters);
            }
            '\u{1b}' => self.state = State::Escape,
            '\u{40}'..='\u{7e}' => self.act(&parameters, c),
            _ => self.state = State::Control(parameters),
        }
    }

    fn act(&mut self, parameters: &str, command: char) {
        let numbers: Vec<u16> = parameters.split([';', ':']).map(|p| p.parse().unwrap_or(0)).collect();
        let count = usize::from(numbers[0].max(1));
        match command {
            'm' => self.style.select(&numbers),
            'A' | 'F' => self.row = self.row.saturating_sub(count).max(self.dropped),
            'B' | 'E' => self.row = (self.row + count).min(self.dropped + self.lines.len()),
            'C' => self.column = (self.column + count).min(WIDTH),
            'D' => self.column = self.column.saturating_sub(count),
            'G' => self.column = (count - 1).min(WIDTH),
            'K' => self.erase(numbers[0]),
            _ => {}
        }
        if matches!(command, 'E' | 'F') {
            self.column = 0;
        }
    }

    fn erase(&mut self, what: u16) {
        let column = self.column;
        let Some(line) = self.lines.get_mut(self.row - self.dropped) else { return };
        match what {
            0 => line.cells.truncate(column),
            1 => line.cells.iter_mut().take(column + 1).for_each(|cell| *cell = (' ', Style::default())),
            _ => line.cells.clear(),
        }
        self.touched.insert(self.row);
    }

    /// The kept lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &Line)> {
        self.lines.iter().enumerate().map(|(i, line)| (self.dropped + i + 1, line))
    }

    /// The number of the last line, 0 for none.
    pub fn last(&self) -> usize {
        self.dropped + self.lines.len()
    }

    /// How many lines came before the kept ones.
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether nothing was printed.
    pub fn is_empty(&self) -> bool {
        self.dropped == 0 && self.lines.is_empty()
    }

    /// The lines, with their numbers, that changed since the last call.
    pub fn take_touched(&mut self) -> Vec<(usize, &Line)> {
        let touched = std::mem::take(&mut self.touched);
        let first = self.dropped;
        touched.into_iter().filter(|&n| n >= first).map(|n| (n + 1, &self.lines[n - first])).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut screen = Screen::default();
        screen.feed(text, 0);
        screen.lines().map(|(_, l)| l.html().into_string()).collect()
    }

    #[test]
    fn what_a_terminal_would_show() {
        for (input, lines) in [
            ("a\r\nb\n", vec!["a", "b"]),
            ("10%\r100%\rdone", vec!["done"]),
            ("long line\rshort\u{1b}[K", vec!["short"]),
            ("\u{1b}[1;32mok\u{1b}[0m <b>", vec![r#"<span class="f2 bo">ok</span> &#60;b&#62;"#]),
            ("\u{1b}[38;5;196mr\u{1b}[38;2;0;0;255mb", vec![r#"<span class="f9">r</span><span class="f4">b</span>"#]),
            ("one\ntwo\n\u{1b}[2A\u{1b}[2K1\n\n", vec!["1", "two"]),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]0;title\u{7}!", vec!["link!"]),
            ("\n\nx", vec!["", "", "x"]),
            ("ab\u{8}c", vec!["ac"]),
        ] {
            assert_eq!(shown(input), lines, "{input:?}");
        }
    }

    #[test]
    fn old_lines_are_dropped_and_counted() {
        let mut screen = Screen::default();
        for i in 0..Screen::KEEP + 5 {
            screen.feed(&format!("{i}\n"), 0);
        }
        assert_eq!((screen.dropped(), screen.lines().count()), (5, Screen::KEEP));
        assert_eq!(screen.lines().next().map(|(n, l)| (n, l.text())), Some((6, "5".into())));
        assert_eq!(screen.take_touched().len(), Screen::KEEP);
        screen.feed("x", 0);
        assert_eq!(screen.take_touched().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [Screen::KEEP + 6]);
    }

    /// Tags are ours only, and each is closed before the line ends.
    fn balanced(html: &str) -> bool {
        let mut open = 0i32;
        let mut rest = html;
        while let Some(at) = rest.find('<') {
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("</span>") {
                (open, rest) = (open - 1, after);
            } else if let Some(after) = rest.strip_prefix("<span class=\"") {
                let Some((class, after)) = after.split_once("\">") else { return false };
                if !class.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ') {
                    return false;
                }
                (open, rest) = (open + 1, after);
            } else {
                return false;
            }
            if !(0..=1).contains(&open) {
                return false;
            }
        }
        open == 0
    }

    proptest! {
        #[test]
        fn any_bytes_give_balanced_escaped_html(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for line in shown(&String::from_utf8_lossy(&bytes)) {
                prop_assert!(balanced(&line), "{line}");
            }
        }

        #[test]
        fn so_does_anything_like_escapes(text in "([\u{1b}\\[\\]0-9;:mKABCDEFG<>&\"'a\r\n\u{7}\\\\]){0,300}") {
            for line in shown(&text) {
                prop_assert!(balanced(&line), "{line}");
            }
        }

        #[test]
        fn where_the_input_is_cut_does_not_matter(text in "([\u{1b}\\[0-9;mKA<a\r\n]){0,120}", cut in 0usize..120) {
            let whole = shown(&text);
            let mut screen = Screen::default();
            let at = text.char_indices().nth(cut).map_or(text.len(), |(i, _)| i);
            screen.feed(&text[..at], 0);
            screen.feed(&text[at..], 0);
            let parts: Vec<String> = screen.lines().map(|(_, l)| l.html().into_string()).collect();
            prop_assert_eq!(whole, parts);
        }
    }
}
