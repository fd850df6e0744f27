//! What a step may do: capabilities, the system-call filter, and a user namespace that takes root its power over the host.
//!
//! Unprivileged means Concourse's fourteen capabilities in a user namespace of its own.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use seccompiler::BpfProgram;

use crate::runtime::Privilege;
use crate::runtime::supervisor::process::Confine;

/// AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID
/// SYS_CHROOT.
const CAPABILITIES: u64 = 0xa804_25fb;
const SYS_ADMIN: u64 = 1 << 21;

/// How the processes of one container are confined.
pub struct Confinement {
    /// Joined by each process; `None` if they stay where the supervisor is.
    pub user_namespace: Option<OwnedFd>,
    /// Mounts that belong to that user namespace, for those who may mount.
    pub mounts: Option<OwnedFd>,
    /// The cgroup its processes are born in, where the host has one for all.
    pub cradle: Option<OwnedFd>,
    /// Files by which a process joins its cgroups.
    pub cgroups: Vec<File>,
    /// `None` for privileged containers.
    pub filter: Option<BpfProgram>,
    /// What is left of the capabilities; `None` for all.
    pub capabilities: Option<u64>,
    /// Open files of each process.
    pub open_files: Option<u64>,
    /// Processes in the container, where there is no cgroup to count them: the kernel counts those of a user namespace.
    pub processes: Option<u64>,
    /// Programs cannot gain rights by set-user-id files.
    pub no_new_privileges: bool,
}

/// Those of a container's root; `None` for all.
pub fn capabilities(privilege: Privilege) -> Option<u64> {
    match privilege {
        Privilege::Usual => Some(CAPABILITIES),
        Privilege::Fuse => Some(CAPABILITIES | SYS_ADMIN),
        Privilege::All => None,
    }
}

impl Confine for Confinement {
    fn cradle(&self) -> Option<BorrowedFd<'_>> {
        self.cradle.as_ref().map(AsFd::as_fd)
    }

    /// Applies it to the calling process, which must be about to run the program.
    fn enter(&self, born_in_cradle: bool) -> io::Result<()> {
        if !born_in_cradle {
            for mut group in &self.cgroups {
                group.write_all(b"0")?;
            }
        }
        // What it sees of cgroups begins with its own. Kernels without it show the path of that.
        unshare(CloneFlags::CLONE_NEWCGROUP).ok();
        set_oom_score("0");
        if let Some(namespace) = &self.user_namespace {
            // Beyond what the caller has itself only while it still has all its rights.
            self.limit_files()?;
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER)?;
        } else {
            self.limit_files()?;
        }
        if let Some(mounts) = &self.mounts {
            setns(mounts.as_fd(), CloneFlags::CLONE_NEWNS)?;
        }
        self.limit_processes();
        if self.no_new_privileges {
            // SAFETY: plain integers.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        }
        if let Some(filter) = &self.filter {
            install(filter)?;
        }
        self.capabilities.map_or(Ok(()), limit_capabilities)
    }
}

impl Confinement {
    fn limit_processes(&self) {
        let Some(most) = self.processes else { return };
        let resource = nix::sys::resource::Resource::RLIMIT_NPROC;
        // A tighter bound of the server's own stays.
        nix::sys::resource::setrlimit(resource, most, most).ok();
    }

    fn limit_files(&self) -> io::Result<()> {
        let Some(most) = self.open_files else { return Ok(()) };
        let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
        // An ordinary user cannot go beyond what he has.
        let (_, hard) = nix::sys::resource::getrlimit(resource)?;
        let most = if nix::unistd::Uid::effective().is_root() { most } else { most.min(hard) };
        nix::sys::resource::setrlimit(resource, most, most).or_else(|_| {
            let most = most.min(hard);
            nix::sys::resource::setrlimit(resource, most, most)
        })?;
        Ok(())
    }
}

/// Sets how readily the kernel ends this process when memory runs out.
pub fn set_oom_score(score: &str) {
    // Lowering it needs a right we may not have; it is a help, not a need.
    std::fs::write("/proc/self/oom_score_adj", score).ok();
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn limit_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..64 {
        // SAFETY: plain integers. The first capability that the kernel does not know ends the list.
        if keep & (1 << capability) == 0
            && unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } < 0
        {
            match io::Error::last_os_error() {
                e if e.raw_os_error() == Some(libc::EINVAL) => break,
                e => return Err(e),
            }
        }
    }
    let header = CapHeader { version: 0x2008_0522, pid: 0 };
    let half = |bits: u64| CapData { effective: bits as u32, permitted: bits as u32, inheritable: bits as u32 };
    let data = [half(keep & 0xffff_ffff), half(keep >> 32)];
    // SAFETY: pointers to structs of the kernel's layout, of the size that this version names.
    if unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Not `seccompiler::apply_filter`, which sets no_new_privs; Concourse leaves that off, so `sudo` works in steps.
pub fn install(filter: &BpfProgram) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program lives through the call, and the kernel only reads it.
    if unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Keeps this process and all it starts from abstract unix sockets of the host, which the shared network would
/// otherwise show it (some daemons trust whoever is root there). Kernels before 6.12 cannot, so this may do nothing.
pub fn leave_abstract_sockets() {
    const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
    // Access to files, access to the network, scope.
    let ruleset: [u64; 3] = [0, 0, SCOPE_ABSTRACT_UNIX_SOCKET];
    // SAFETY: a pointer to a struct of the size given; then plain integers and a descriptor of ours.
    unsafe {
        let fd = libc::syscall(libc::SYS_landlock_create_ruleset, ruleset.as_ptr(), size_of_val(&ruleset), 0);
        if fd >= 0 {
            libc::syscall(libc::SYS_landlock_restrict_self, fd, 0);
            libc::close(fd as i32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourteen_are_those_recorded() {
        assert_eq!(CAPABILITIES.count_ones(), 14);
    }
}
