//! Which system calls a step may make.
//!
//! A list of what is refused, and not Concourse's list of what is allowed: a call of a newer kernel that nobody has judged
//! yet is a call of a newer kernel's programs as well. The list holds for each of the processor's interfaces, since programs
//! of 32 bits run as they do on Concourse.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// Calls that give power over the host or show other tenants: refused with EPERM, as in Docker.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[i64] = &[libc::SYS_ioperm, libc::SYS_iopl, libc::SYS_uselib, libc::SYS_ustat, libc::SYS_sysfs];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[i64] = &[];

const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// What those need who may mount in their own user namespace.
const MOUNTING: &[i64] = &[
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
];

/// The filter for containers without all rights.
pub fn filter(with_mounts: bool) -> io::Result<BpfProgram> {
    build(with_mounts).map_err(io::Error::other)
}

fn build(with_mounts: bool) -> Result<BpfProgram, seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = REFUSED.iter().chain(REFUSED_HERE).filter(|call| !(with_mounts && MOUNTING.contains(call)));
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = refused.map(|call| (*call, Vec::new())).collect();
    let mut with_namespace = Vec::new();
    for bit in (0..64).map(|n| 1u64 << n).filter(|bit| NAMESPACES & bit != 0) {
        let set = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(bit), bit)?;
        with_namespace.push(SeccompRule::new(vec![set])?);
    }
    if !with_mounts {
        rules.insert(libc::SYS_clone, with_namespace);
    }
    // TIOCSTI would put words into the mouth of whoever shares the terminal; vsock reaches the hypervisor.
    let argument = |index, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![argument(1, libc::TIOCSTI)?])?]);
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![argument(0, libc::AF_VSOCK as u64)?])?]);
    if cfg!(target_arch = "x86_64") {
        for (call, other) in X32 {
            let same = rules.get(call).cloned();
            rules.extend(same.map(|same| (*other, same)));
        }
        let again = rules.iter().map(|(call, rule)| (call | i64::from(X32_BIT), rule.clone()));
        rules.extend(again.collect::<Vec<_>>());
    }
    let refuse = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32), arch)?;
    let refuse: BpfProgram = refuse.try_into()?;
    let compat = if cfg!(target_arch = "x86_64") { beside(i386(with_mounts)) } else { Vec::new() };
    Ok(compat.into_iter().chain(prefix()).chain(refuse).collect())
}

/// The mark of the x32 interface on a number that is otherwise the usual one.
const X32_BIT: u32 = 0x4000_0000;
/// Usual numbers of refused calls that have another one there; old kernels take those without the mark as well.
const X32: &[(i64, i64)] = &[(16, 514), (246, 528), (279, 533)];

/// Where the kernel's description of a call has the number, the interface and the lower half of an argument.
const NUMBER: u32 = 0;
const INTERFACE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

fn load(offset: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset }
}

fn give(answer: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: answer }
}

/// Goes on with the next instruction if `test` holds for `k`, and otherwise skips some.
fn unless(test: u32, k: u32, skip: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: 0, jf: skip, k }
}

