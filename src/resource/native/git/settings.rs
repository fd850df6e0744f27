//! `source.git_config`, and the configuration file that git reads instead of the machine's.
//!
//! Git's settings can name programs to run and files to read. Here git runs on the server and not in a container,
//! so only settings that can do neither are taken, and none that lead git to other hosts than the source itself names.

use std::fmt::Write as _;

use crate::resource::Failure;

/// Settings that neither run programs, nor read files, nor lead anywhere: each is named, since whole sections of git's
/// settings get new members that do.
const SINGLE: [&str; 126] = [
    "advice.addignoredfile",
    "advice.detachedhead",
    "advice.ignoredhook",
    "advice.pushupdaterejected",
    "advice.skippedcherrypicks",
    "advice.statushints",
    "apply.ignorewhitespace",
    "apply.whitespace",
    "author.email",
    "author.name",
    "branch.autosetupmerge",
    "branch.autosetuprebase",
    "branch.sort",
    "checkout.defaultremote",
    "checkout.guess",
    "checkout.thresholdforparallelism",
    "checkout.workers",
    "committer.email",
    "committer.name",
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
    "fetch.fsckobjects",
    "fetch.negotiationalgorithm",
    "fetch.output",
    "fetch.parallel",
    "fetch.prune",
    "fetch.prunetags",
    "fetch.recursesubmodules",
    "fetch.showforcedupdates",
    "fetch.unpacklimit",
    "fetch.writecommitgraph",
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
    "index.recordendofindexentries",
    "index.recordoffsettable",
    "index.sparse",
    "index.threads",
    "index.version",
    "init.defaultbranch",
    "log.abbrevcommit",
    "log.date",
    "log.decorate",
    "log.follow",
    "log.showroot",
    "log.showsignature",
    "merge.autostash",
    "merge.conflictstyle",
    "merge.defaulttoupstream",
    "merge.directoryrenames",
    "merge.ff",
    "merge.log",
    "merge.renamelimit",
    "merge.renames",
    "merge.renormalize",
    "merge.stat",
    "merge.verbosity",
    "merge.verifysignatures",
    "pack.compression",
    "pack.deltacachelimit",
    "pack.deltacachesize",
    "pack.depth",
    "pack.threads",
    "pack.window",
    "pack.windowmemory",
    "pack.writebitmaphashcache",
    "protocol.version",
    "pull.ff",
    "pull.rebase",
    "push.autosetupremote",
    "push.default",
    "push.followtags",
    "push.recursesubmodules",
    "push.usebitmaps",
    "push.useforceifincludes",
    "rebase.abbreviatecommands",
    "rebase.autosquash",
    "rebase.autostash",
    "rebase.backend",
    "rebase.forkpoint",
    "rebase.missingcommitscheck",
    "rebase.stat",
    "rebase.updaterefs",
    "status.aheadbehind",
    "status.branch",
    "status.renamelimit",
    "status.renames",
    "status.short",
    "status.showuntrackedfiles",
    "status.submodulesummary",
    "submodule.fetchjobs",
    "submodule.recurse",
    "transfer.fsckobjects",
    "transfer.unpacklimit",
    "user.email",
    "user.name",
    "user.useconfigonly",
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
                 server and the setting could run programs, read files or reach hosts there: use the type through its image"
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
        None => SINGLE.contains(&short.as_str()) || (named && section != "url"),
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
            "fetch.parallel",
            "fetch.pruneTags",
            "transfer.fsckObjects",
            "push.default",
            "protocol.version",
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
            // These lead git to other hosts, or tell them of this one.
            "fetch.bundleURI",
            "fetch.bundleCreationToken",
            "fetch.uriProtocols",
            "transfer.bundleURI",
            "transfer.advertiseSID",
            "transfer.credentialsInUrl",
            "user.signingKey",
            "push.gpgSign",
            "merge.tool",
            "pack.packSizeLimit",
            "pull.x",
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
