//! Attempts to get out of a container, on every runtime. Each is what a defence of ours stops: without it the test fails.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use whistlestop::runtime::{ContainerSpec, Isolation, Origin, PrivilegedMode, Process, TarStream, WindowSize};

use super::conformance::{
    Lab, Said, container, finish, mount, names_in, read_all, read_on, read_until, run, script, shell, unique, volume,
};

/// Runs a script as the root of a container with further mounts.
async fn tries(lab: &dyn Lab, text: &str, change: impl FnOnce(&mut ContainerSpec)) -> String {
    let mut spec = script(lab, text).await;
    change(&mut spec);
    run(lab, &spec).await.text()
}

/// What one line of a hostile script says if nothing was achieved.
fn nothing(achieved: &str) {
    assert!(!achieved.contains("achieved"), "{achieved}");
}

pub async fn the_supervisor_cannot_be_looked_into(lab: &dyn Lab) {
    // Its memory holds what other processes of the container must not change: where output goes, how it ended.
    let text = "cat /proc/1/environ >/dev/null 2>&1 && echo achieved environ; \
                head -c 1 /proc/1/maps 2>/dev/null | grep -q . && echo achieved maps; \
                (exec 3</proc/1/mem) 2>/dev/null && echo achieved mem; \
                ls /proc/1/fd >/dev/null 2>&1 && ls -l /proc/1/fd/ 2>/dev/null | grep -q spool && echo achieved spool; \
                kill -9 1; kill -STOP 1; sleep 0.1; echo still here";
    let said = tries(lab, text, |_| {}).await;
    nothing(&said);
    assert!(said.contains("still here"), "{said}");
}

pub async fn a_forged_record_hurts_nobody(lab: &dyn Lab) {
    // Where the spool can be reached at all, it is the step's own; the server must survive whatever it reads there. Where
    // it cannot, something else of the host has changed it.
    // It begins once the server has read the true beginning, else the lines that tell of it would be lost as well.
    let text = "echo up; until [ -e /tmp/now ]; do sleep 0.02; done; cd /.whistlestop-run 2>/dev/null || exit 7; \
                head -c 100000 /dev/urandom > spool; head -c 100 /dev/urandom > exit && echo forged; exit 7";
    let runtime = lab.runtime();
    let handle = container();
    let mut attached = runtime.start(&handle, &script(lab, text).await).await.unwrap();
    let mut first = Said::default();
    read_until(&mut attached, &mut first, "up").await;
    finish(runtime.exec(&handle, &shell("touch /tmp/now")).await.unwrap()).await;
    read_on(&mut attached, &mut first).await;
    assert!(first.exit().is_some() || first.lost().is_some());
    let forged = first.text().contains("forged") || lab.forge(&handle);
    assert!(forged, "nothing was forged: {first:?}");
    if let Ok(attached) = lab.reopened().attach(&handle, 0).await {
        let again = read_all(attached).await;
        assert!(again.exit().is_some() || again.lost().is_some());
    }
    runtime.remove_container(&handle).await.unwrap();
    assert_eq!(run(lab, &script(lab, "echo goes on").await).await.text(), "goes on\n");
}

pub async fn the_kernel_takes_no_orders(lab: &dyn Lab) {
    let text = "for f in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /sys/kernel/uevent_helper \
                /proc/sys/vm/panic_on_oom /proc/1/oom_score_adj /sys/power/state; do \
                (echo x > $f) 2>/dev/null && echo achieved $f; done; \
                for g in /sys/fs/cgroup /sys/fs/cgroup/*; do for f in release_agent notify_on_release pids.max memory.max cgroup.procs; do \
                [ -e $g/$f ] && (echo 1 > $g/$f) 2>/dev/null && echo achieved $g/$f; done; [ -e $g/cgroup.procs ] && mkdir $g/own 2>/dev/null && echo achieved $g/own; done; \
                dmesg >/dev/null 2>&1 && echo achieved dmesg; head -c 1 /proc/kcore 2>/dev/null | grep -q . && echo achieved kcore; \
                mount -o remount,rw /sys 2>/dev/null && echo achieved remount; chroot /proc/1/root true 2>/dev/null; \
                date -s 2020-01-01 >/dev/null 2>&1; date | grep -q 2020 && echo achieved clock; hostname other 2>/dev/null && echo achieved hostname; true";
    nothing(&tries(lab, text, |_| {}).await);
}

