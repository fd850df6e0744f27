//! Networks of steps of the embedded runtime, in a small world of network namespaces that is seen by nobody else: a
//! host with our runtime, and far away a machine that serves. Each wall is shown to matter by taking it down.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use whistlestop::runtime::embedded::{Embedded, Options};
use whistlestop::runtime::network::{Doors, Mode, Policy, firewall, link};
use whistlestop::runtime::room::Watermark;
use whistlestop::runtime::{
    ContainerHandle, ContainerSpec, Image, Isolation, Limits, Output, PrivilegedMode, Process, Runtime,
};

use super::conformance::busybox_image;

/// The far machine, and this host's address on the way there.
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const NEAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The other one, and what the far machine and this host are called in that version.
const METADATA_SIX: &str = "fd00:ec2::254";
const FAR_SIX: &str = "2001:db8::2";
const NEAR_SIX: &str = "2001:db8::1";

/// The host.
struct Host {
    state: tempfile::TempDir,
    runtime: Arc<Embedded>,
    /// Names that the far machine was asked for.
    asked: Receiver<String>,
}

/// Runs `test` on a host of its own; needs root, as the walls do.
fn on_a_host<F: Future<Output = ()>>(policy: Policy, test: impl FnOnce(Host) -> F + Send + 'static) {
    assert!(nix::unistd::Uid::effective().is_root(), "run as root: networks of their own are made by root only");
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        ip("link set lo up");
        let asked = far_machine();
        ip(&format!("route add default via {FAR}"));
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        tokio.block_on(async {
            let state = tempfile::tempdir().unwrap();
            let runtime = open(state.path(), policy);
            let volume = whistlestop::runtime::VolumeHandle("image".into());
            runtime.create_volume(&volume, "main", &whistlestop::runtime::Origin::Empty).await.unwrap();
            runtime.stream_in(&volume, "", busybox_image()).await.unwrap();
            test(Host { state, runtime, asked }).await;
        });
    };
    // A thread of its own, and not one that other tests use again.
    std::thread::spawn(run).join().unwrap();
}

fn open(state: &Path, policy: Policy) -> Arc<Embedded> {
    open_isolated(state, Isolation { network: Policy { mode: Mode::Own, ..policy }, ..Isolation::default() })
}

fn open_isolated(state: &Path, isolation: Isolation) -> Arc<Embedded> {
    let options = Options {
        allow_host_rootfs: false,
        allow_local: false,
        self_exe: env!("CARGO_BIN_EXE_whistlestop").into(),
        masked: Vec::new(),
        most_image_bytes: 1 << 30,
        watermark: Watermark::NONE,
        isolation,
    };
    Arc::new(Embedded::new(state.join("state"), options).unwrap())
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("the ip program");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Serves on its own address who asks, on the metadata address a secret, and names, which it also tells.
fn far_machine() -> Receiver<String> {
    let namespace = link::namespace().unwrap();
    link::join(&namespace, "up0", "198.51.100.0/30".parse().unwrap(), 1500).unwrap();
    let (ready, wait) = std::sync::mpsc::channel();
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        ip(&format!("addr add {METADATA}/32 dev eth0"));
        let names = UdpSocket::bind((FAR, 53)).unwrap();
        std::thread::spawn(move || answer_names(&names, &tell));
        let secret = TcpListener::bind((METADATA, 80)).unwrap();
        std::thread::spawn(move || secret.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret\n"))));
        serve_six();
        let who = TcpListener::bind((FAR, 7000)).unwrap();
        ready.send(()).unwrap();
        who.incoming().flatten().for_each(|mut stream| {
            let peer = stream.peer_addr().unwrap().ip();
            drop(writeln!(stream, "{peer}"));
        });
    });
    wait.recv().unwrap();
    asked
}

