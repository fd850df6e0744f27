//! HTML that is escaped already. Only the terminal renderer, the graph and rendered parts make it; everything else a
//! template prints is escaped by askama, so a grep for `Markup::trusted` lists all there is to review.

use std::fmt;

use askama::filters::{Escaper, Html, HtmlSafe};

/// HTML to print as it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Markup(String);

impl Markup {
    /// Vouches for `html`: each caller says why it may.
    pub(in crate::web) fn trusted(html: String) -> Self {
        Markup(html)
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Markup {}

/// `text` with askama's escaping, fit for text and quoted attributes.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    escape_into(&mut out, text);
    out
}

/// [`escape`] at the end of `out`.
pub fn escape_into(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = Html.write_escaped_str(out, text);
}
