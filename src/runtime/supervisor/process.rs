//! Starts one process in the container that the caller already is in: terminal or pipes, user, directory, program.
//!
//! The caller has one thread, so the child may do ordinary work between fork and exec.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid};

use super::account::{self, Account};
use super::{ownership, program};
use crate::runtime::{Exit, Process, Stream, WindowSize};

/// A process that was started.
#[derive(Debug)]
pub struct Running {
    /// Its id in our namespace.
    pub pid: Pid,
    /// Where its output is read, with the stream it counts as. Not blocking.
    pub outputs: Vec<(Stream, OwnedFd)>,
    /// Where its input is written. Not blocking. With a terminal this is the same terminal as the output.
    pub input: Option<OwnedFd>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// What a caller adds to a start.
pub struct Surroundings<'a> {
    /// Whether a missing working directory is made.
    pub make_dir: bool,
    /// What confines the child.
    pub confine: &'a dyn Confine,
}

/// Cgroups, namespaces and capabilities of a process.
pub trait Confine {
    /// The one cgroup it is to be born in, where there is but one. Going there later costs some ten milliseconds.
    fn cradle(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Runs in the child, as root of the container, before its user is taken on.
    fn enter(&self, born_in_cradle: bool) -> io::Result<()>;
}

/// Confines nothing: the engine has done it.
pub struct Free;

impl Confine for Free {
    fn enter(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel's; libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks, into a cgroup if one is given and the kernel can; the child learns whether it was born there.
fn fork(cradle: Option<BorrowedFd<'_>>) -> nix::Result<(ForkResult, bool)> {
    if let Some(group) = cradle {
        // SAFETY: all zeroes is a value of this plain structure.
        let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
        args.flags = CLONE_INTO_CGROUP;
        args.exit_signal = libc::SIGCHLD as u64;
        args.cgroup = group.as_raw_fd() as u64;
        // SAFETY: without a stack and without shared memory it is a fork; this process has one thread.
        match unsafe { libc::syscall(libc::SYS_clone3, &args, size_of::<libc::clone_args>()) } {
            0 => return Ok((ForkResult::Child, true)),
            pid if pid > 0 => {
                let child = Pid::from_raw(i32::try_from(pid).map_err(|_| nix::Error::EOVERFLOW)?);
                return Ok((ForkResult::Parent { child }, true));
            }
            // An old kernel, or a group that is full, which one may enter all the same.
            _ => {}
        }
    }
    // SAFETY: this process has one thread, so the child's copy of every lock is free.
    unsafe { nix::unistd::fork() }.map(|result| (result, false))
}

/// Starts `process`; the error says why that cannot be.
pub fn start(process: &Process, surroundings: &Surroundings<'_>) -> Result<Running, Exit> {
    let (account, gives) = account_of(process)?;
    let dir = if process.dir.is_empty() { "/" } else { &process.dir };
    if surroundings.make_dir {
        fs::create_dir_all(work_directory(dir)).ok();
    }
    let (near, far) = connect(process.tty, account.uid).map_err(|e| failed("cannot open its terminal or pipes", &e))?;
    let (mut report, child_report) = pipe().map_err(|e| failed("cannot open a pipe", &e))?;
    let (made, born) = fork(surroundings.confine.cradle()).map_err(|e| failed("cannot fork", &e.into()))?;
    match made {
        ForkResult::Child => {
            let confine = || surroundings.confine.enter(born);
            let owns = if gives { process.owns.as_slice() } else { &[] };
            let owned =
                ownership::give(owns, &account).map_err(|message| Exit::NotStarted { message, not_found: false });
            let error = match owned.and_then(|()| child(process, dir, &account, &far, &confine)) {
                Ok(never) => match never {},
                Err(e) => e,
            };
            let text = serde_json::to_vec(&error).unwrap_or_default();
            fs::File::from(child_report).write_all(&text).ok();
            // SAFETY: nothing of the parent's may run in the child: no destructors, no buffers.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop((far, child_report));
            let mut text = Vec::new();
            report.read_to_end(&mut text).map_err(|e| failed("cannot hear from the new process", &e))?;
            if text.is_empty() {
                return Ok(Running { pid: child, ..near });
            }
            nix::sys::wait::waitpid(child, None).ok();
            Err(serde_json::from_slice(&text).map_err(|e| failed("the new process died early", &e.into()))?)
        }
    }
}

/// Who a process runs as, and whether files to be his go to him: not to root, and to nobody whom the container does not
/// tell of.
fn account_of(process: &Process) -> Result<(Account, bool), Exit> {
    let (passwd, group) = (fs::read("/etc/passwd"), fs::read("/etc/group"));
    let root = matches!(process.user.as_deref(), None | Some("" | "root"));
    let gives = !root && passwd.is_ok() && group.is_ok();
    let text = |read: io::Result<Vec<u8>>| String::from_utf8_lossy(&read.unwrap_or_default()).into_owned();
    let account = account::find(process.user.as_deref(), &text(passwd), &text(group))
        .map_err(|message| Exit::NotStarted { message, not_found: false })?;
    Ok((account, gives))
}

/// Where steps work: below it each has a directory of its own.
const BUILD: &str = "/tmp/build/";

/// What of a working directory is made where it is missing: a step's own directory, but not what lies below it, which
/// only inputs and outputs bring.
fn work_directory(dir: &str) -> &str {
    let below = dir.strip_prefix(BUILD).and_then(|rest| rest.find('/'));
    below.map_or(dir, |at| &dir[..BUILD.len() + at])
}

fn failed(what: &str, error: &io::Error) -> Exit {
    Exit::NotStarted { message: format!("{what}: {error}"), not_found: false }
}

/// The child's ends: standard input, output and error.
struct Far {
    fds: [OwnedFd; 3],
    terminal: bool,
}

fn pipe() -> io::Result<(fs::File, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    Ok((read.into(), write))
}

fn connect(tty: Option<WindowSize>, uid: u32) -> io::Result<(Running, Far)> {
    let nobody = Pid::from_raw(0);
    if let Some(size) = tty {
        let (master, slave) = open_terminal(size, uid)?;
        let input = master.try_clone()?;
        let near = Running { pid: nobody, outputs: vec![(Stream::Stdout, master)], input: Some(input), terminal: true };
        return Ok((near, Far { fds: [slave.try_clone()?, slave.try_clone()?, slave], terminal: true }));
    }
    let (stdin, input) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (out, stdout) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let (err, stderr) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    for fd in [&out, &err, &input] {
        set_nonblocking(fd)?;
    }
    for fd in [&out, &err] {
        // Fewer wake-ups for a process that writes much; the default is what we get where this is not allowed.
        fcntl(fd, FcntlArg::F_SETPIPE_SZ(256 << 10)).ok();
    }
    let outputs = vec![(Stream::Stdout, out), (Stream::Stderr, err)];
    let near = Running { pid: nobody, outputs, input: Some(input), terminal: false };
    Ok((near, Far { fds: [stdin, stdout, stderr], terminal: false }))
}

fn open_terminal(size: WindowSize, uid: u32) -> io::Result<(OwnedFd, OwnedFd)> {
    let open = |path: &str| nix::fcntl::open(path, OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty());
    let master = open("/dev/pts/ptmx").or_else(|_| open("/dev/ptmx"))?;
    let unlock: libc::c_int = 0;
    // SAFETY: both calls take plain integers, the first through a pointer that lives long enough.
    let slave = unsafe {
        if libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) < 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        match libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) {
            fd if fd < 0 => return Err(io::Error::last_os_error()),
            fd => OwnedFd::from_raw_fd(fd),
        }
    };
    resize(&master, size);
    nix::unistd::fchown(&slave, Some(uid.into()), None).ok();
    set_nonblocking(&master)?;
    Ok((master, slave))
}

/// Gives a terminal another size.
pub fn resize(terminal: &impl AsRawFd, size: WindowSize) {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointer is to a whole struct of the kind the call reads.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size) };
}