/// The same in version six, where this machine has that.
fn serve_six() {
    if !Path::new("/proc/net/if_inet6").exists() {
        return;
    }
    let enabled = std::fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "0");
    enabled.expect("IPv6 is off in the kernel");
    for address in [format!("{FAR_SIX}/64"), format!("{METADATA_SIX}/128")] {
        ip(&format!("-6 addr add {address} dev eth0 nodad"));
    }
    ip(&format!("-6 route add default via {NEAR_SIX}"));
    let secret = TcpListener::bind(format!("[{METADATA_SIX}]:80")).unwrap();
    std::thread::spawn(move || secret.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret\n"))));
}

/// Every name is 203.0.113.7.
fn answer_names(socket: &UdpSocket, tell: &Sender<String>) {
    let mut buffer = [0; 512];
    while let Ok((n, from)) = socket.recv_from(&mut buffer) {
        let question = &buffer[..n];
        let end = 12 + question[12..].iter().position(|b| *b == 0).unwrap() + 5;
        let is_a = question[end - 3] == 1;
        tell.send(String::from_utf8_lossy(&question[13..end - 5]).into_owned()).ok();
        let mut answer = question[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
        }
        socket.send_to(&answer, from).unwrap();
    }
}

fn spec(team: &str, text: &str) -> ContainerSpec {
    ContainerSpec {
        team: team.into(),
        labels: Default::default(),
        image: Image::Volume { volume: whistlestop::runtime::VolumeHandle("image".into()), path: String::new() },
        privileged: false,
        hermetic: false,
        mounts: Vec::new(),
        limits: Limits::default(),
        process: Process {
            path: "sh".into(),
            args: vec!["-c".into(), text.into()],
            dir: "/tmp".into(),
            ..Process::default()
        },
    }
}

