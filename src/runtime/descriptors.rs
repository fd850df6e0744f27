//! How many files and connections this process may have open, and how many steps would have had without that.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The soft bound that this process was started with, where it was raised.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// As many as the hard bound allows: what starts a server often leaves it a login's 1024, and every connection, every
/// log that is followed, takes one.
pub fn raise() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        BEFORE.get_or_init(|| soft);
    }
}

/// The soft bound before `raise`, if it has changed it: programs that steps run may walk through all numbers up to it.
pub fn before() -> Option<u64> {
    BEFORE.get().copied()
}

/// Takes back what an ancestor has raised, before a step's own bound is set.
pub fn lower(before: Option<u64>) {
    if let (Some(before), Ok((_, hard))) = (before, getrlimit(Resource::RLIMIT_NOFILE)) {
        setrlimit(Resource::RLIMIT_NOFILE, before.min(hard), hard).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_raised_as_far_as_it_goes_and_what_it_was_is_known() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
        assert_eq!(before(), (soft < hard).then_some(soft));
        raise();
        assert_eq!(before(), (soft < hard).then_some(soft), "the first is remembered");
    }
}
