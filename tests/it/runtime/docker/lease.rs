//! Network namespaces on an engine that steps of one team have one after another.

use bollard::models::EventMessageTypeEnum as Kind;
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, KillContainerOptions, WaitContainerOptions};

use super::*;

/// A step that tells how its host is called, what earlier ones left of themselves, and whether it has an address; that
/// leaves something, and stays.
const STAYS: &str = "hostname; cat /etc/hostname; grep -c \"$(hostname)\" /etc/hosts; cat /etc/hosts /etc/resolv.conf | grep -c poison; \
    ip -o -4 addr show dev eth0 | wc -l; for f in hosts resolv.conf hostname; do echo poison >> /etc/$f; chmod 600 /etc/$f; done; \
    echo left; sleep 1000";

fn step(team: &str) -> ContainerSpec {
    ContainerSpec { team: team.into(), hermetic: false, ..sh(STAYS) }
}

fn one_at_most(world: &World) -> Docker {
    Docker::connect(Options { leases: 1, ..options(&world.id) })
}

impl World {
    /// Starts a step, and tells the container whose network it has, if any.
    async fn borrows(&self, docker: &Docker, name: &str, spec: &ContainerSpec) -> Option<String> {
        let handle = self.container(name);
        let mut attached = docker.start(&handle, spec).await.unwrap();
        let (mut said, expected) = (String::new(), format!("{name}\n{name}\n1\n0\n1\nleft\n"));
        while said.len() < expected.len() {
            match attached.recv().await {
                Some(Output::Data { bytes, .. }) => said.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{said} {other:?}"),
            }
        }
        assert_eq!(said, expected);
        self.network_of(&handle).await.strip_prefix("container:").map(str::to_owned)
    }

    async fn network_of(&self, handle: &ContainerHandle) -> String {
        let labels = vec![format!("whistlestop.installation={}", self.id), format!("whistlestop.handle={handle}")];
        let filters = Some(HashMap::from([("label".to_string(), labels)]));
        let options = bollard::query_parameters::ListContainersOptions { all: true, filters, ..Default::default() };
        let listed = self.engine.list_containers(Some(options)).await.unwrap();
        listed[0].host_config.as_ref().and_then(|config| config.network_mode.clone()).unwrap()
    }

    /// The container that waits, once something happens to one or has happened.
    async fn waiting(&self, what: &str) -> String {
        let labels = vec![format!("whistlestop.installation={}", self.id), "whistlestop.part=lease".to_owned()];
        let filters = HashMap::from([("label".to_string(), labels), ("event".to_string(), vec![what.to_string()])]);
        let options = EventsOptions { filters: Some(filters), since: Some("1".to_owned()), ..Default::default() };
        let mut events = Box::pin(self.engine.events(Some(options)));
        let happened = async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if event.typ == Some(Kind::CONTAINER) {
                    return event.actor.and_then(|actor| actor.id).unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, happened).await.unwrap_or_else(|_| panic!("no {what}"))
    }

    /// Makes a team want a network until one is kept ready and lent to a step, whose name it returns with what waits.
    async fn lent(&self, docker: &Docker, team: &str) -> (String, String) {
        let wanting = async {
            let mut n = 0;
            loop {
                let name = format!("wants-{}", NEXT.fetch_add(1, Ordering::Relaxed));
                if self.borrows(docker, &name, &step(team)).await.is_some() {
                    return name;
                }
                docker.remove_container(&self.container(&name)).await.unwrap();
                n += 1;
                assert!(n < 20, "none is ever lent");
            }
        };
        let name = wanting.await;
        (self.waiting("start").await, name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_lent_to_one_step_of_its_team_after_another() {
    let world = World::new().await;
    let docker = one_at_most(&world);
    let remove = async |name: &str| docker.remove_container(&world.container(name)).await.unwrap();
    let (waiting, first) = world.lent(&docker, "a").await;
    assert_eq!(world.borrows(&docker, "beside", &step("a")).await, None, "two steps would have one network");
    assert_eq!(world.borrows(&docker, "other-team", &step("b")).await, None);
    let told = docker.start(&world.container("hermetic"), &ContainerSpec { hermetic: true, ..step("a") }).await;
    drop(told.unwrap());
    assert_eq!(world.network_of(&world.container("hermetic")).await, "none");

    remove(&first).await;
    let of = world.borrows(&docker, "second", &step("a")).await.expect("it is ready again");
    assert!(waiting == of || of.contains(".lease-"), "{of}");

    // One that has ended is no obstacle.
    remove("second").await;
    let mut ended = Box::pin(world.engine.wait_container(&waiting, None::<WaitContainerOptions>));
    world.engine.kill_container(&waiting, None::<KillContainerOptions>).await.unwrap();
    while let Some(Ok(_)) = ended.next().await {}
    assert_eq!(world.borrows(&docker, "third", &step("a")).await, None);
    docker.close().await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_server_lends_nothing_that_it_has_not_made() {
    let world = World::new().await;
    let docker = one_at_most(&world);
    let (waiting, first) = world.lent(&docker, "a").await;
    let restarted = one_at_most(&world);
    assert_eq!(world.borrows(&restarted, "meanwhile", &step("a")).await, None);
    assert!(world.engine.inspect_container(&waiting, None::<InspectContainerOptions>).await.is_ok(), "it is in use");
    restarted.remove_container(&world.container(&first)).await.unwrap();
    assert_eq!(world.waiting("destroy").await, waiting);
    restarted.close().await;
    world.end().await;
}
