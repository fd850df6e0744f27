//! The name of a container's host, given from outside: a container that joins another's network cannot be made with one.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use bollard::models::ContainerInspectResponse;
use nix::sched::{CloneFlags, setns};

use crate::runtime::network::link;

/// Names the host of a process, if it is one of the container with that id.
pub fn give(process: i64, container: &str, name: String) -> io::Result<()> {
    let namespace = link::namespace_of(process, container, "uts")?;
    link::aside(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWUTS)?;
        Ok(nix::unistd::sethostname(name)?)
    })
}

/// The files with names and addresses that an engine shares between all containers of one network namespace, as they
/// were made.
#[derive(Debug, Default)]
pub struct Files {
    /// What the host was called then.
    host: String,
    hostname: PathBuf,
    hosts: (PathBuf, String),
    resolv: (PathBuf, String),
}

impl Files {
    /// Of a container that has just been started, if its engine is on this host.
    pub fn of(container: &ContainerInspectResponse) -> io::Result<Files> {
        let state = container.state.as_ref();
        let process = state.and_then(|state| state.pid).unwrap_or_default();
        link::namespace_of(process, container.id.as_deref().unwrap_or_default(), "net")?;
        let path = |path: &Option<String>| {
            let path = path.as_deref().filter(|path| !path.is_empty()).map(PathBuf::from);
            path.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the engine does not tell where its files are"))
        };
        let read = |path: PathBuf| std::fs::read_to_string(&path).map(|text| (path, text));
        let config = container.config.as_ref();
        Ok(Files {
            host: config.and_then(|config| config.hostname.clone()).unwrap_or_default(),
            hostname: path(&container.hostname_path)?,
            hosts: read(path(&container.hosts_path)?)?,
            resolv: read(path(&container.resolv_conf_path)?)?,
        })
    }

    /// Makes them anew, with another name of the host: whoever was there before may have written what he likes.
    pub fn write(&self, host: &str) -> io::Result<()> {
        replace(&self.hostname, &format!("{host}\n"))?;
        replace(&self.hosts.0, &renamed(&self.hosts.1, &self.host, host))?;
        replace(&self.resolv.0, &self.resolv.1)
    }
}

/// A new file in place of one, with nothing of its owner, mode or size.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let beside = path.with_extension("whistlestop");
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644))?;
    std::fs::rename(&beside, path)
}

/// The lines of a file of hosts, with one name for another.
fn renamed(hosts: &str, before: &str, name: &str) -> String {
    let line = |line: &str| {
        if before.is_empty() || !line.split_whitespace().any(|word| word == before) {
            return format!("{line}\n");
        }
        let words = line.split_whitespace().map(|word| if word == before { name } else { word });
        format!("{}\n", words.collect::<Vec<_>>().join("\t"))
    };
    hosts.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_renamed_in_whole_words() {
        let hosts = "127.0.0.1\tlocalhost\n172.18.0.2\ta1 a11\n";
        assert_eq!(renamed(hosts, "a1", "b7-1"), "127.0.0.1\tlocalhost\n172.18.0.2\tb7-1\ta11\n");
    }

    #[test]
    fn nothing_of_an_earlier_borrower_stays() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let files = Files {
            host: "a1".into(),
            hostname: at("hostname"),
            hosts: (at("hosts"), "172.18.0.2\ta1\n".into()),
            resolv: (at("resolv.conf"), "nameserver 127.0.0.11\n".into()),
        };
        for name in ["hostname", "hosts", "resolv.conf"] {
            std::fs::write(at(name), "6.6.6.6 github.com\n").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        files.write("b7-1").unwrap();
        let texts = ["hostname", "hosts", "resolv.conf"].map(|name| std::fs::read_to_string(at(name)).unwrap());
        assert_eq!(texts, ["b7-1\n", "172.18.0.2\tb7-1\n", "nameserver 127.0.0.11\n"]);
        assert_eq!(std::fs::metadata(at("hosts")).unwrap().permissions().mode() & 0o777, 0o644);
    }
}
