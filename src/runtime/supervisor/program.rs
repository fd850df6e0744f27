//! Which file a program's name means and what environment it gets, with the error texts of Concourse's workers.

use std::io;
use std::os::unix::fs::PermissionsExt;

use super::account::Account;
use crate::runtime::Exit;

const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// `given` (later entries win), and the usual `PATH`, `HOME` and `USER` where they are absent.
pub fn environment(given: &[String], account: &Account) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut env: Vec<String> = Vec::with_capacity(given.len() + 3);
    for entry in given {
        match env.iter_mut().find(|e| name(e) == name(entry)) {
            Some(earlier) => earlier.clone_from(entry),
            None => env.push(entry.clone()),
        }
    }
    let path = if account.uid == 0 { ROOT_PATH } else { USER_PATH };
    for (key, value) in [("PATH", path), ("HOME", &account.home), ("USER", &account.name)] {
        if !env.iter().any(|e| name(e) == key) {
            env.push(format!("{key}={value}"));
        }
    }
    env
}

/// The file to execute for `path`, as the current user and in the current directory.
pub fn find(path: &str, env: &[String]) -> Result<String, Exit> {
    let not_started =
        |what: &str, not_found| Exit::NotStarted { message: format!("exec: {path:?}: {what}"), not_found };
    if path.contains('/') {
        return match executable(path) {
            Ok(()) => Ok(path.to_owned()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(not_started(&format!("stat {path}: {}", reason(&e)), true))
            }
            Err(e) => Err(not_started(&reason(&e), false)),
        };
    }
    let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for dir in search.split(':').filter(|_| !path.is_empty()) {
        let candidate = format!("{}/{path}", if dir.is_empty() { "." } else { dir });
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(e) => denied |= e.kind() == io::ErrorKind::PermissionDenied,
        }
    }
    Err(if denied {
        not_started("permission denied", false)
    } else {
        not_started("executable file not found in $PATH", true)
    })
}

fn executable(path: &str) -> io::Result<()> {
    let meta = std::fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    nix::unistd::faccessat(
        nix::fcntl::AT_FDCWD,
        path,
        nix::unistd::AccessFlags::X_OK,
        nix::fcntl::AtFlags::AT_EACCESS,
    )?;
    Ok(())
}

/// An error as C words it: `no such file or directory`, without Rust's `(os error 2)`.
pub fn reason(error: &io::Error) -> String {
    let text = match error.raw_os_error() {
        Some(code) => nix::Error::from_raw(code).desc().to_owned(),
        None => error.kind().to_string(),
    };
    text.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: u32) -> Account {
        Account { uid, gid: uid, name: "ci".into(), home: "/home/ci".into() }
    }

    #[test]
    fn usual_variables_are_added_where_absent() {
        let given = ["A=1".to_owned(), "HOME=/x".into(), "A=2=3".into()];
        assert_eq!(
            environment(&given, &account(7)),
            ["A=2=3", "HOME=/x", "PATH=/usr/local/bin:/usr/bin:/bin", "USER=ci"]
        );
        assert!(environment(&[], &account(0))[0].contains("sbin"));
    }

    #[test]
    fn errors_are_worded_as_concourse_words_them() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "x").unwrap();
        let env = [format!("PATH={}:/bin", dir.path().display())];
        let plain = dir.path().join("plain").display().to_string();
        let cases = [
            ("no-such".to_owned(), "exec: \"no-such\": executable file not found in $PATH".to_owned(), true),
            (String::new(), "exec: \"\": executable file not found in $PATH".into(), true),
            ("/no/such".into(), "exec: \"/no/such\": stat /no/such: no such file or directory".into(), true),
            (plain.clone(), format!("exec: {plain:?}: permission denied"), false),
            ("/".into(), "exec: \"/\": is a directory".into(), false),
        ];
        for (path, want, missing) in cases {
            let want = Exit::NotStarted { message: want, not_found: missing };
            assert_eq!(find(&path, &env).unwrap_err(), want, "{path}");
        }
        assert_eq!(find("sh", &env).unwrap(), "/bin/sh");
    }
}
