//! How to call this program again, for the commands that are told to people.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What finds this program from any directory, as a shell reads it: its name where `PATH` leads to the same file, else
/// its whole path.
pub fn name() -> String {
    let called = std::env::args_os().next().unwrap_or_else(|| "whistlestop".into());
    found_again(Path::new(&called), std::env::var_os("PATH").as_deref())
}

/// The same of a program that was called so.
pub fn found_again(called: &Path, path: Option<&OsStr>) -> String {
    let is_name = called.components().count() == 1 && !called.has_root();
    if is_name && !called.to_string_lossy().contains('/') {
        // That is how it was found.
        return quoted(&called.to_string_lossy());
    }
    let whole = std::path::absolute(called).unwrap_or_else(|_| called.to_path_buf());
    let real = |path: &Path| path.canonicalize().ok();
    let Some(name) = called.file_name() else { return quoted(&whole.to_string_lossy()) };
    let first = path.map(std::env::split_paths).into_iter().flatten().map(|dir| dir.join(name)).find(|p| p.is_file());
    match first.and_then(|found| real(&found)) {
        Some(found) if real(&whole).as_ref() == Some(&found) => quoted(&name.to_string_lossy()),
        _ => quoted(&plain(&whole).to_string_lossy()),
    }
}

/// Without steps that lead nowhere, such as `./`.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

/// As one word of a shell.
pub fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_where_path_leads_there_and_a_path_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let (built, installed, others) = (dir.path().join("built"), dir.path().join("bin"), dir.path().join("o"));
        for dir in [&built, &others] {
            std::fs::create_dir(dir).unwrap();
            std::fs::write(dir.join("whistlestop"), "").unwrap();
        }
        std::fs::create_dir(&installed).unwrap();
        std::os::unix::fs::symlink(built.join("whistlestop"), installed.join("whistlestop")).unwrap();
        let own = built.join("whistlestop");
        let whole = own.display().to_string();
        for (path, expected) in [
            (vec![], whole.as_str()),
            (vec![&others], &whole),
            (vec![&others, &installed], &whole),
            (vec![&installed, &others], "whistlestop"),
            (vec![&built], "whistlestop"),
        ] {
            let path = std::env::join_paths(path).unwrap();
            assert_eq!(found_again(&own, Some(&path)), expected, "{path:?}");
        }
        assert_eq!(found_again(Path::new("whistlestop"), None), "whistlestop");
        let here = std::env::current_dir().unwrap().join("target/whistlestop").display().to_string();
        assert_eq!(found_again(Path::new("./target/whistlestop"), None), quoted(&here));
        assert_eq!(found_again(Path::new("/a b/it's"), None), r"'/a b/it'\''s'");
    }
}