/// Makes reads and writes return at once.
pub fn set_nonblocking(fd: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Everything in the child up to exec.
fn child(
    process: &Process,
    dir: &str,
    account: &Account,
    far: &Far,
    confine: &dyn Fn() -> io::Result<()>,
) -> Result<Infallible, Exit> {
    let fail = |what: &str| {
        let what = what.to_owned();
        move |e: nix::Error| failed(&what, &e.into())
    };
    restore_signals().map_err(fail("cannot restore signals"))?;
    nix::unistd::setsid().map_err(fail("cannot start a session"))?;
    go_first_where_memory_ends();
    for (number, fd) in far.fds.iter().enumerate() {
        // SAFETY: plain integers; the numbers 0 to 2 are ours to replace.
        if unsafe { libc::dup2(fd.as_raw_fd(), number as RawFd) } < 0 {
            return Err(failed("cannot connect its input and output", &io::Error::last_os_error()));
        }
    }
    if far.terminal {
        // SAFETY: plain integers.
        unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
    }
    umask(Mode::from_bits_truncate(0o022));
    raise_files();
    confine().map_err(|e| failed("cannot confine it", &e))?;
    become_user(account)?;
    std::env::set_current_dir(dir).map_err(|e| {
        let message = format!("chdir to cwd ({dir:?}) set in config.json failed: {}", program::reason(&e));
        Exit::NotStarted { message, not_found: false }
    })?;
    let env = program::environment(&process.env, account);
    let path = program::find(&process.path, &env)?;
    exec(&path, process, &env)
}

fn restore_signals() -> nix::Result<()> {
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    for signal in [Signal::SIGPIPE, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    Ok(())
}

/// As many files may be open as on a worker of Concourse, if not more: what started the server or the engine may have
/// left no more than a login has (1024). A bound of the operator's comes after it.
fn raise_files() {
    const USUAL: u64 = 20_000;
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    if let Ok((soft, hard)) = nix::sys::resource::getrlimit(resource) {
        nix::sys::resource::setrlimit(resource, soft.max(hard.min(USUAL)), hard).ok();
    }
}

/// A supervisor that could not be put out of the reach of the kernel's killer has its step put before it: the step ends
/// and the log says why, instead of both ending without a word.
fn go_first_where_memory_ends() {
    const SCORE: &str = "/proc/self/oom_score_adj";
    if fs::read_to_string(SCORE).is_ok_and(|score| score.trim() == "0") {
        fs::write(SCORE, "500").ok();
    }
}

fn become_user(account: &Account) -> Result<(), Exit> {
    let cannot = |e: nix::Error| {
        let message = format!(
            "cannot run as user {} ({}:{}): {e}; where the server runs as an ordinary user, only root can be had",
            account.name, account.uid, account.gid
        );
        Exit::NotStarted { message, not_found: false }
    };
    // Concourse gives no supplementary groups. Refused in a user namespace of one user, which has none anyway.
    nix::unistd::setgroups(&[]).ok();
    nix::unistd::setgid(account.gid.into()).map_err(cannot)?;
    nix::unistd::setuid(account.uid.into()).map_err(cannot)
}

/// Nothing but standard input, output and error goes over to the next program: not what whoever started the server
/// left open in it either, which could be a door out.
pub fn keep_descriptors() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: plain integers. Marked and not closed: the way to report a failed start stays open until the program runs.
    if unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } == 0 {
        return;
    }
    // Kernels before 5.11, and filters of engines that do not know the call.
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers: Vec<RawFd> = open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for fd in numbers.into_iter().filter(|fd| *fd >= FIRST as RawFd) {
        // SAFETY: plain integers; the descriptor of the listing itself is gone by now, which is no harm.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn exec(path: &str, process: &Process, env: &[String]) -> Result<Infallible, Exit> {
    let c =
        |text: &str| CString::new(text).map_err(|e| failed("a zero byte in its arguments or environment", &e.into()));
    let mut args = vec![c(&process.path)?];
    for arg in &process.args {
        args.push(c(arg)?);
    }
    let env = env.iter().map(|e| c(e)).collect::<Result<Vec<_>, _>>()?;
    keep_descriptors();
    nix::unistd::execve(&c(path)?, &args, &env).map_err(|e| {
        let message = format!("exec {path}: {}", program::reason(&e.into()));
        Exit::NotStarted { message, not_found: e == nix::Error::ENOENT }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mount that ends with the test.
    struct Mounted(tempfile::TempDir);

    impl Drop for Mounted {
        fn drop(&mut self) {
            nix::mount::umount2(self.0.path(), nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }

    #[test]
    fn a_process_is_born_in_its_cgroup() {
        let mounted = Mounted(tempfile::tempdir().unwrap());
        let place = mounted.0.path();
        let none = None::<&str>;
        if let Err(error) = nix::mount::mount(none, place, Some("cgroup2"), nix::mount::MsFlags::empty(), none) {
            return println!("skipped: cgroups of the second version cannot be mounted here ({error})");
        }
        let group = place.join(format!("whistlestop-test-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let cradle = OwnedFd::from(fs::File::open(&group).unwrap());
        let (mut read, write) = pipe().unwrap();
        // The child makes no call that could wait for a lock of the other tests' threads.
        let (made, born) = fork(Some(cradle.as_fd())).unwrap();
        let ForkResult::Parent { child } = made else {
            let mut text = [0u8; 4096];
            // SAFETY: plain system calls on memory of its own.
            unsafe {
                let file = libc::open(c"/proc/self/cgroup".as_ptr(), libc::O_RDONLY);
                let length = libc::read(file, text.as_mut_ptr().cast(), text.len());
                libc::write(write.as_raw_fd(), text.as_ptr().cast(), usize::try_from(length).unwrap_or_default());
                libc::_exit(i32::from(!born))
            }
        };
        drop(write);
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        let status = nix::sys::wait::waitpid(child, None).unwrap();
        fs::remove_dir(&group).unwrap();
        let name = group.file_name().unwrap().to_str().unwrap();
        assert!(born && text.contains(&format!("0::/{name}")), "{text}");
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(child, 0));
    }

    #[test]
    fn only_a_steps_own_directory_is_made() {
        for (dir, made) in [
            ("/tmp/build/3c01eba1", "/tmp/build/3c01eba1"),
            ("/tmp/build/3c01eba1/no/such", "/tmp/build/3c01eba1"),
            ("/tmp/build/3c01eba1/", "/tmp/build/3c01eba1"),
            ("/srv/app", "/srv/app"),
            ("/", "/"),
        ] {
            assert_eq!(work_directory(dir), made, "{dir}");
        }
    }
}