/// What one list cannot say, since it has one answer: `clone3` hides its flags behind a pointer, so it must seem
/// not to exist (C libraries then fall back to `clone`).
fn prefix() -> Vec<sock_filter> {
    let unmarked =
        sock_filter { code: (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16, jt: 0, jf: 0, k: !X32_BIT };
    vec![load(NUMBER), unmarked, unless(libc::BPF_JEQ, libc::SYS_clone3 as u32, 1), give(ENOSYS)]
}

/// A program for calls of the 32-bit interface, to stand before one for all others.
fn beside(program: Vec<sock_filter>) -> Vec<sock_filter> {
    const I386: u32 = 3 | 0x4000_0000;
    let over = u32::try_from(program.len()).unwrap_or_default();
    let skip = sock_filter { code: (libc::BPF_JMP | libc::BPF_JA) as u16, jt: 0, jf: 0, k: over };
    let is_other = sock_filter { jt: 1, ..unless(libc::BPF_JEQ, I386, 0) };
    [load(INTERFACE), is_other, skip].into_iter().chain(program).collect()
}

/// The refused calls by their numbers there, and those that only exist there (`stime`, `vm86`, clocks of 64 bits).
const REFUSED_I386: &[u32] = &[
    25, 51, 62, 74, 79, 86, 87, 88, 101, 103, 110, 111, 113, 115, 121, 127, 128, 129, 130, 131, 134, 135, 149, 166,
    167, 169, 253, 264, 283, 286, 287, 288, 317, 336, 338, 341, 342, 343, 350, 357, 374, 404, 405, 425, 426, 427, 440,
    443,
];
/// Those of them that belong to mounting, `umount` included.
const MOUNTING_I386: &[u32] = &[21, 22, 52, 217, 310, 346, 428, 429, 430, 431, 432, 433, 442];

/// The same for programs of 32 bits. What goes through `socketcall` is behind a pointer and cannot be judged; programs
/// of that age know no other way to a socket, so it stays open, as on Concourse.
fn i386(with_mounts: bool) -> Vec<sock_filter> {
    const CLONE: u32 = 120;
    const CLONE3: u32 = 435;
    const IOCTL: u32 = 54;
    const SOCKET: u32 = 359;
    let equal = |value| move |skip| unless(libc::BPF_JEQ, value, skip);
    let mut program = vec![load(NUMBER)];
    let mounting = if with_mounts { &[] } else { MOUNTING_I386 };
    for call in REFUSED_I386.iter().chain(mounting) {
        program.extend([equal(*call)(1), give(EPERM)]);
    }
    program.extend([equal(CLONE3)(1), give(ENOSYS)]);
    let mut judged = |call, index, bad: sock_filter| {
        program.extend([equal(call)(4), load(argument(index)), bad, give(EPERM), give(libc::SECCOMP_RET_ALLOW)]);
    };
    if !with_mounts {
        judged(CLONE, 0, unless(libc::BPF_JSET, NAMESPACES as u32, 1));
    }
    judged(IOCTL, 1, equal(libc::TIOCSTI as u32)(1));
    judged(SOCKET, 0, equal(libc::AF_VSOCK as u32)(1));
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    const USUAL: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;

    /// What the kernel would do.
    fn judge(program: &[sock_filter], interface: u32, number: u32, first: u64, second: u64) -> u32 {
        let mut data = [0u8; 64];
        data[..4].copy_from_slice(&number.to_ne_bytes());
        data[4..8].copy_from_slice(&interface.to_ne_bytes());
        data[16..24].copy_from_slice(&first.to_ne_bytes());
        data[24..32].copy_from_slice(&second.to_ne_bytes());
        let (mut at, mut value) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let k = step.k;
            let mut jump = |holds: bool| at += usize::from(if holds { step.jt } else { step.jf });
            match step.code {
                0x20 => value = u32::from_ne_bytes(data[k as usize..][..4].try_into().unwrap()),
                0x54 => value &= k,
                0x05 => at += k as usize,
                0x15 => jump(value == k),
                0x25 => jump(value > k),
                0x35 => jump(value >= k),
                0x45 => jump(value & k != 0),
                0x06 => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn every_interface_refuses_the_same() {
        let (usual, mounting) = (filter(false).unwrap(), filter(true).unwrap());
        assert!(usual.len() < 2048, "{}", usual.len());
        let allow = libc::SECCOMP_RET_ALLOW;
        let x32 = |number| X32_BIT | number;
        let user = libc::CLONE_NEWUSER as u64;
        let sti = libc::TIOCSTI;
        for (what, interface, number, first, second, answer, for_mounting) in [
            ("write", USUAL, 1, 1, 0, allow, allow),
            ("write", USUAL, x32(1), 1, 0, allow, allow),
            ("write", I386, 4, 1, 0, allow, allow),
            ("mount", USUAL, 165, 0, 0, EPERM, allow),
            ("mount", USUAL, x32(165), 0, 0, EPERM, allow),
            ("mount", I386, 21, 0, 0, EPERM, allow),
            ("umount", I386, 22, 0, 0, EPERM, allow),
            // Number 165 is a harmless one there.
            ("getresuid", I386, 165, 0, 0, allow, allow),
            ("bpf", USUAL, 321, 0, 0, EPERM, EPERM),
            ("bpf", USUAL, x32(321), 0, 0, EPERM, EPERM),
            ("bpf", I386, 357, 0, 0, EPERM, EPERM),
            ("clone3", USUAL, 435, 0, 0, ENOSYS, ENOSYS),
            ("clone3", USUAL, x32(435), 0, 0, ENOSYS, ENOSYS),
            ("clone3", I386, 435, 0, 0, ENOSYS, ENOSYS),
            ("clone", USUAL, 56, 17, 0, allow, allow),
            ("clone", I386, 120, 17, 0, allow, allow),
            ("clone into a namespace", USUAL, 56, user | 17, 0, EPERM, allow),
            ("clone into a namespace", USUAL, x32(56), user | 17, 0, EPERM, allow),
            ("clone into a namespace", I386, 120, user | 17, 0, EPERM, allow),
            ("unshare", I386, 310, user, 0, EPERM, allow),
            ("ioctl", I386, 54, 0, 0x5401, allow, allow),
            ("TIOCSTI", USUAL, 16, 0, sti, EPERM, EPERM),
            ("TIOCSTI", USUAL, x32(514), 0, sti, EPERM, EPERM),
            ("TIOCSTI", USUAL, 514, 0, sti, EPERM, EPERM),
            ("TIOCSTI", I386, 54, 0, sti, EPERM, EPERM),
            ("a vsock", USUAL, 41, 40, 0, EPERM, EPERM),
            ("a vsock", I386, 359, 40, 0, EPERM, EPERM),
            ("a socket", I386, 359, 2, 0, allow, allow),
            ("socketcall", I386, 102, 1, 0, allow, allow),
            ("ipc", I386, 117, 1, 0, allow, allow),
            ("clock_settime", I386, 404, 0, 0, EPERM, EPERM),
        ] {
            let judged = judge(&usual, interface, number, first, second);
            assert_eq!(judged, answer, "{what} ({number}) of {interface:#x}");
            let judged = judge(&mounting, interface, number, first, second);
            assert_eq!(judged, for_mounting, "{what} ({number}) of {interface:#x}, with mounts");
        }
        // No other interface exists, and whoever claims one is ended.
        assert_eq!(judge(&usual, 0x4000_0028, 4, 0, 0), libc::SECCOMP_RET_KILL_PROCESS);
    }
}
