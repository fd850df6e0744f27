//! The name somebody may have meant.

use crate::base::distance::distance;

/// The one of `names` that differs least from `wrong`, if it is close.
pub fn nearest<'n>(wrong: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let best = names.into_iter().map(|n| (distance(wrong, n), n)).min()?;
    (best.0 <= wrong.len().max(3) / 3).then_some(best.1)
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