impl Host {
    async fn says(&self, spec: ContainerSpec) -> String {
        let handle = ContainerHandle("step".into());
        let mut attached = self.runtime.start(&handle, &spec).await.unwrap();
        let mut text = Vec::new();
        while let Some(Output::Data { bytes, .. }) = attached.recv().await {
            text.extend_from_slice(&bytes);
        }
        self.runtime.remove_container(&handle).await.unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn step(&self, text: &str) -> String {
        self.says(spec("main", text)).await
    }

    /// What a step gets from there.
    async fn from(&self, address: Ipv4Addr, port: u16) -> String {
        self.step(&format!("nc -w 2 {address} {port} </dev/null 2>/dev/null || echo refused")).await
    }

    /// Nothing of ours is left.
    async fn end(self) {
        // The kernel takes a namespace down some time after its last process has gone, and one that is being made when
        // all are closed goes once it is whole.
        let left = || {
            let names = link::names().unwrap();
            firewall::table_exists(&self.runtime.leases().walls().table) || names.iter().any(|n| n.starts_with("ws"))
        };
        let gone = async {
            self.runtime.close().await;
            while left() {
                tokio::time::sleep(Duration::from_millis(5)).await;
                self.runtime.close().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), gone).await.expect("nothing of ours is left");
        drop(self.state);
    }
}

#[test]
fn steps_reach_the_network_under_the_hosts_address_and_names_are_found() {
    let policy = Policy { dns: vec![FAR.into()], hosts: vec!["db:10.9.8.7".parse().unwrap()], ..Policy::default() };
    on_a_host(policy, |host| async move {
        assert_eq!(host.from(FAR, 7000).await, format!("{NEAR}\n"));
        let found = host.step("nslookup example.com; cat /etc/hosts; ip -o -4 addr show dev eth0").await;
        assert!(found.contains("203.0.113.7"), "{found}");
        assert!(found.contains("10.9.8.7 db\n") && found.contains(" step\n"), "{found}");
        assert!(found.contains("inet 10.80."), "{found}");
        let serves = "nc -l -p 80 </dev/null & until nc 127.0.0.1 80 </dev/null 2>/dev/null; do kill -0 $! || exit 9; done; \
                      echo served";
        assert_eq!(host.step(serves).await, "served\n", "root of a step may listen on any port");
        host.end().await;
    });
}

#[test]
fn metadata_addresses_are_denied() {
    on_a_host(Policy::default(), |host| async move {
        assert_eq!(host.from(METADATA, 80).await, "refused\n");
        host.end().await;
    });
    on_a_host(Policy { deny: Vec::new(), ..Policy::default() }, |host| async move {
        assert_eq!(host.from(METADATA, 80).await, "secret\n", "the address cannot be reached anyway");
        host.end().await;
    });
}

#[test]
fn addresses_of_version_six_are_denied() {
    assert!(Path::new("/proc/net/if_inet6").exists(), "this test needs a kernel with IPv6");
    on_a_host(Policy::default(), |host| async move {
        // Interfaces of ours are without; so this takes a host that turns it on again.
        let enable = |interface: &str| {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6"), "0").unwrap();
        };
        enable("up0");
        ip(&format!("-6 addr add {NEAR_SIX}/64 dev up0 nodad"));
        ip(&format!("-6 route add {METADATA_SIX} via {FAR_SIX}"));
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        // Steps have no such address; one with all rights gives itself one, and finds a host that would play along.
        let own = "cd /proc/sys/net/ipv6/conf/eth0; echo 0 > accept_dad; echo 0 > disable_ipv6; \
                   ip -6 addr add 2001:db8:1::2/64 dev eth0; ip -6 route add default via 2001:db8:1::1; \
                   cat /sys/class/net/eth0/iflink; sleep 1000";
        let handle = ContainerHandle("six".into());
        let spec = ContainerSpec { privileged: true, ..spec("main", own) };
        let mut attached = host.runtime.start(&handle, &spec).await.unwrap();
        let Some(Output::Data { bytes, .. }) = attached.recv().await else { panic!("no interface") };
        let interface = &host_end(String::from_utf8_lossy(&bytes).trim());
        enable(interface);
        ip(&format!("-6 addr add 2001:db8:1::1/64 dev {interface} nodad"));
        let tries = format!("nc -w 2 {METADATA_SIX} 80 </dev/null 2>/dev/null || echo refused");
        let visit = Process { path: "sh".into(), args: vec!["-c".into(), tries], ..Process::default() };
        let reached = async || {
            let mut text = String::new();
            let mut exec = host.runtime.exec(&handle, &visit).await.unwrap();
            while let Some(Output::Data { bytes, .. }) = exec.output.recv().await {
                text.push_str(&String::from_utf8_lossy(&bytes));
            }
            text
        };
        let walls = host.runtime.leases().walls().clone();
        assert_eq!(reached().await, "refused\n");
        walls.lower().unwrap();
        assert_eq!(reached().await, "secret\n", "it cannot be reached anyway");
        // As around an engine's bridges, where the engine may give addresses of this version.
        let bridges = firewall::Walls { leased: None, allow_host: true, ..walls.clone() };
        bridges.raise().unwrap();
        assert_eq!(reached().await, "refused\n");
        firewall::Walls { deny: Vec::new(), ..bridges }.raise().unwrap();
        assert_eq!(reached().await, "secret\n");
        walls.raise().unwrap();
        host.runtime.remove_container(&handle).await.unwrap();
        host.end().await;
    });
}

#[test]
fn walls_that_are_taken_down_come_back() {
    on_a_host(Policy::default(), |host| async move {
        let tries = format!("nc -w 2 {METADATA} 80 </dev/null 2>/dev/null || echo refused");
        assert_eq!(host.step(&tries).await, "refused\n");
        let table = host.runtime.leases().walls().table.clone();
        // As a reload of the host's own rules does, which begins with `flush ruleset`.
        firewall::remove_table(&table).unwrap();
        assert_eq!(host.step(&tries).await, "refused\n");
        firewall::remove_table(&table).unwrap();
        host.runtime.tend().await;
        assert!(firewall::table_exists(&table), "they are missed though no step starts");
        host.end().await;
    });
}

#[test]
fn trying_walls_out_leaves_nothing() {
    on_a_host(Policy::default(), |host| async move {
        let walls = host.runtime.leases().walls().clone();
        for _ in 0..3 {
            walls.try_out().unwrap();
            assert!(!firewall::table_exists(&format!("{}-try", walls.table)));
        }
        // What an earlier version left is cleared away.
        firewall::Walls { table: format!("{}-try", walls.table), ..walls.clone() }.raise().unwrap();
        walls.try_out().unwrap();
        assert!(!firewall::table_exists(&format!("{}-try", walls.table)));
        host.end().await;
    });
}

/// Nobody is asked.
fn silence() -> Receiver<String> {
    std::sync::mpsc::channel().1
}

/// Something that listens on all addresses of the host, such as an engine's API; the first port it gets.
fn listener(address: Ipv4Addr) -> u16 {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|mut s| drop(s.write_all(b"host\n"))));
    port
}

