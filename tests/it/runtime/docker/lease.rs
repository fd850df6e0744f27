//! Network namespaces on an engine that steps of one team have one after another.

use bollard::models::{ContainerStateStatusEnum as Status, EventMessageTypeEnum as Kind};
use bollard::query_parameters::{EventsOptions, InspectContainerOptions, KillContainerOptions, WaitContainerOptions};

use super::*;

/// A step that stays, so that one can see what network it has.
const STAYS: &str =
    "hostname; cat /etc/hostname; grep -c \"$(hostname)\" /etc/hosts; ip -o -4 addr show dev eth0 | wc -l; sleep 1000";

fn step(team: &str) -> ContainerSpec {
    ContainerSpec { team: team.into(), hermetic: false, ..sh(STAYS) }
}

impl World {
    /// Starts a step, and tells the container whose network it has, if any.
    async fn borrows(&self, docker: &Docker, name: &str, spec: &ContainerSpec) -> Option<String> {
        let handle = self.container(name);
        let mut attached = docker.start(&handle, spec).await.unwrap();
        let (mut said, expected) = (String::new(), format!("{name}\n{name}\n1\n1\n"));
        while said.len() < expected.len() {
            match attached.recv().await {
                Some(Output::Data { bytes, .. }) => said.push_str(&String::from_utf8_lossy(&bytes)),
                other => panic!("{said} {other:?}"),
            }
        }
        assert_eq!(said, expected);
        let listed = self.engine.inspect_container(&self.name_of(&handle).await, None::<InspectContainerOptions>).await;
        let mode = listed.unwrap().host_config.unwrap().network_mode.unwrap();
        mode.strip_prefix("container:").map(str::to_owned)
    }

    /// The engine's name of a container.
    async fn name_of(&self, handle: &ContainerHandle) -> String {
        let label = format!("whistlestop.handle={handle}");
        self.with_label(&label).await.remove(0)
    }

    async fn with_label(&self, label: &str) -> Vec<String> {
        let labels = vec![format!("whistlestop.installation={}", self.id), label.to_owned()];
        let filters = Some(HashMap::from([("label".to_string(), labels)]));
        let options = bollard::query_parameters::ListContainersOptions { all: true, filters, ..Default::default() };
        let listed = self.engine.list_containers(Some(options)).await.unwrap();
        listed.into_iter().filter_map(|container| container.id).collect()
    }

    /// Makes a team want a network until one is kept ready, which it returns.
    async fn ready(&self, team: &str) -> String {
        let labels = vec![format!("whistlestop.installation={}", self.id), "whistlestop.part=lease".to_owned()];
        let filters =
            Some(HashMap::from([("label".to_string(), labels), ("event".to_string(), vec!["start".to_string()])]));
        let mut events = Box::pin(self.engine.events(Some(EventsOptions { filters, ..Default::default() })));
        let started = async {
            loop {
                let event = events.next().await.unwrap().unwrap();
                if event.typ == Some(Kind::CONTAINER) {
                    return event.actor.and_then(|actor| actor.id).unwrap();
                }
            }
        };
        let wanting = async {
            for n in 0..2 {
                let name = format!("wants-{n}");
                self.borrows(&self.docker, &name, &step(team)).await;
                self.docker.remove_container(&self.container(&name)).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let id = tokio::select! {
            id = tokio::time::timeout(PATIENCE, started) => id.unwrap(),
            () = wanting => unreachable!(),
        };
        // What was wanted in the meantime is over.
        for n in 0..2 {
            self.docker.remove_container(&self.container(&format!("wants-{n}"))).await.unwrap();
        }
        id
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_is_lent_to_one_step_of_its_team_after_another() {
    let world = World::new().await;
    let waiting = world.ready("a").await;
    let remove = async |name: &str| world.docker.remove_container(&world.container(name)).await.unwrap();
    let is_it = |found: Option<String>| found.is_some_and(|of| waiting.starts_with(&of) || of.contains("lease"));

    // It may take a moment until the server knows that it is ready.
    let mut n = 0;
    while !is_it(world.borrows(&world.docker, &format!("first-{n}"), &step("a")).await) {
        remove(&format!("first-{n}")).await;
        n += 1;
    }
    assert_eq!(world.borrows(&world.docker, "other-team", &step("b")).await, None);
    let hermetic = ContainerSpec { hermetic: true, ..step("a") };
    let told = world.docker.start(&world.container("hermetic"), &hermetic).await;
    drop(told.unwrap());
    let id = world.name_of(&world.container("hermetic")).await;
    let config = world.engine.inspect_container(&id, None::<InspectContainerOptions>).await.unwrap();
    assert_eq!(config.host_config.unwrap().network_mode.as_deref(), Some("none"));

    // A server that starts anew knows that it is lent, and later that it is not.
    let restarted = world.restarted();
    assert!(!is_it(world.borrows(&restarted, "meanwhile", &step("a")).await), "two steps would have one network");
    restarted.remove_container(&world.container("meanwhile")).await.unwrap();
    restarted.remove_container(&world.container(&format!("first-{n}"))).await.unwrap();
    assert!(is_it(world.borrows(&restarted, "second", &step("a")).await));

    // One that ended is no obstacle.
    restarted.remove_container(&world.container("second")).await.unwrap();
    let mut ended = Box::pin(world.engine.wait_container(&waiting, None::<WaitContainerOptions>));
    world.engine.kill_container(&waiting, None::<KillContainerOptions>).await.unwrap();
    while let Some(Ok(_)) = ended.next().await {}
    let state = world.engine.inspect_container(&waiting, None::<InspectContainerOptions>).await.unwrap().state;
    assert_eq!(state.and_then(|state| state.status), Some(Status::EXITED));
    world.borrows(&restarted, "third", &step("a")).await;
    restarted.close().await;
    world.end().await;
}
