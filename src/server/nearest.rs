//! The name somebody may have meant.

/// The one of `names` that differs least from `wrong`, if it is close.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.into_iter().map(|n| (distance(wrong, n), n)).min()?;
    (best.0 <= wrong.len().max(3) / 3).then_some(best.1)
}

/// Insertions, deletions and replacements from one to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let names = ["bind-ip", "bind-port", "state-dir"];
        assert_eq!(nearest("bind-prot", names), Some("bind-port"));
        assert_eq!(nearest("statedir", names), Some("state-dir"));
        assert_eq!(nearest("completely-else", names), None);
    }
}