#[test]
fn listeners_of_the_host_are_out_of_reach_but_for_the_server() {
    let gateway = "ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'";
    let tries = |address: &str, port: u16| format!("nc -w 2 {address} {port} </dev/null 2>/dev/null || echo refused");
    on_a_host(Policy::default(), move |host| async move {
        let (open, loopback) = (listener(Ipv4Addr::UNSPECIFIED), listener(Ipv4Addr::LOCALHOST));
        for address in [format!("$({gateway})"), NEAR.to_string()] {
            assert_eq!(host.step(&tries(&address, open)).await, "refused\n", "{address}");
        }
        assert_eq!(host.step(&tries("127.0.0.1", loopback)).await, "refused\n");
        assert_eq!(host.step(&tries(&format!("$({gateway})"), loopback)).await, "refused\n");
        // Another server on this state directory that is open at that port.
        let policy = Policy { doors: Doors::new(vec![open], None), ..Policy::default() };
        let served = Host { runtime: open_on(&host, policy), state: tempfile::tempdir().unwrap(), asked: silence() };
        assert_eq!(served.step(&tries(&NEAR.to_string(), open)).await, "host\n");
        let policy = Policy { allow_host: true, ..Policy::default() };
        let trusting = Host { runtime: open_on(&host, policy), state: tempfile::tempdir().unwrap(), asked: silence() };
        assert_eq!(trusting.step(&tries(&NEAR.to_string(), open)).await, "host\n");
        drop((served, trusting));
        host.end().await;
    });
}

fn open_on(host: &Host, policy: Policy) -> Arc<Embedded> {
    open(host.state.path(), policy)
}

#[test]
fn another_containers_listeners_are_out_of_reach() {
    on_a_host(Policy::default(), |host| async move {
        let handle = ContainerHandle("victim".into());
        let listens = "ip -o -4 addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'; echo theirs | nc -l -p 9000; sleep 1000";
        let mut attached = host.runtime.start(&handle, &spec("other", listens)).await.unwrap();
        let Some(Output::Data { bytes, .. }) = attached.recv().await else { panic!("no address") };
        let address: Ipv4Addr = String::from_utf8_lossy(&bytes).trim().parse().unwrap();
        assert_eq!(host.from(address, 9000).await, "refused\n");
        // Around interfaces that nobody has: what is gone is put up again with the next step.
        let walls = host.runtime.leases().walls().clone();
        firewall::Walls { prefix: "ws-nobody-".to_owned(), ..walls.clone() }.raise().unwrap();
        // Not at once: it tells its address before it listens.
        let reached = async { while host.from(address, 9000).await != "theirs\n" {} };
        tokio::time::timeout(Duration::from_secs(120), reached).await.expect("it can be reached without walls");
        walls.raise().unwrap();
        host.runtime.remove_container(&handle).await.unwrap();
        host.end().await;
    });
}

#[test]
fn hermetic_steps_reach_nothing() {
    on_a_host(Policy::default(), |host| async move {
        let tries = format!("nc -w 2 {FAR} 7000 </dev/null 2>/dev/null || echo refused; ls /sys/class/net");
        let open = spec("main", &tries);
        assert_eq!(host.says(ContainerSpec { hermetic: true, ..open.clone() }).await, "refused\nlo\n");
        assert_eq!(host.says(open).await, format!("{NEAR}\neth0\nlo\n"));
        host.end().await;
    });
}