pub async fn what_fuse_only_gives_is_no_way_out(lab: &dyn Lab) {
    // What root can do who may mount: devices of the host, its kernel's settings, a program that its cgroups start.
    let text = "for f in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/kernel/uevent_helper; do \
                (echo x > $f) 2>/dev/null && echo achieved $f; done; mkdir -p /tmp/p /tmp/s /tmp/c /tmp/d; \
                mount -t proc proc /tmp/p 2>/dev/null; (echo x > /tmp/p/sys/kernel/core_pattern) 2>/dev/null && echo achieved proc; \
                mount -t sysfs sys /tmp/s 2>/dev/null; (echo x > /tmp/s/kernel/uevent_helper) 2>/dev/null && echo achieved sys; \
                for c in memory pids rdma misc; do mount -t cgroup -o $c c /tmp/c 2>/dev/null && \
                (echo x > /tmp/c/release_agent) 2>/dev/null && echo achieved cgroup $c; umount /tmp/c 2>/dev/null; done; \
                for n in $(seq 0 16 64); do mknod /tmp/disk b 254 $n 2>/dev/null; head -c 1 /tmp/disk >/dev/null 2>&1 && echo achieved disk; \
                mount -r -t ext4 /tmp/disk /tmp/d 2>/dev/null && echo achieved mount; rm -f /tmp/disk; done; \
                mknod /tmp/kmsg c 1 11 2>/dev/null; head -c 1 /tmp/kmsg >/dev/null 2>&1 && [ -e /tmp/kmsg ] && echo achieved kmsg; \
                dmesg >/dev/null 2>&1 && echo achieved dmesg; true";
    let mut spec = script(lab, text).await;
    spec.privileged = true;
    let isolation = Isolation { privileged: PrivilegedMode::FuseOnly, ..Isolation::default() };
    let (runtime, handle) = (lab.with(isolation), container());
    let said = read_all(runtime.start(&handle, &spec).await.unwrap()).await;
    let told = runtime.withheld(&spec).unwrap_or_default();
    runtime.remove_container(&handle).await.unwrap();
    nothing(&said.text());
    assert_eq!(told.contains("no mounts"), !lab.maps_users().await, "{told}");
}

pub async fn no_socket_and_no_file_of_the_host_is_there(lab: &dyn Lab) {
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("secret"), "achieved").unwrap();
    let path = secret.path().join("secret").display().to_string();
    // An abstract socket of the host, as some daemons have that trust whoever is root.
    let name = format!("whistlestop-{}", unique());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let text = format!(
        "cat {path} /proc/1/root{path} /proc/self/root{path} /proc/*/root{path} /proc/*/cwd{path} 2>/dev/null; \
         for s in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/systemd/private; do \
         [ -e $s ] && echo achieved $s; done; grep -q {name} /proc/net/unix && echo achieved abstract; \
         ls -d /proc/[0-9]* | wc -l"
    );
    let said = tries(lab, &text, |_| {}).await;
    // Who has the host's network sees its names there, and is kept from connecting by other means.
    let said = if lab.has_users() { said } else { said.replace("achieved abstract\n", "") };
    nothing(&said);
    let processes: usize = said.trim().parse().unwrap();
    assert!(processes < 10, "processes of others can be seen: {processes}");
}

