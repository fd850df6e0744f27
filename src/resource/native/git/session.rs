//! The surroundings of git for one call of a script: a home directory of its own, credentials in files that only it
//! can read, nothing of the machine's configuration, and a log in which secrets do not show.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use super::address::{Transport, encode};
use super::process::{self, Pipe};
use super::relay::Relay;
use super::source::{Key, Source, SubmoduleLogin};
use super::{reach, settings};
use crate::base::secret::Redactor;
use crate::resource::native::program;
use crate::resource::{Env, Failure};

/// What git may not do on its own here. The identity is the original's, for merges and annotated tags.
const CONFIG: &str = "\
[safe]
\tdirectory = *
[gc]
\tauto = 0
[maintenance]
\tauto = false
[core]
\talternateRefsCommand = true
[advice]
\tdetachedHead = false
[init]
\tdefaultBranch = master
[pull]
\trebase = false
[user]
\temail = git@localhost
\tname = git
[credential]
\thelper = store
";

const LFS: &str = "\
[filter \"lfs\"]
\tclean = git-lfs clean -- %f
\tsmudge = git-lfs smudge -- %f
\tprocess = git-lfs filter-process
\trequired = true
";

/// The variables of the server that git needs to trust others.
const TRUST: [&str; 4] = ["SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"];
/// Those that name what goes past them.
const DIRECT: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Bytes that a process may say on standard output, and on standard error: others decide how much they send us.
const MOST_OUT: usize = 64 << 20;
const MOST_ERR: usize = 1 << 20;

/// Git, ready for one script.
pub struct Session<'x, 'a> {
    env: &'x mut Env<'a>,
    home: TempDir,
    vars: Vec<(OsString, OsString)>,
    protocols: &'static str,
    redactor: Redactor,
    /// The way out by HTTP, unless the operator has named a proxy or denies nothing.
    relay: Option<Relay>,
}

/// What a process said and whether it succeeded.
#[derive(Debug)]
pub struct Done {
    /// Its exit status was 0.
    pub ok: bool,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    status: String,
}

/// One call of git.
pub struct Call<'c> {
    /// Which program: nearly always git.
    pub program: &'static str,
    /// Where it runs.
    pub dir: &'c Path,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its standard input.
    pub stdin: &'c str,
    /// May reach other machines.
    pub network: bool,
    /// What it says goes to the log.
    pub shown: bool,
    /// More variables.
    pub vars: Vec<(OsString, OsString)>,
}

impl<'c> Call<'c> {
    /// A quiet call that stays on this machine.
    pub fn new<S: AsRef<str>>(dir: &'c Path, args: &[S]) -> Self {
        Call::of("git", dir, args)
    }

    /// The same of another program.
    pub fn of<S: AsRef<str>>(program: &'static str, dir: &'c Path, args: &[S]) -> Self {
        let args = args.iter().map(|a| a.as_ref().to_owned()).collect();
        Call { program, dir, args, stdin: "", network: false, shown: false, vars: Vec::new() }
    }

    /// With the network.
    pub fn network(self) -> Self {
        Call { network: true, ..self }
    }

    /// With what it says in the log.
    pub fn shown(self) -> Self {
        Call { shown: true, ..self }
    }
}

impl<'x, 'a> Session<'x, 'a> {
    /// Prepares git for `source`.
    pub fn open(source: &Source, env: &'x mut Env<'a>) -> Result<Self, Failure> {
        let home = tempfile::Builder::new()
            .prefix("whistlestop-git-")
            .tempdir()
            .map_err(|err| Failure::Failed(format!("cannot make a temporary directory: {err}")))?;
        let redactor = Redactor::new();
        for secret in source.secrets() {
            redactor.learn(secret.expose());
            redactor.learn(&encode(secret.expose()));
        }
        if let Some((user, password)) = &source.login {
            // As the header that git's own trace would show.
            redactor.learn(&BASE64.encode(format!("{user}:{}", password.expose())));
        }
        let protocols = if env.allow_local { "https:http:ssh:git:file" } else { "https:http:ssh:git" };
        let mut session = Session { env, home, vars: Vec::new(), protocols, redactor, relay: None };
        session.prepare(source).map_err(|err| Failure::Failed(format!("cannot prepare git: {err}")))?;
        if source.forward_agent {
            session.say("WARNING: forward_agent has no effect: the built-in git type has no agent to forward")?;
        }
        if source.debug {
            session.say("debug mode enabled")?;
        }
        Ok(session)
    }

