//! What of the rights that a privileged container asks for this host cannot give.

use std::fs;
use std::path::Path;

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What the log of a privileged step says that this process's host cannot give all it asks for; `None` where it can.
pub fn shortfall() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|n| n.trim().parse().ok());
    let fuse = Path::new("/dev/fuse").exists();
    told(&status, last.unwrap_or(NAMES.len() - 1), nix::unistd::Uid::effective().is_root(), fuse)
}

fn told(status: &str, last: usize, root: bool, fuse: bool) -> Option<String> {
    let mut lacking: Vec<String> = missing(status, last).into_iter().map(|name| format!("CAP_{name}")).collect();
    if !fuse {
        lacking.push("/dev/fuse (modprobe fuse)".to_owned());
    }
    let mut text = match (root, lacking.is_empty()) {
        (true, true) => return None,
        (true, false) => format!("this host cannot give {}", lacking.join(", ")),
        (false, _) => "the server runs as an ordinary user, so capabilities count only for what belongs to the step \
                       (run the server as root, or use Docker)"
            .to_owned(),
    };
    if !root && !fuse {
        text.push_str("; there is no /dev/fuse (modprobe fuse)");
    }
    Some(format!("privileged: {text}"))
}

/// Adds to what is said of rights to mount that their device is not there.
pub fn without_device(text: String) -> String {
    let fuse = Path::new("/dev/fuse").exists();
    if fuse { text } else { format!("{text}; this host has no /dev/fuse to give (modprobe fuse)") }
}

/// Names of the capabilities that the kernel has and this process can never pass on.
fn missing(status: &str, last: usize) -> Vec<&'static str> {
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let Some(bounding) = bounding.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) else { return Vec::new() };
    NAMES.iter().enumerate().take(last + 1).filter(|(n, _)| bounding & (1 << n) == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let status = |bounding: &str| format!("Name:\tx\nCapBnd:\t{bounding}\nCapAmb:\t0\n");
        assert_eq!(told(&status("000001ffffffffff"), 40, true, true), None);
        assert_eq!(
            told(&status("000001fffeffffff"), 40, true, true).unwrap(),
            "privileged: this host cannot give CAP_SYS_RESOURCE"
        );
        assert!(told(&status("000001ffffffffff"), 40, true, false).unwrap().contains("/dev/fuse"));
        assert_eq!(missing(&status("0000003fffffffff"), 37), Vec::<&str>::new(), "of an older kernel");
        let user = told(&status("000001ffffffffff"), 40, false, true).unwrap();
        assert!(user.contains("ordinary user") && !user.contains("fuse"), "{user}");
    }
}
