//! `whistlestop user`: local users in the state directory, added and changed while the server runs.

use std::collections::BTreeSet;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::said;
use crate::base::clock::{Clock, System};
use crate::login::{LocalUser, check_name, hash_password, verify_password};
use crate::store::Store;
use crate::store::audit::AuditEntry;
use crate::store::local_user::UserChange;

/// Users who sign in with a password. A running server knows of each change at once.
#[derive(Debug, Args)]
pub struct User {
    /// The server's state directory
    #[arg(long, global = true, value_name = "DIR", env = "WHISTLESTOP_STATE_DIR", default_value = "whistlestop-state")]
    state_dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add a user; the password is asked for, or read from standard input
    Add {
        /// The name to sign in with
        #[arg(required_unless_present = "file", conflicts_with = "file")]
        name: Option<String>,
        /// Add or change many: a file with a line NAME:PASSWORD for each, plain or as bcrypt or argon2 hash (- for
        /// standard input)
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Remove users and sign them out
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Set another password; whoever signed in with the old one is signed out
    Passwd {
        /// Whose
        name: String,
    },
    /// List users
    Ls,
}

/// Runs the command.
pub fn run(user: &User) -> anyhow::Result<()> {
    let desk = Desk::open(&user.state_dir)?;
    match &user.command {
        Command::Add { file: Some(file), .. } => desk.add_many(file),
        Command::Add { name, .. } => desk.add(name.as_deref().unwrap_or_default()),
        Command::Rm { names } => names.iter().try_for_each(|name| desk.remove(name)),
        Command::Passwd { name } => desk.set_password(name),
        Command::Ls => desk.list(),
    }
}

/// The database, and who changes it.
struct Desk {
    store: Store,
    clock: System,
    operator: String,
}

impl Desk {
    fn open(directory: &Path) -> anyhow::Result<Desk> {
        anyhow::ensure!(
            directory.join("state.db").exists(),
            "there is no server's state in {}; start the server once, or name its directory with --state-dir",
            directory.display()
        );
        let store =
            Store::open(directory).with_context(|| format!("cannot open the database in {}", directory.display()))?;
        let known = ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|n| std::env::var(n).ok());
        Ok(Desk { store, clock: System, operator: known.unwrap_or_else(|| "root".to_owned()) })
    }

