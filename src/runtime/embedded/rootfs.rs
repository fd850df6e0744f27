//! Builds a container's file system in a mount namespace of its own and moves into it.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Uid, pivot_root};

use super::blueprint::{Blueprint, Layers, NATIVE_EXE, Placed, Root};
use super::cgroup::{self, Groups};
use super::tree::{Tree, bind, make_read_only, mount_kind, place, set_attribute, set_attributes};
use crate::runtime::Privilege;

/// Device files every container has.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom", "tty"];
/// What would tell about the host or change it, as Docker hides it.
const HIDDEN: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const FIXED: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where and as whom the file system is built.
pub struct Builder<'a> {
    /// The container's own directory.
    pub dir: &'a Path,
    /// An empty directory to mount the root on. All containers can have the same: each sees only its own mounts.
    pub staging: &'a Path,
    /// Whether this is the root of a user namespace only.
    pub rootless: bool,
}

impl Builder<'_> {
    /// Builds what `blueprint` says. Call [`enter`] with the result.
    pub fn build(&self, blueprint: &Blueprint, groups: &Groups) -> io::Result<Tree> {
        // Nothing mounted here may show on the host.
        keep_mounts_apart()?;
        self.root(&blueprint.root, self.staging)?;
        let tree = Tree::open(self.staging)?;
        self.kernel(&tree, blueprint)?;
        bounds(&tree, groups, blueprint.privilege)?;
        network_files(&tree, blueprint)?;
        self.scratch(&tree, blueprint.privilege)?;
        tree.directory(Path::new("/tmp"))?;
        if let Some(exe) = &blueprint.native_exe {
            tree.write(Path::new(NATIVE_EXE), 0o755, b"")?;
            bind(exe, &tree.find(Path::new(NATIVE_EXE))?, false)?;
            make_read_only(&tree, Path::new(NATIVE_EXE))?;
        }
        for changed in &blueprint.changes {
            changed.open(&tree)?;
        }
        for placed in &blueprint.mounts {
            self.volume(&tree, placed)?;
        }
        // Only now, since a mount below may need a directory made.
        for placed in blueprint.mounts.iter().filter(|p| p.read_only) {
            let target = tree.find(Path::new(&placed.path))?;
            set_attributes(&target, libc::MOUNT_ATTR_RDONLY, false)?;
        }
        if blueprint.privilege != Privilege::All {
            // Device files of an image or an input are only names.
            set_attributes(&tree.find(Path::new("/"))?, libc::MOUNT_ATTR_NODEV, false)?;
            for placed in &blueprint.mounts {
                set_attributes(&tree.find(Path::new(&placed.path))?, libc::MOUNT_ATTR_NODEV, false)?;
            }
            hide(&tree)?;
        }
        Ok(tree)
    }

    fn root(&self, root: &Root, target: &Path) -> io::Result<()> {
        let upper = self.throw_away()?;
        let lower: PathBuf = match root {
            Root::Volume(layers, path) => {
                let volume = match (&layers.upper, layers.lower.as_slice()) {
                    (None, [only]) => only.clone(),
                    // An image: its layers are joined below the container's own, without a mount between.
                    (None, several) if path == "rootfs" => {
                        let parts = several.iter().map(|layer| layer.join(path)).filter(|part| part.is_dir());
                        return self.overlay_over(&parts.collect::<Vec<_>>(), &upper, target);
                    }
                    _ => {
                        let staging = self.dir.join("image");
                        fs::create_dir_all(&staging)?;
                        self.overlay(layers, &Tree::open(&staging)?.fd())?;
                        staging
                    }
                };
                let found = Tree::open(&volume)?.find(Path::new(path))?;
                return self.overlay_over(&[place(&found)], &upper, target);
            }
            Root::Directory(path) => path.clone(),
            Root::Host { masked } => {
                self.mask(masked, &upper.0)?;
                if self.rootless {
                    // The kernel gives no single view of "/" to whoever may not look below its mounts.
                    return self.host_piecewise(masked, &upper, target);
                }
                "/".into()
            }
        };
        self.overlay_over(&[lower], &upper, target)
    }

    /// The layer that takes the container's own changes: beside the container's other files, or in memory where
    /// that file system cannot be an upper layer (as inside Docker).
    fn throw_away(&self) -> io::Result<(PathBuf, PathBuf)> {
        let mut base = self.dir.to_path_buf();
        if on_overlay(&base) {
            base.push("layer");
            fs::create_dir(&base)?;
            mount_kind("tmpfs", &Tree::open(&base)?.fd(), MsFlags::empty(), "mode=700")?;
        }
        let (upper, work) = (base.join("upper"), base.join("work"));
        for dir in [&upper, &work] {
            fs::create_dir_all(dir)?;
        }
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o755))?;
        Ok((upper, work))
    }

    fn overlay_over(&self, lower: &[PathBuf], upper: &(PathBuf, PathBuf), target: &Path) -> io::Result<()> {
        let layers = Layers { upper: Some(upper.clone()), lower: lower.to_vec() };
        self.overlay(&layers, &Tree::open(target)?.fd())
    }

    /// Mounts layers on a directory. They are named by descriptor: short, and free of characters that would need quoting.
    fn overlay(&self, layers: &Layers, target: &impl AsRawFd) -> io::Result<()> {
        let open = |path: &PathBuf| -> io::Result<OwnedFd> { Tree::open(path)?.fd().try_clone_to_owned() };
        let lower = layers.lower.iter().map(open).collect::<io::Result<Vec<_>>>()?;
        let names: Vec<String> = lower.iter().map(|fd| place(fd).display().to_string()).collect();
        let mut data = format!("lowerdir={}", names.join(":"));
        let mut held = Vec::new();
        if let Some((upper, work)) = &layers.upper {
            for (option, path) in [("upperdir", upper), ("workdir", work)] {
                let fd = open(path)?;
                data.push_str(&format!(",{option}={}", place(&fd).display()));
                held.push(fd);
            }
        }
        if self.rootless {
            data.push_str(",userxattr");
        }
        let mut ways = vec![String::new()];
        if let Some((_, work)) = &layers.upper {
            // Otherwise the end of each container would write the whole disk's cache out. A plain directory is not
            // more durable. The mark that this leaves would refuse the next mount, so it goes first.
            let inner = work.join("work");
            fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).ok();
            fs::remove_dir_all(inner.join("incompat")).ok();
            ways.insert(0, ",volatile".to_owned());
        }
        if !self.rootless {
            // Another owner or mode of a large file copies no data. Every mount of a volume must know of that, so whether
            // the kernel does is tried and not asked: it tells only once its module is loaded.
            ways = ways.iter().map(|way| format!(",metacopy=on{way}")).chain(ways.clone()).collect();
        }
        let mut result = Ok(());
        for way in ways {
            result = mount_kind("overlay", target, MsFlags::empty(), &format!("{data}{way}"));
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// `/scratch`, a plain directory of the host's disk: what must not lie on an overlay (another engine's layers) can
    /// lie there.
    fn scratch(&self, tree: &Tree, privilege: Privilege) -> io::Result<()> {
        let own = self.dir.join("scratch");
        fs::create_dir_all(&own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
        let path = Path::new("/scratch");
        bind(&own, &tree.directory(path)?, false)?;
        if privilege != Privilege::All {
            set_attributes(&tree.find(path)?, libc::MOUNT_ATTR_NODEV, false)?;
        }
        Ok(())
    }

    fn volume(&self, tree: &Tree, placed: &Placed) -> io::Result<()> {
        let target = tree.directory(Path::new(&placed.path))?;
        match (&placed.layers.upper, placed.layers.lower.as_slice()) {
            (None, [only]) => bind(only, &target, false),
            _ => self.overlay(&placed.layers, &target),
        }
    }

    /// `/proc`, `/sys` and `/dev`.
    fn kernel(&self, tree: &Tree, blueprint: &Blueprint) -> io::Result<()> {
        let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount_kind("proc", &tree.directory(Path::new("/proc"))?, safe, "")?;
        let sys = tree.directory(Path::new("/sys"))?;
        let fixed = if blueprint.privilege == Privilege::All { MsFlags::empty() } else { MsFlags::MS_RDONLY };
        if mount_kind("sysfs", &sys, safe | fixed, "").is_err() {
            // Not ours to mount where the network is not ours.
            bind(Path::new("/sys"), &sys, true)?;
            make_read_only(tree, Path::new("/sys"))?;
        }
        let dev = tree.directory(Path::new("/dev"))?;
        mount_kind("tmpfs", &dev, MsFlags::MS_NOSUID, "mode=755,size=65536k")?;
        let mut devices = DEVICES.to_vec();
        if blueprint.privilege != Privilege::Usual {
            devices.push("fuse");
        }
        for name in devices.iter().filter(|name| Path::new("/dev").join(name).exists()) {
            let path = Path::new("/dev").join(name);
            tree.write(&path, 0o666, b"")?;
            bind(&path, &tree.find(&path)?, false)?;
            // It is the host's own file: its owner and mode are not the step's to change. What it does can be had all the same.
            set_attributes(&tree.find(&path)?, libc::MOUNT_ATTR_RDONLY, false)?;
        }
        for (name, target) in [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ] {
            tree.link(&Path::new("/dev").join(name), target)?;
        }
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        let pts = tree.directory(Path::new("/dev/pts"))?;
        // Group 5 is tty; where only one group exists, it cannot be named.
        mount_kind("devpts", &pts, quiet, "newinstance,ptmxmode=0666,mode=0620,gid=5")
            .or_else(|_| mount_kind("devpts", &pts, quiet, "newinstance,ptmxmode=0666,mode=0620"))?;
        mount_kind("tmpfs", &tree.directory(Path::new("/dev/shm"))?, safe, "mode=1777")?;
        let queue = tree.directory(Path::new("/dev/mqueue"))?;
        // Not every kernel has message queues.
        mount_kind("mqueue", &queue, safe, "").ok();
        Ok(())
    }

    /// Puts empty files and directories over what must not be seen, in the layer above it: no mount to undo.
    fn mask(&self, masked: &[PathBuf], upper: &Path) -> io::Result<()> {
        // What a link names is hidden under its own name; what lies in a hidden directory must not reappear there.
        let mut masked: Vec<PathBuf> = masked.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        masked.sort();
        masked.dedup_by(|path, earlier| path.starts_with(earlier));
        for path in masked {
            let Ok(meta) = fs::metadata(&path) else { continue };
            let Ok(relative) = path.strip_prefix("/") else { continue };
            if relative.as_os_str().is_empty() || upper.join(relative).exists() {
                continue;
            }
            if let Some(parent) = relative.parent() {
                self.like_below(parent, upper)?;
            }
            let over = upper.join(relative);
            if meta.is_dir() {
                fs::create_dir(&over)?;
                let name = if self.rootless { "user.overlay.opaque" } else { "trusted.overlay.opaque" };
                set_attribute(&over, name, b"y")?;
                let mode = if meta.mode() & 0o1000 != 0 { 0o1777 } else { 0o755 };
                fs::set_permissions(&over, fs::Permissions::from_mode(mode))?;
            } else {
                fs::write(&over, b"")?;
                fs::set_permissions(&over, fs::Permissions::from_mode(0o600))?;
            }
        }
        Ok(())
    }

    /// Makes a directory and its parents in the upper layer that look as those below them.
    fn like_below(&self, relative: &Path, upper: &Path) -> io::Result<()> {
        let mut sofar = PathBuf::new();
        for component in relative.components() {
            sofar.push(component);
            let (over, below) = (upper.join(&sofar), fs::metadata(Path::new("/").join(&sofar))?);
            if over.exists() {
                continue;
            }
            fs::create_dir(&over)?;
            std::os::unix::fs::chown(&over, Some(below.uid()), Some(below.gid())).ok();
            fs::set_permissions(&over, fs::Permissions::from_mode(below.mode() & 0o7777))?;
        }
        Ok(())
    }

    /// The host's root as one overlay for each of its directories, in a root that is otherwise empty.
    fn host_piecewise(&self, masked: &[PathBuf], upper: &(PathBuf, PathBuf), target: &Path) -> io::Result<()> {
        mount_kind("tmpfs", &Tree::open(target)?.fd(), MsFlags::empty(), "mode=755")?;
        let masked = masked.iter().filter_map(|path| fs::canonicalize(path).ok()).collect();
        let host = Host { tree: Tree::open(target)?, masked, upper };
        for entry in fs::read_dir("/")?.flatten() {
            let name = entry.file_name();
            if !entry.file_type()?.is_file() && !["proc", "sys", "dev"].iter().any(|n| *n == name) {
                self.piece(&host, &entry)?;
            }
        }
        Ok(())
    }

    fn piece(&self, host: &Host, entry: &fs::DirEntry) -> io::Result<()> {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_symlink() {
            return host.tree.link(&path, &fs::read_link(&path)?.to_string_lossy());
        }
        if kind.is_file() && !host.masked.contains(&path) {
            host.tree.write(&path, 0o600, b"")?;
            bind(&path, &host.tree.find(&path)?, false)?;
            return make_read_only(&host.tree, &path);
        }
        if !kind.is_dir() || fs::read_dir(&path).is_err() {
            return Ok(());
        }
        let place = host.tree.directory(&path)?;
        if fs::metadata(&path)?.mode() & 0o1000 != 0 {
            let (all, follow) = (Mode::from_bits_truncate(0o1777), FchmodatFlags::FollowSymlink);
            fchmodat(host.tree.fd(), path.strip_prefix("/").unwrap_or(&path), all, follow)?;
        }
        if host.masked.contains(&path) {
            return Ok(());
        }
        self.like_below(path.strip_prefix("/").unwrap_or(&path), &host.upper.0)?;
        if self.overlay(&host.layers(&path)?, &place).is_ok() {
            return Ok(());
        }
        // Something is mounted below it, so it cannot be a layer.
        if host.masked.iter().any(|m| m.starts_with(&path)) {
            // What is masked in it would show, so it is taken apart in its turn.
            return fs::read_dir(&path)?.flatten().try_for_each(|entry| self.piece(host, &entry));
        }
        match bind(&path, &place, true) {
            Ok(()) => make_read_only(&host.tree, &path),
            // Gone since its directory was listed.
            Err(_) if fs::symlink_metadata(&path).is_err() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// How names are found, and a name of its own.
fn network_files(tree: &Tree, blueprint: &Blueprint) -> io::Result<()> {
    let etc = |name: &str| Path::new("/etc").join(name);
    tree.write(&etc("resolv.conf"), 0o644, blueprint.names.resolv.as_bytes())?;
    tree.write(&etc("hosts"), 0o644, blueprint.names.hosts.as_bytes())?;
    tree.write(&etc("hostname"), 0o644, format!("{}\n", blueprint.hostname).as_bytes())
}

/// The container's own cgroups, for programs that ask how much they may use; who is privileged can make more in them.
fn bounds(tree: &Tree, groups: &Groups, privilege: Privilege) -> io::Result<()> {
    let at = Path::new(cgroup::MOUNT);
    let all = privilege == Privilege::All;
    let Ok(top) = tree.find(at) else { return Ok(()) };
    if all && groups.seen.is_empty() {
        return bind(at, &top, true);
    }
    if groups.seen.iter().any(|(_, seen)| !seen.as_os_str().is_empty()) {
        mount_kind("tmpfs", &top, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, "mode=755")?;
    }
    for (group, seen) in &groups.seen {
        let path = at.join(seen);
        let target = if seen.as_os_str().is_empty() { tree.find(&path)? } else { tree.directory(&path)? };
        bind(group, &target, false)?;
        if !all {
            make_read_only(tree, &path)?;
        }
    }
    // Names of controllers that share a hierarchy.
    for entry in fs::read_dir(at).into_iter().flatten().flatten().filter(|_| all) {
        if let Ok(link) = fs::read_link(entry.path()) {
            tree.link(&entry.path(), &link.to_string_lossy())?;
        }
    }
    Ok(())
}

/// The host's files while they are put together piece by piece.
struct Host<'a> {
    tree: Tree,
    /// What must not be seen, by its real name.
    masked: Vec<PathBuf>,
    upper: &'a (PathBuf, PathBuf),
}

impl Host<'_> {
    /// A directory below its part of the throw-away layer.
    fn layers(&self, path: &Path) -> io::Result<Layers> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let name = relative.to_string_lossy().replace('%', "%%").replace('/', "%-");
        let (over, work) = (self.upper.0.join(relative), self.upper.1.join(name));
        fs::create_dir_all(&work)?;
        Ok(Layers { upper: Some((over, work)), lower: vec![path.to_owned()] })
    }
}

fn hide(tree: &Tree) -> io::Result<()> {
    for path in FIXED.iter().map(Path::new) {
        if let Ok(found) = tree.find(path) {
            bind(&place(&found), &found, true)?;
            make_read_only(tree, path)?;
        }
    }
    for path in HIDDEN.iter().map(Path::new) {
        let Ok(found) = tree.find(path) else { continue };
        if fs::metadata(place(&found))?.is_dir() {
            mount_kind("tmpfs", &found, MsFlags::MS_RDONLY, "size=0")?;
        } else {
            bind(Path::new("/dev/null"), &found, false)?;
        }
    }
    Ok(())
}

/// Makes the tree the root of this process and lets go of all that is outside.
pub fn enter(tree: &Tree) -> io::Result<()> {
    nix::unistd::fchdir(tree.fd())?;
    // Both on the same place: the old root ends up on top of the new one, from where it is taken off.
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    nix::unistd::chdir("/")?;
    Ok(())
}

/// Whether a directory lies on an overlay, which cannot be another overlay's upper layer.
pub fn on_overlay(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC)
}

/// Whether the caller has the rights that containers without a user namespace need.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// From here on, what is mounted shows nowhere else.
fn keep_mounts_apart() -> io::Result<()> {
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    private.map_err(|error| match error {
        nix::Error::EINVAL => io::Error::other(
            "the server runs in a chroot, where the kernel allows no containers; run it outside of it, or use Docker",
        ),
        error => error.into(),
    })
}

/// A volume's merged view at the root of this process, for the helpers that pack and unpack.
pub fn enter_volume(layers: &Layers, staging: &Path, rootless: bool) -> io::Result<()> {
    keep_mounts_apart()?;
    let dir = match (&layers.upper, layers.lower.as_slice()) {
        (None, [only]) => only.clone(),
        _ => {
            fs::create_dir_all(staging)?;
            Builder { dir: staging, staging, rootless }.overlay(layers, &Tree::open(staging)?.fd())?;
            staging.to_path_buf()
        }
    };
    std::os::unix::fs::chroot(dir)?;
    std::env::set_current_dir("/")
}
