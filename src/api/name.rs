//! Names that people give to teams and pipelines.

use crate::pipeline::Warning;
use crate::pipeline::identifier::{Verdict, judge};

/// What there is to say about a name; the error refuses it.
pub fn check(name: &str, what: &str) -> Result<Vec<Warning>, String> {
    match judge(name, &[what.to_owned()]) {
        Verdict::Fine => Ok(Vec::new()),
        Verdict::Odd(warning) => Ok(vec![warning]),
        Verdict::Empty(error) => Err(error),
    }
}