    fn prepare(&mut self, source: &Source) -> io::Result<()> {
        let home = self.home.path().to_owned();
        let mut config = CONFIG.to_owned();
        if program("git-lfs").is_some() {
            config.push_str(LFS);
        }
        if !self.env.registries.outgoing.denied().is_empty() && !reach::has_proxy(self.env.build) {
            let relay = Relay::open(self.env.registries.outgoing.clone())?;
            config.push_str(&format!("[http]\n\tproxy = {}\n", relay.proxy()));
            self.relay = Some(relay);
        }
        config.push_str(&settings::file(&source.settings));
        private(&home.join(".gitconfig"), &config)?;
        private(&home.join(".git-credentials"), &credentials(source))?;
        let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let mut vars: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), path),
            ("HOME".into(), home.clone().into()),
            ("LC_ALL".into(), "C".into()),
            ("GIT_CONFIG_NOSYSTEM".into(), "1".into()),
            ("GIT_CONFIG_GLOBAL".into(), home.join(".gitconfig").into()),
            ("GIT_TERMINAL_PROMPT".into(), "0".into()),
            ("GIT_ASKPASS".into(), "".into()),
            ("GIT_NO_LAZY_FETCH".into(), "1".into()),
            ("GIT_EDITOR".into(), "true".into()),
            ("GIT_SSH_VARIANT".into(), "ssh".into()),
        ];
        let build = self.env.build;
        let set = |name: &str| reach::set(name, build);
        vars.extend(TRUST.iter().filter_map(|name| Some(((*name).into(), set(name)?))));
        if self.relay.is_none() {
            vars.extend(reach::PROXIES.iter().filter_map(|name| Some(((*name).into(), set(name)?))));
            let rules = &self.env.registries.outgoing;
            let direct = DIRECT.iter().filter_map(|name| Some((*name, set(name)?.into_string().ok()?)));
            vars.extend(direct.map(|(name, hosts)| (name.into(), reach::direct(&hosts, rules).into())));
        }
        if source.skip_ssl_verification {
            vars.push(("GIT_SSL_NO_VERIFY".into(), "true".into()));
        }
        if source.debug {
            vars.extend([("GIT_TRACE".into(), "1".into()), ("GIT_CURL_VERBOSE".into(), "1".into())]);
        }
        self.vars = vars;
        let ssh = self.ssh("main", source.key.as_ref(), source.key_user.as_deref())?;
        self.vars.extend(ssh);
        Ok(())
    }

    /// The variables that make git use `key`, and never a key of the server's own user.
    pub fn ssh(&self, name: &str, key: Option<&Key>, user: Option<&str>) -> io::Result<Vec<(OsString, OsString)>> {
        let home = self.home.path();
        let mut config = "StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n\
                          LogLevel ERROR\nIdentitiesOnly yes\nIdentityAgent none\nPasswordAuthentication no\n\
                          KbdInteractiveAuthentication no\n"
            .to_owned();
        let mut vars = Vec::new();
        match key {
            Some(key) => {
                let file = home.join(format!("{name}.key"));
                private(&file, key.text.expose())?;
                config.push_str(&format!("IdentityFile \"{}\"\n", file.display()));
                if let Some(passphrase) = &key.passphrase {
                    let ask = home.join("askpass.sh");
                    script(&ask, "#!/bin/sh\nprintf '%s\\n' \"$GIT_SSH_PRIVATE_KEY_PASS\"\n")?;
                    vars.extend([
                        ("SSH_ASKPASS".into(), ask.into_os_string()),
                        ("SSH_ASKPASS_REQUIRE".into(), "force".into()),
                        ("DISPLAY".into(), ":0".into()),
                        ("GIT_SSH_PRIVATE_KEY_PASS".into(), passphrase.expose().into()),
                    ]);
                }
            }
            None => config.push_str("IdentityFile none\n"),
        }
        if let Some(user) = user {
            config.push_str(&format!("User {user}\n"));
        }
        let file = home.join(format!("{name}.ssh_config"));
        private(&file, &config)?;
        let quoted = file.display().to_string().replace('\'', "'\\''");
        vars.push(("GIT_SSH_COMMAND".into(), format!("ssh -F '{quoted}'").into()));
        Ok(vars)
    }

    /// A directory of its own, gone with the session.
    pub fn scratch(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.home.path().join(name);
        fs::create_dir_all(&path).map_err(|err| Failure::Failed(format!("cannot make a directory: {err}")))?;
        Ok(path)
    }

    /// A directory that outlives the session, if the caller has one.
    pub fn cache(&self) -> Option<&Path> {
        self.env.cache
    }

    /// Refuses an address that the repository names where that is denied.
    pub fn may_reach(&self, url: &str) -> Result<(), Failure> {
        reach::url(url, "a submodule", &self.env.registries.outgoing)
    }

    /// Whether the caller has lost interest.
    pub fn cancelled(&self) -> bool {
        (self.env.cancelled)()
    }

    /// Whether `git-lfs` is there to fetch large files.
    pub fn has_lfs(&self) -> bool {
        program("git-lfs").is_some()
    }

    /// Sets a variable for all calls that follow.
    pub fn set(&mut self, name: &str, value: &str) {
        self.vars.push((name.into(), value.into()));
    }

    /// One line of the log.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let line = self.redactor.redact(line);
        writeln!(self.env.log, "{line}").map_err(|err| Failure::Failed(format!("cannot write the log: {err}")))
    }

    /// Runs git, whatever its exit status.
    pub fn run(&mut self, call: &Call<'_>) -> Result<Done, Failure> {
        if let Some(relay) = &self.relay {
            // Of a call that somebody has made up for.
            relay.take_failure();
        }
        let mut command = Command::new(call.program);
        if call.program == "git" {
            // Given here and not in the configuration, it does not reach the other side of a push on this machine.
            command.args(["-c", "core.hooksPath=/dev/null"]);
        }
        command.args(&call.args).current_dir(call.dir).env_clear().envs(self.vars.iter().cloned());
        // A repository with a filter would fetch what it lacks; only where the network is meant.
        command.env("GIT_ALLOW_PROTOCOL", if call.network { self.protocols } else { "none" });
        command.envs(call.vars.iter().cloned());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut shown = Lines::default();
        let (log, redactor) = (&mut *self.env.log, &self.redactor);
        let mut written = Ok(());
        let mut write = |text: String| {
            if written.is_ok() {
                written = log.write_all(redactor.redact(&text).as_bytes());
            }
        };
        let status = process::run(&mut command, call.stdin.as_bytes(), self.env.cancelled, |pipe, bytes| {
            if call.shown {
                shown.add(pipe, bytes, &mut write);
            }
            match pipe {
                Pipe::Out => out.extend_from_slice(bytes),
                // The log has it, and who reads it here looks for what is said at once.
                Pipe::Err if call.shown && err.len() + bytes.len() > MOST_ERR => {}
                Pipe::Err => err.extend_from_slice(bytes),
            }
            out.len() <= MOST_OUT && err.len() <= MOST_ERR && shown.held() <= MOST_ERR
        });
        let shown_too_long = shown.held() > MOST_ERR;
        shown.rest(&mut write);
        written.map_err(|err| Failure::Failed(format!("cannot write the log: {err}")))?;
        if out.len() > MOST_OUT || err.len() > MOST_ERR || shown_too_long {
            return Err(Failure::Failed(format!(
                "{} {} was ended: it says more than {} MiB, or {} MiB on standard error or in one line",
                call.program,
                call.args.first().map_or("", String::as_str),
                MOST_OUT >> 20,
                MOST_ERR >> 20
            )));
        }
        let status = status.map_err(|err| match err.kind() {
            io::ErrorKind::NotFound => {
                let (program, package) = (call.program, call.program.replace("gpgconf", "gpg"));
                Failure::Failed(format!(
                    "the built-in git type needs the program {program} in the server's PATH: install it, for example \
                     with `apt-get install {package}`, or name an image that does it: --base-resource-type git=IMAGE"
                ))
            }
            _ => Failure::Failed(format!("cannot run {}: {err}", call.program)),
        })?;
        let status = status.ok_or_else(|| Failure::Failed("interrupted".into()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Done { ok: status.success(), stdout: text(&out), stderr: text(&err), status: status.to_string() })
    }

    /// Runs git, which must succeed, and gives its standard output.
    pub fn must(&mut self, call: &Call<'_>) -> Result<String, Failure> {
        let done = self.run(call)?;
        if done.ok { Ok(done.stdout) } else { Err(self.failure(call, &done)) }
    }

    /// What to say of a call that did not succeed; without what the log has already.
    pub fn failure(&self, call: &Call<'_>, done: &Done) -> Failure {
        let name = call.args.first().map_or("", String::as_str);
        let said = if call.shown { String::new() } else { format!("{}\n", done.stderr.trim_end()) };
        let program = call.program;
        let said = match self.relay.as_ref().and_then(Relay::take_failure) {
            Some(why) => format!("{said}{why}\n"),
            None => said,
        };
        Failure::Failed(self.redactor.redact(format!("{said}{program} {name} failed: {}", done.status).trim_start()))
    }

    /// Output of a quiet call without the newline at its end.
    pub fn read<S: AsRef<str>>(&mut self, dir: &Path, args: &[S]) -> Result<String, Failure> {
        let mut text = self.must(&Call::new(dir, args))?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    /// Runs git with what it says in the log; it must succeed.
    pub fn show<S: AsRef<str>>(&mut self, dir: &Path, args: &[S]) -> Result<(), Failure> {
        self.must(&Call::new(dir, args).network().shown()).map(drop)
    }
}

/// Holds back what is not yet a whole line, so that a secret is never split over two redactions.
#[derive(Default)]
struct Lines {
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    fn add(&mut self, pipe: Pipe, bytes: &[u8], write: &mut impl FnMut(String)) {
        let held = if pipe == Pipe::Out { &mut self.out } else { &mut self.err };
        held.extend_from_slice(bytes);
        if let Some(end) = held.iter().rposition(|b| matches!(b, b'\n' | b'\r')) {
            let whole: Vec<u8> = held.drain(..=end).collect();
            write(String::from_utf8_lossy(&whole).into_owned());
        }
    }

    /// Bytes that wait for the end of their line.
    fn held(&self) -> usize {
        self.out.len().max(self.err.len())
    }

    fn rest(self, write: &mut impl FnMut(String)) {
        for held in [self.out, self.err] {
            if !held.is_empty() {
                write(String::from_utf8_lossy(&held).into_owned());
            }
        }
    }
}

/// The lines of `git credential-store`. A login is for the resource's own host; the original would offer it to any
/// host that a submodule names.
fn credentials(source: &Source) -> String {
    let mut text = String::new();
    let mut add = |host: &str, user: &str, password: &str| {
        for scheme in ["https", "http"] {
            text.push_str(&format!("{scheme}://{}:{}@{host}\n", encode(user), encode(password)));
        }
    };
    for login in &source.submodules {
        if let SubmoduleLogin::Host { host, username, password } = login {
            add(host, username, password.expose());
        }
    }
    let address = &source.address;
    let host = address.host.as_deref().filter(|_| address.transport == Transport::Http);
    if let Some(host) = host {
        let given = source.login.as_ref().map(|(user, password)| (user.as_str(), password.expose().as_str()));
        let in_url = address.password.as_ref().map(|p| p.expose().as_str());
        match (&address.user, in_url, given) {
            (Some(user), Some(password), _) => add(host, user, password),
            (Some(user), None, given) => add(host, user, given.map_or("", |(_, password)| password)),
            (None, _, Some((user, password))) => add(host, user, password),
            (None, _, None) => {}
        }
    }
    text
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    create(path, text, 0o600)
}

fn script(path: &Path, text: &str) -> io::Result<()> {
    create(path, text, 0o700)
}

fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;
    use crate::base::clock::Time;
    use crate::resource::Mirror;

    fn with<T>(source: serde_json::Value, f: impl FnOnce(&mut Session<'_, '_>) -> T) -> (T, String) {
        let source = Source::read(source.as_object().unwrap(), false).unwrap();
        let (mut log, build) = (Vec::new(), BTreeMap::new());
        let mut env = Env {
            log: &mut log,
            cache: None,
            allow_local: false,
            cancelled: &|| false,
            build: &build,
            now: Time(0),
            privileged: false,
            mirror: Mirror::Nothing,
            registries: Default::default(),
        };
        let answer = f(&mut Session::open(&source, &mut env).unwrap());
        (answer, String::from_utf8(log).unwrap())
    }

    fn login(source: &serde_json::Value, host: &str) -> Option<(String, String)> {
        let ask = format!("protocol=https\nhost={host}\n\n");
        let (done, _) = with(source.clone(), |session| {
            session.run(&Call { stdin: &ask, ..Call::new(Path::new("/"), &["credential", "fill"]) }).unwrap()
        });
        let find = |key: &str| done.stdout.lines().find_map(|line| line.strip_prefix(key)).map(str::to_owned);
        find("username=").zip(find("password="))
    }

    #[test]
    fn a_login_is_given_to_its_own_host_only() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        let source = json!({"uri": "https://h.example:8443/r", "username": "me@x", "password": "p:/ %@",
            "submodule_credentials": [{"host": "other.example", "username": "o", "password": "p"}]});
        assert_eq!(login(&source, "h.example:8443"), pair("me@x", "p:/ %@"));
        assert_eq!(login(&source, "other.example"), pair("o", "p"));
        assert_eq!(login(&source, "evil.example"), None);
        assert_eq!(login(&json!({"uri": "https://u:in%20url@h/r"}), "h"), pair("u", "in url"));
        assert_eq!(login(&json!({"uri": "git@h:r", "username": "u", "password": "p"}), "h"), None);
    }

    #[test]
    fn secrets_do_not_show_even_where_they_are_split() {
        let source = json!({"uri": "https://h/r", "username": "u", "password": "pass word"});
        let ((), log) = with(source, |session| {
            session.say("it is pass word").unwrap();
            session
                .show(
                    Path::new("/"),
                    &["-c", "alias.x=!printf pass; sleep 0.1; printf ' word%%20'; echo pass%20word", "x"],
                )
                .unwrap();
        });
        assert_eq!(log, "it is ((redacted))\n((redacted))%20((redacted))\n");
    }

    #[test]
    fn what_says_too_much_is_ended() {
        let endless = |command: &str, shown: bool| {
            let alias = format!("alias.x=!{command}");
            with(json!({"uri": "https://h/r"}), |session| {
                let call = Call::new(Path::new("/"), &["-c", &alias, "x"]);
                session.run(&if shown { call.shown() } else { call }).unwrap_err().to_string()
            })
        };
        for (command, shown) in
            [("yes", false), ("yes >&2", false), ("cat /dev/zero", true), ("cat /dev/zero >&2", true)]
        {
            let (error, log) = endless(command, shown);
            assert!(error.contains("was ended: it says more than 64 MiB"), "{command}: {error}");
            assert!(log.len() <= 2 * MOST_ERR, "{command}: {}", log.len());
        }
    }

    #[test]
    fn ssh_uses_the_key_of_the_source_or_none() {
        let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n";
        let source = json!({"uri": "git@h:r", "private_key": key, "private_key_user": "bob"});
        with(source, |session| {
            let home = session.home.path();
            let config = fs::read_to_string(home.join("main.ssh_config")).unwrap();
            assert!(config.contains(&format!("IdentityFile \"{}/main.key\"\nUser bob\n", home.display())), "{config}");
            let mode =
                std::os::unix::fs::PermissionsExt::mode(&home.join("main.key").metadata().unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        });
        with(json!({"uri": "git@h:r"}), |session| {
            let config = fs::read_to_string(session.home.path().join("main.ssh_config")).unwrap();
            assert!(config.contains("IdentityFile none\n"), "{config}");
        });
    }
}
