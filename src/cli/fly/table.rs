//! Tables as fly aligns them: two spaces between columns, the last one padded too, headers only for people.

use super::console::Style;

/// One field of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Option<Style>,
}

impl Cell {
    /// `text` in `style` on a terminal.
    pub fn styled(text: impl Into<String>, style: Style) -> Self {
        Cell { text: text.into(), style: Some(style) }
    }

    /// `yes` in colour, or `no`.
    pub fn yes_no(on: bool) -> Self {
        if on { Cell::styled("yes", Style::Cyan) } else { Cell::from("no") }
    }

    /// The status of a build in its colour.
    pub fn status(status: &str) -> Self {
        Cell::styled(status, Style::of_status(status))
    }

    /// `text`, or a faint `none`.
    pub fn or_none(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Cell::styled("none", Style::Faint) } else { Cell::from(text) }
    }

    /// `text`, or `default`.
    pub fn or(text: impl Into<String>, default: &str) -> Self {
        let text = text.into();
        if text.is_empty() { Cell::from(default) } else { Cell::from(text) }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell { text, style: None }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell { text: text.to_owned(), style: None }
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Cell::from(number.to_string())
    }
}

/// Headers and rows.
#[derive(Debug, Clone, Default)]
pub struct Table {
    headers: Vec<Cell>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<'a>(headers: impl IntoIterator<Item = &'a str>) -> Self {
        Table { headers: headers.into_iter().map(|h| Cell::styled(h, Style::Bold)).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Sorts by the text of the first column.
    pub fn sort(&mut self) {
        self.rows.sort_by(|a, b| a[0].text.cmp(&b[0].text));
    }

    /// The text, with colours on a terminal, and headers there or when `headers` asks for them.
    pub fn render(&self, terminal: bool, headers: bool) -> String {
        let head = (terminal || headers).then_some(&self.headers);
        let lines: Vec<&Vec<Cell>> = head.into_iter().chain(&self.rows).collect();
        let columns = lines.iter().map(|l| l.len()).max().unwrap_or(0);
        let widths: Vec<usize> =
            (0..columns).map(|i| lines.iter().filter_map(|l| l.get(i)).map(Cell::width).max().unwrap_or(0)).collect();
        let mut out = String::new();
        for line in lines {
            for (i, cell) in line.iter().enumerate() {
                match cell.style {
                    Some(style) if terminal => out.push_str(&style.paint(&cell.text)),
                    _ => out.push_str(&cell.text),
                }
                out.extend(std::iter::repeat_n(' ', widths[i] - cell.width()));
                if i + 1 < columns {
                    out.push_str("  ");
                }
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Table {
        let mut table = Table::new(["name", "next"]);
        table.push(vec!["unit".into(), "n/a".into()]);
        table.push(vec!["a-long-one".into(), Cell::status("pending")]);
        table
    }

    #[test]
    fn without_a_terminal_there_is_no_header_and_no_colour() {
        assert_eq!(jobs().render(false, false), "unit        n/a    \na-long-one  pending\n");
    }

    #[test]
    fn a_header_can_be_asked_for() {
        assert_eq!(jobs().render(false, true), "name        next   \nunit        n/a    \na-long-one  pending\n");
    }

    #[test]
    fn on_a_terminal_colours_do_not_count_as_width() {
        assert_eq!(
            jobs().render(true, false),
            "\x1b[1mname\x1b[22m        \x1b[1mnext\x1b[22m   \nunit        n/a    \na-long-one  \x1b[37mpending\x1b[0m\n"
        );
    }

    #[test]
    fn rows_sort_by_their_first_column() {
        let mut table = jobs();
        table.sort();
        assert_eq!(table.render(false, false), "a-long-one  pending\nunit        n/a    \n");
    }
}
