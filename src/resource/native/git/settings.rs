//! `source.git_config`, and the configuration file that git reads instead of the machine's.
//!
//! Git's settings can name programs to run and files to read. Here git runs on the server and not in a container,
//! so only settings that can do neither are taken.

use std::fmt::Write as _;

use crate::resource::Failure;

/// Whole sections whose settings neither run programs nor read files, but for the ones in [`FORBIDDEN`].
const SECTIONS: [&str; 17] = [
    "user",
    "author",
    "committer",
    "advice",
    "apply",
    "branch",
    "checkout",
    "fetch",
    "index",
    "log",
    "merge",
    "pack",
    "pull",
    "push",
    "rebase",
    "status",
    "transfer",
];

const FORBIDDEN: [&str; 5] = ["user.signingkey", "pack.packsizelimit", "merge.tool", "merge.guitool", "push.gpgsign"];

const SINGLE: [&str; 36] = [
    "core.abbrev",
    "core.autocrlf",
    "core.bigfilethreshold",
    "core.checkstat",
    "core.compression",
    "core.deltabasecachelimit",
    "core.eol",
    "core.filemode",
    "core.ignorecase",
    "core.longpaths",
    "core.loosecompression",
    "core.packedgitlimit",
    "core.packedgitwindowsize",
    "core.precomposeunicode",
    "core.protecthfs",
    "core.protectntfs",
    "core.quotepath",
    "core.safecrlf",
    "core.sharedrepository",
    "core.symlinks",
    "core.trustctime",
    "core.whitespace",
    "diff.renamelimit",
    "diff.renames",
    "http.followredirects",
    "http.lowspeedlimit",
    "http.lowspeedtime",
    "http.maxrequests",
    "http.postbuffer",
    "http.proxy",
    "http.sslverify",
    "http.sslversion",
    "http.useragent",
    "http.version",
    "submodule.fetchjobs",
    "submodule.recurse",
];

/// Last parts of settings with a name in the middle, such as `url.https://host/.insteadOf`.
const NAMED: [(&str, &[&str]); 3] = [
    ("url", &["insteadof", "pushinsteadof"]),
    ("http", &["extraheader", "sslverify", "proxy", "followredirects", "postbuffer"]),
    ("lfs", &["url", "fetchinclude", "fetchexclude", "concurrenttransfers", "locksverify", "access"]),
];

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.key` or `section.name.key`.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Setting {
    /// Takes it if it can do no harm on the server.
    pub fn checked(name: &str, value: &str) -> Result<Setting, Failure> {
        if !harmless(name) || name.chars().chain(value.chars()).any(char::is_control) {
            return Err(Failure::Config(format!(
                "source.git_config: {name:?} is not a setting that the built-in git type takes, since git runs on the \
                 server and the setting could run programs or read files there: use the type through its image"
            )));
        }
        Ok(Setting { name: name.to_owned(), value: value.to_owned() })
    }
}

fn harmless(name: &str) -> bool {
    let Some((section, rest)) = name.split_once('.') else { return false };
    let (middle, key) = rest.rsplit_once('.').map_or((None, rest), |(middle, key)| (Some(middle), key));
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !plain(&section) || !plain(&key) {
        return false;
    }
    let short = format!("{section}.{key}");
    let named = NAMED.iter().any(|(s, keys)| *s == section && keys.contains(&key.as_str()));
    match middle {
        Some(_) => named,
        None if FORBIDDEN.contains(&short.as_str()) => false,
        None => SECTIONS.contains(&section.as_str()) || SINGLE.contains(&short.as_str()) || (named && section != "url"),
    }
}

/// The settings as a configuration file.
pub fn file(settings: &[Setting]) -> String {
    let mut text = String::new();
    for Setting { name, value } in settings {
        let Some((section, rest)) = name.split_once('.') else { continue };
        let (middle, key) = rest.rsplit_once('.').map_or((None, rest), |(middle, key)| (Some(middle), key));
        // Writing to a string cannot fail.
        let _ = match middle {
            Some(middle) => writeln!(text, "[{section} \"{}\"]", escape(middle)),
            None => writeln!(text, "[{section}]"),
        };
        let _ = writeln!(text, "\t{key} = \"{}\"", escape(value));
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_settings_are_taken() {
        for name in [
            "user.name",
            "core.bigFileThreshold",
            "http.https://h/.extraHeader",
            "url.https://h/.insteadOf",
            "http.extraHeader",
            "pull.rebase",
            "http.postBuffer",
        ] {
            assert!(Setting::checked(name, "x").is_ok(), "{name}");
        }
        for name in [
            "core.sshCommand",
            "core.fsmonitor",
            "core.hooksPath",
            "credential.helper",
            "alias.x",
            "include.path",
            "includeIf.gitdir:/.path",
            "filter.x.smudge",
            "merge.x.driver",
            "diff.external",
            "remote.origin.uploadpack",
            "http.sslKey",
            "http.cookieFile",
            "user",
            "core.a\nb",
            "safe.directory",
            "protocol.ext.allow",
            "url.insteadOf",
            "init.templateDir",
            "gpg.program",
            "lfs.customtransfer.x.path",
            "submodule.x.update",
            "branch.x.y",
        ] {
            assert!(Setting::checked(name, "x").is_err(), "{name}");
        }
        assert!(Setting::checked("user.name", "a\n[core]").is_err());
    }

    #[test]
    fn a_file_quotes_names_and_values() {
        let settings = [
            Setting::checked("user.name", "a \"b\" \\ ; #c").unwrap(),
            Setting::checked("url.https://h/\"x.insteadOf", "git@h:").unwrap(),
        ];
        assert_eq!(
            file(&settings),
            "[user]\n\tname = \"a \\\"b\\\" \\\\ ; #c\"\n[url \"https://h/\\\"x\"]\n\tinsteadOf = \"git@h:\"\n"
        );
    }
}
