//! Networks on an engine: a wall between teams, and what no step reaches.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;

use nix::sched::{CloneFlags, setns};
use whistlestop::runtime::Isolation;
use whistlestop::runtime::network::{Doors, Policy, firewall, link};

use super::*;

/// An engine seen by a server with this word on networks.
fn with(world: &World, policy: Policy) -> Docker {
    let isolation = Isolation { network: policy, ..Isolation::default() };
    Docker::connect(Options { isolation, ..options(&world.id) })
}

async fn says(docker: &Docker, team: &str, script: &str) -> String {
    let handle = ContainerHandle(format!("asks-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    let spec = ContainerSpec { team: team.into(), hermetic: false, ..sh(script) };
    let told = read(docker.start(&handle, &spec).await.unwrap()).await;
    docker.remove_container(&handle).await.unwrap();
    told.stdout
}

fn tries(address: &str, port: u16) -> String {
    format!("nc -w 2 {address} {port} </dev/null 2>/dev/null || echo refused")
}

/// Until it is heard: who listens there may not do so yet, and a busy machine answers late.
async fn hears(docker: &Docker, team: &str, (address, port): (&str, u16), expected: &str) {
    let heard = async { while says(docker, team, &tries(address, port)).await != expected {} };
    let reached = tokio::time::timeout(PATIENCE, heard).await;
    reached.unwrap_or_else(|_| panic!("{address} {port} cannot be reached from team {team}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn teams_do_not_reach_each_other() {
    let world = World::new().await;
    let victim = world.container("victim");
    let listens = "ip -o -4 addr show dev eth0 | sed 's/.*inet \\([0-9.]*\\).*/\\1/'; while true; do echo theirs | nc -l -p 9000; done";
    let spec = ContainerSpec { team: "a".into(), hermetic: false, ..sh(listens) };
    let mut attached = world.docker.start(&victim, &spec).await.unwrap();
    let Some(Output::Data { bytes, .. }) = attached.recv().await else { panic!("no address") };
    let address = String::from_utf8_lossy(&bytes).trim().to_owned();
    hears(&world.docker, "a", (&address, 9000), "theirs\n").await;
    assert_eq!(says(&world.docker, "b", &tries(&address, 9000)).await, "refused\n");
    world.docker.remove_container(&victim).await.unwrap();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_of_the_host_are_out_of_reach_but_for_the_server() {
    let world = World::new().await;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(|mut s| drop(s.write_all(b"host\n"))));
    let gateway = "$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p')";
    let text = tries(gateway, port);
    assert_eq!(says(&world.docker, "a", &text).await, "refused\n");
    let trusting = with(&world, Policy { allow_host: true, ..Policy::default() });
    hears(&trusting, "a", (gateway, port), "host\n").await;
    let serving = with(&world, Policy { doors: Doors::new(vec![port], None), ..Policy::default() });
    hears(&serving, "a", (gateway, port), "host\n").await;
    // Both have one table, and the other's was the last.
    hears(&world.docker, "b", (gateway, port), "host\n").await;
    // Somebody clears the host's rules; the next step has walls again.
    assert_eq!(says(&world.docker, "a", "true").await, "");
    firewall::remove_table(&world.docker.networks().walls().table).unwrap();
    assert_eq!(says(&world.docker, "a", &text).await, "refused\n");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_networks_are_out_of_reach() {
    // A machine beyond this host, in a namespace of its own on addresses that are set aside for such.
    let (near, far) = (format!("wsf{}", std::process::id()), Ipv4Addr::new(203, 0, 113, 2));
    let namespace = link::namespace().unwrap();
    link::join(&namespace, &near, "203.0.113.0/30".parse().unwrap(), 1400).unwrap();
    let (ready, wait) = channel();
    let held = namespace.as_fd().try_clone_to_owned().unwrap();
    std::thread::spawn(move || {
        setns(held.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        drop(held);
        let listener = TcpListener::bind((far, 7000)).unwrap();
        ready.send(()).unwrap();
        listener.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret\n")));
    });
    wait.recv().unwrap();
    let world = World::new().await;
    let denied = with(&world, Policy { deny: vec!["203.0.113.0/24".parse().unwrap()], ..Policy::default() });
    assert_eq!(says(&denied, "a", &tries(&far.to_string(), 7000)).await, "refused\n");
    let open = with(&world, Policy::default());
    hears(&open, "a", (&far.to_string(), 7000), "secret\n").await;
    world.end().await;
    link::remove(&near).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_something_else_has_is_no_obstacle() {
    let world = World::new().await;
    assert_eq!(says(&world.docker, "a", "echo one").await, "one\n");
    let prefix = world.docker.networks().walls().prefix.clone();
    let bridge = link::names().unwrap().into_iter().find(|name| name.starts_with(&prefix)).expect("a bridge of ours");
    for network in world.docker.networks().idle().await.unwrap() {
        world.docker.networks().remove(&network).await.unwrap();
    }
    // As an engine leaves it that died while it made the network.
    let other = format!("taken-{}", world.id);
    let option = format!("com.docker.network.bridge.name={bridge}");
    let engine = |args: &[&str]| std::process::Command::new("docker").args(args).output().unwrap().status.success();
    assert!(engine(&["network", "create", "-o", &option, &other]));
    assert_eq!(says(&world.docker, "a", "echo two").await, "two\n");
    world.end().await;
    assert!(engine(&["network", "rm", &other]));
}