pub async fn only_three_descriptors_are_open(lab: &dyn Lab) {
    // What whoever started the server left open in it must not be open in a step, whichever way that talks.
    let (stray, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let number = nix::fcntl::fcntl(&stray, nix::fcntl::FcntlArg::F_DUPFD(251)).unwrap();
    // The listing's own is the fourth.
    let text = "ls /proc/self/fd | tr '\\n' ' '";
    let (runtime, handle) = (lab.runtime(), container());
    let mut spec = script(lab, &format!("{text}; {text} | cat; sleep 1000")).await;
    for tty in [None, Some(WindowSize { columns: 80, rows: 24 })] {
        spec.process.tty = tty;
        let mut attached = runtime.start(&handle, &spec).await.unwrap();
        let mut said = Said::default();
        read_until(&mut attached, &mut said, "0 1 2 3 0 1 2 3 ").await;
        let exec = runtime.exec(&handle, &Process { tty, ..shell(text) }).await.unwrap();
        assert_eq!(finish(exec).await.text(), "0 1 2 3 ", "of a visitor");
        runtime.remove_container(&handle).await.unwrap();
    }
    nix::unistd::close(number).unwrap();
}

fn archive(fill: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> TarStream {
    let mut builder = tar::Builder::new(Vec::new());
    fill(&mut builder);
    Box::pin(std::io::Cursor::new(builder.into_inner().unwrap()))
}

fn special(kind: tar::EntryType, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

pub async fn links_and_devices_in_archives_lead_nowhere(lab: &dyn Lab) {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    std::fs::write(&target, "achieved").unwrap();
    let handle = volume(lab, &Origin::Empty).await;
    let runtime = lab.runtime();
    for kind in [tar::EntryType::Link, tar::EntryType::Symlink] {
        let linked = archive(|builder| {
            builder.append_link(&mut special(kind, 0o644), "link", &target).unwrap();
        });
        // Whether it is refused or leads nowhere is the runtime's choice.
        runtime.stream_in(&handle, "", linked).await.ok();
        if let Ok(stream) = runtime.stream_out(&handle, "link").await {
            assert!(!names_in(stream).await.iter().any(|(_, text)| text.contains("achieved")));
        }
        let through = archive(|builder| {
            let mut header = special(tar::EntryType::Regular, 0o644);
            header.set_size(1);
            builder.append_data(&mut header, "link", &b"x"[..]).unwrap();
        });
        runtime.stream_in(&handle, "", through).await.ok();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "achieved", "written through a link");
    }
    // The kernel's log, as a file of an archive.
    let device = archive(|builder| {
        let mut header = special(tar::EntryType::Char, 0o666);
        header.set_device_major(1).unwrap();
        header.set_device_minor(11).unwrap();
        builder.append_data(&mut header, "kmsg", &b""[..]).unwrap();
    });
    runtime.stream_in(&handle, "", device).await.ok();
    let said = tries(lab, "[ -c /v/kmsg ] && head -c 1 /v/kmsg >/dev/null 2>&1 && echo achieved; true", |spec| {
        spec.mounts = vec![mount(&handle, "/v")];
    });
    nothing(&said.await);
}

pub async fn devices_cannot_be_made_or_brought(lab: &dyn Lab) {
    // The kernel's log: harmless to read, and of the host.
    let text = "mknod /tmp/kmsg c 1 11 2>/dev/null; mknod /v/kmsg c 1 11 2>/dev/null; mknod /v/disk b 254 0 2>/dev/null; \
                for f in /tmp/kmsg /v/kmsg /v/disk; do head -c 1 $f >/dev/null 2>&1 && [ -e $f ] && echo achieved $f; done; true";
    let handle = volume(lab, &Origin::Empty).await;
    nothing(&tries(lab, text, |spec| spec.mounts = vec![mount(&handle, "/v")]).await);
}

pub async fn links_in_inputs_do_not_move_mounts_out(lab: &dyn Lab) {
    let outside = tempfile::tempdir().unwrap();
    let input = volume(lab, &Origin::Empty).await;
    let links = archive(|builder| {
        builder.append_link(&mut special(tar::EntryType::Symlink, 0o777), "out", outside.path()).unwrap();
        builder
            .append_link(&mut special(tar::EntryType::Symlink, 0o777), "up", Path::new("../../../../../.."))
            .unwrap();
    });
    // Engines refuse such links already here.
    lab.runtime().stream_in(&input, "", links).await.ok();
    let output = volume(lab, &Origin::Empty).await;
    let mut spec = script(lab, "echo x > /in/out/made; echo x > /in/up/tmp/made; ls /in/out").await;
    spec.mounts = vec![mount(&input, "/in"), mount(&output, "/in/out")];
    // A mount on a link is made where it leads within the container, or refused.
    let handle = container();
    if let Ok(attached) = lab.runtime().start(&handle, &spec).await {
        read_all(attached).await;
    }
    lab.runtime().remove_container(&handle).await.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

pub async fn dots_in_the_place_of_an_output_stay_inside(lab: &dyn Lab) {
    let outside = tempfile::tempdir().unwrap();
    let output = volume(lab, &Origin::Empty).await;
    let place = format!("/tmp/build/w/../../../../../../..{}/made", outside.path().display());
    let mut spec = script(lab, &format!("echo x > {}/made/file", outside.path().display())).await;
    spec.mounts = vec![mount(&output, &place)];
    let handle = container();
    // Whether it is refused or lies within the container is the runtime's choice.
    if let Ok(attached) = lab.runtime().start(&handle, &spec).await {
        read_all(attached).await;
    }
    lab.runtime().remove_container(&handle).await.unwrap();
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

pub async fn a_fork_bomb_stays_inside(lab: &dyn Lab) {
    // What can be had is had, and then no more; the container can still be removed, and others go on.
    let runtime = lab.runtime();
    let handle = container();
    let bomb = "i=0; while [ $i -lt 400 ]; do sleep 1000 & i=$((i+1)); done 2>/dev/null; echo $(ls -d /proc/[0-9]* | wc -l); wait";
    let mut spec = script(lab, bomb).await;
    spec.labels.insert("type".into(), "task".into());
    let bounded = Isolation { processes: Some(60), ..Isolation::default() };
    let attached = lab.with(bounded).start(&handle, &spec).await.unwrap();
    let mut attached = attached;
    let said = super::conformance::next(&mut attached).await;
    let other = run(lab, &script(lab, "echo goes on").await).await.text();
    assert_eq!(other, "goes on\n");
    runtime.remove_container(&handle).await.unwrap();
    let text = format!("{said:?}");
    assert!(!text.contains("40") || text.contains("Lost"), "all of the bomb's processes were made: {text}");
}

/// A program of 32 bits: says `32 bit`, asks for a user namespace, and ends with the number of the error.
#[cfg(target_arch = "x86_64")]
fn program_of_32_bits() -> Vec<u8> {
    const AT: u32 = 0x0804_8000;
    let code_at = AT + 52 + 32;
    let mut code = Vec::new();
    let mut call = |number: u32, arguments: &[(u8, u32)]| {
        for (register, value) in [&[(0xb8, number)], arguments].concat() {
            code.push(register);
            code.extend(value.to_le_bytes());
        }
        code.extend([0xcd, 0x80]);
    };
    const TEXT: &[u8] = b"32 bit\n";
    // write, then unshare.
    call(4, &[(0xbb, 1), (0xb9, code_at + 22 + 12 + 11), (0xba, TEXT.len() as u32)]);
    call(310, &[(0xbb, libc::CLONE_NEWUSER as u32)]);
    // neg eax; mov ebx, eax; mov eax, 1; int 0x80
    code.extend([0xf7, 0xd8, 0x89, 0xc3, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]);
    assert_eq!(code.len(), 22 + 12 + 11);
    code.extend(TEXT);
    let size = 52 + 32 + code.len() as u32;
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([2, 0, 3, 0]);
    for word in [1, code_at, 52, 0, 0] {
        elf.extend(word.to_le_bytes());
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1, 0, AT, AT, size, size, 5, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}

#[cfg(target_arch = "x86_64")]
pub async fn programs_of_32_bits_run_and_gain_nothing_by_it(lab: &dyn Lab) {
    let program = program_of_32_bits();
    let own = tempfile::tempdir().unwrap();
    let path = own.path().join("program");
    std::fs::write(&path, &program).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let here = std::process::Command::new(&path).output();
    if here.is_err() {
        return println!("skipped: this kernel runs no programs of 32 bits");
    }
    let handle = volume(lab, &Origin::Empty).await;
    let brought = archive(|builder| {
        let mut header = special(tar::EntryType::Regular, 0o755);
        header.set_size(program.len() as u64);
        builder.append_data(&mut header, "program", &program[..]).unwrap();
    });
    lab.runtime().stream_in(&handle, "", brought).await.unwrap();
    let said = tries(lab, "/v/program; echo $?", |spec| spec.mounts = vec![mount(&handle, "/v")]).await;
    assert_eq!(said, format!("32 bit\n{}\n", libc::EPERM));
}

#[cfg(not(target_arch = "x86_64"))]
pub async fn programs_of_32_bits_run_and_gain_nothing_by_it(_: &dyn Lab) {}