    /// One change, and its row in the audit trail.
    fn change(
        &self,
        action: &str,
        name: &str,
        change: impl FnOnce(&crate::store::WriteTx<'_>) -> crate::store::Result<UserChange>,
    ) -> anyhow::Result<()> {
        let entry = AuditEntry {
            at: self.clock.now().0,
            action: action.to_owned(),
            user: self.operator.clone(),
            connector: "command line".to_owned(),
            object: format!("user {name}"),
            parameters: serde_json::json!({}),
            status: 200,
            ..AuditEntry::default()
        };
        let made = self.store.write_blocking(|tx| {
            let made = change(tx)?;
            if made == UserChange::Done {
                tx.add_audit_entry(&entry)?;
            }
            Ok(made)
        })?;
        match made {
            UserChange::Done => Ok(()),
            UserChange::Taken => anyhow::bail!("there is a user {name} already; change the password with passwd"),
            UserChange::NotFound => anyhow::bail!("there is no user {name}; see `whistlestop user ls`"),
            UserChange::ByFlag => {
                anyhow::bail!("{name} is named by the server's flag --add-local-user; change the flag and start again")
            }
        }
    }

    fn add(&self, name: &str) -> anyhow::Result<()> {
        check_name(name)?;
        if let Some(there) = self.store.read_blocking(|tx| tx.local_user(name))? {
            let by_flag = if there.hash.is_none() { " by the server's flag --add-local-user" } else { "" };
            anyhow::bail!("there is a user {name} already{by_flag}");
        }
        let hash = hash_password(&new_password(name)?);
        self.change("AddLocalUser", name, |tx| tx.add_local_user(name, &hash, self.clock.now()))?;
        say(&format!("added {name}"))
    }

    fn set_password(&self, name: &str) -> anyhow::Result<()> {
        let known = self.store.read_blocking(|tx| tx.local_user(name))?;
        anyhow::ensure!(known.is_some(), "there is no user {name}; add them with `whistlestop user add {name}`");
        let hash = hash_password(&new_password(name)?);
        self.change("SetLocalPassword", name, |tx| tx.set_local_password(name, &hash, self.clock.now()))?;
        say(&format!("changed {name}"))
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.change("RemoveLocalUser", name, |tx| tx.remove_local_user(name))?;
        say(&format!("removed {name}"))
    }

    fn list(&self) -> anyhow::Result<()> {
        for user in self.store.read_blocking(|tx| tx.local_users())? {
            let by = if user.hash.is_some() { "" } else { "  (by --add-local-user)" };
            say(&format!("{}{by}", user.name))?;
        }
        Ok(())
    }

    /// Adds who is new and changes whose password is another; the file is checked whole before anything is done.
    fn add_many(&self, file: &Path) -> anyhow::Result<()> {
        let text = if file == Path::new("-") {
            std::io::read_to_string(std::io::stdin())?
        } else {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        };
        let users = users(&text).with_context(|| file.display().to_string())?;
        let (mut added, mut changed, mut same) = (0, 0, 0);
        for user in users {
            let name = user.name();
            let known = self.store.read_blocking(|tx| tx.local_user(name))?;
            match known.and_then(|row| row.hash) {
                Some(hash) if user.is_as(&hash, verify_password) => same += 1,
                Some(_) => {
                    let hash = user.hash();
                    let now = self.clock.now();
                    self.change("SetLocalPassword", name, |tx| tx.set_local_password(name, &hash, now))?;
                    changed += 1;
                }
                None => {
                    let hash = user.hash();
                    self.change("AddLocalUser", name, |tx| tx.add_local_user(name, &hash, self.clock.now()))?;
                    added += 1;
                }
            }
        }
        say(&format!("{added} added, {changed} changed, {same} as they were"))
    }
}

/// The users of a file: a line each, but for empty ones and those that begin with `#`.
fn users(text: &str) -> anyhow::Result<Vec<LocalUser>> {
    let mut seen = BTreeSet::new();
    let lines = text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .map(|(n, line)| {
            let user = LocalUser::from_str(line.trim_end_matches('\r')).with_context(|| format!("line {}", n + 1))?;
            let twice = !seen.insert(user.name().to_lowercase());
            anyhow::ensure!(!twice, "line {}: {} is named a second time", n + 1, user.name());
            Ok(user)
        })
        .collect()
}

fn say(line: &str) -> anyhow::Result<()> {
    said::line(line)
}

/// Asks for a password twice, without showing it; from a pipe, takes its first line.
fn new_password(name: &str) -> anyhow::Result<String> {
    let password = if std::io::stdin().is_terminal() {
        let first = hidden(&format!("password of {name}: "))?;
        anyhow::ensure!(first == hidden("once more: ")?, "the two passwords differ; nothing was changed");
        first
    } else {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    };
    anyhow::ensure!(!password.is_empty(), "the password is empty; nothing was changed");
    Ok(password)
}

/// Reads a line from the terminal while it shows nothing.
fn hidden(question: &str) -> anyhow::Result<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let stdin = std::io::stdin();
    let _ = write!(std::io::stderr(), "{question}");
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&stdin, SetArg::TCSANOW, &silent)?;
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    tcsetattr(&stdin, SetArg::TCSANOW, &before)?;
    let _ = writeln!(std::io::stderr());
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_users_and_its_mistakes_are_told_by_line() {
        let read = |text: &str| {
            let found = users(text).map_err(|e| format!("{e:#}"))?;
            Ok::<_, String>(found.iter().map(|u| u.name().to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read("# trainees\nann:a\r\n\nbob:$weird\n").unwrap(), ["ann", "bob"]);
        assert!(read("ann:a\nbob").unwrap_err().starts_with("line 2: a local user is written"));
        assert_eq!(read("ann:a\nAnn:b").unwrap_err(), "line 2: Ann is named a second time");
    }
}