#[test]
fn a_team_gets_its_networks_again_and_no_other_team_does() {
    on_a_host(Policy::default(), |host| async move {
        let address = "ip -o -4 addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'";
        let first = host.says(spec("a", address)).await;
        assert_eq!(host.says(spec("a", address)).await, first);
        assert_ne!(host.says(spec("b", address)).await, first);
        let privileged = ContainerSpec { privileged: true, ..spec("a", address) };
        let theirs = host.says(privileged).await;
        assert_ne!(theirs, first);
        assert_ne!(host.says(spec("a", address)).await, theirs, "what a privileged step could change is used again");
        host.end().await;
    });
}

/// The host's end of the pair whose other end a container has, by what that says in `iflink`.
fn host_end(index: &str) -> String {
    let links = Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    let ours = links.lines().find(|line| line.starts_with(&format!("{index}: "))).expect("the host's end");
    ours.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned()
}

const GATEWAY: &str = "$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')";

#[test]
fn root_of_a_step_opens_raw_sockets_and_changes_nothing() {
    let tries = async |mode: PrivilegedMode, host: &Host| {
        let text = format!(
            "arping -c 1 -w 5 -I eth0 {GATEWAY}; ip addr add 10.80.77.77/32 dev eth0 2>&1; \
             echo 1 2>&1 > /proc/sys/net/ipv4/ip_forward || echo unchanged"
        );
        let isolation = Isolation {
            network: Policy { mode: Mode::Own, ..Policy::default() },
            privileged: mode,
            ..Isolation::default()
        };
        let runtime = open_isolated(host.state.path(), isolation);
        let host = Host { runtime, state: tempfile::tempdir().unwrap(), asked: silence() };
        host.says(ContainerSpec { privileged: true, ..spec("main", &text) }).await
    };
    on_a_host(Policy::default(), move |host| async move {
        // One that may mount, too.
        for mode in [PrivilegedMode::Ignore, PrivilegedMode::FuseOnly] {
            let said = tries(mode, &host).await;
            let expected = ["Received 1 r", "not permitted", "unchanged"];
            assert!(expected.iter().all(|text| said.contains(text)), "{mode:?}: {said}");
        }
        host.end().await;
    });
}

#[test]
fn nobody_speaks_under_another_address() {
    on_a_host(Policy::default(), |host| async move {
        // Even one with all rights: what it claims is looked at where it arrives.
        let text = format!(
            "gateway={GATEWAY}; ip addr flush dev eth0; ip addr add 10.80.77.77/32 dev eth0; \
             ip route add $gateway dev eth0; ip route add default via $gateway; cat /sys/class/net/eth0/iflink; sleep 1000"
        );
        let handle = ContainerHandle("forger".into());
        let spec = ContainerSpec { privileged: true, ..spec("main", &text) };
        let mut attached = host.runtime.start(&handle, &spec).await.unwrap();
        let Some(Output::Data { bytes, .. }) = attached.recv().await else { panic!("no interface") };
        let interface = host_end(String::from_utf8_lossy(&bytes).trim());
        let tries = format!("timeout 1 nslookup forged {FAR}");
        let visit = Process { path: "sh".into(), args: vec!["-c".into(), tries], ..Process::default() };
        let forge = async || {
            let mut exec = host.runtime.exec(&handle, &visit).await.unwrap();
            while exec.output.recv().await.is_some() {}
        };
        forge().await;
        host.step(&format!("nslookup honest {FAR}")).await;
        let asked: Vec<String> = host.asked.try_iter().collect();
        assert!(asked.iter().any(|name| name == "honest") && !asked.iter().any(|name| name == "forged"), "{asked:?}");
        for interface in ["all", &interface] {
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter"), "0").unwrap();
        }
        // Not at once: it may still wait for the gateway's answer to what was dropped before.
        let heard = async {
            while !host.asked.try_iter().any(|name| name == "forged") {
                forge().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), heard).await.expect("it is heard without that look");
        host.runtime.remove_container(&handle).await.unwrap();
        host.end().await;
    });
}
