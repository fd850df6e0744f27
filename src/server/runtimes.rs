//! Which runtime this process uses.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;

use super::config::{RoleChoice, RuntimeChoice, Serve};
use super::doctor;
use super::natives::{Children, InEngine};
use crate::base::chance;
use crate::exec::NativeHost;
use crate::runtime::Runtime;
use crate::runtime::docker::{self, Docker};
use crate::runtime::embedded::{self, Embedded};
use crate::runtime::network::Doors;
use crate::store::Store;

/// Where things run.
#[derive(Clone)]
pub struct Runtimes {
    /// Containers of steps.
    pub containers: Arc<dyn Runtime>,
    /// Native gets and puts.
    pub natives: Arc<dyn NativeHost>,
    /// Doctor's word on that, once there is one.
    pub isolation: Arc<Mutex<String>>,
}

impl Runtimes {
    /// All of them, each once.
    pub fn all(&self) -> Vec<Arc<dyn Runtime>> {
        let mut all = vec![self.containers.clone()];
        for other in [self.natives.runtime(), self.natives.images()] {
            if !all.iter().any(|one| Arc::ptr_eq(one, &other)) {
                all.push(other);
            }
        }
        all
    }
}

/// Both runtimes as the settings say; nothing is asked of an engine and nothing made yet.
pub struct Both {
    /// A Docker engine, if one is there.
    pub docker: Docker,
    /// Containers of our own making, and native types in any case.
    pub embedded: Arc<Embedded>,
}

impl Both {
    /// Of an installation. `doors` lead to the server.
    pub async fn of(serve: &Serve, store: &Store, doors: &Doors) -> anyhow::Result<Both> {
        Both::new(serve, &serve.state_dir, &installation(store).await?, doors)
    }

    /// Of no installation yet, for looking at the host only.
    pub fn without_state(serve: &Serve, scratch: &Path) -> anyhow::Result<Both> {
        Both::new(serve, scratch, "none", &Doors::default())
    }

    fn new(serve: &Serve, state: &Path, installation: &str, doors: &Doors) -> anyhow::Result<Both> {
        let state = std::path::absolute(state)?;
        let options = embedded::Options {
            allow_host_rootfs: serve.allow_host_rootfs,
            allow_local: serve.allow_local_git,
            self_exe: std::env::current_exe().context("where this program's file is")?,
            masked: vec![state.clone()],
            most_image_bytes: serve.registries.max_image_size.saturating_mul(1 << 30),
            watermark: serve.containment.low_disk_watermark,
            isolation: serve.containment.isolation(doors),
        };
        let docker = Docker::connect(docker::Options {
            network: serve.containment.docker_network.clone(),
            leases: serve.containment.docker_leases,
            isolation: serve.containment.isolation(doors),
            watermark: serve.containment.low_disk_watermark,
            ..docker::Options::new(installation)
        });
        let place = state.join("worker");
        // What looks half made to a process that runs no builds may be the other's work.
        let embedded = match serve.roles.contains(&RoleChoice::Scheduler) {
            true => Embedded::new(place, options)?,
            false => Embedded::beside(place, options)?,
        };
        Ok(Both { docker, embedded: Arc::new(embedded) })
    }
}

/// What the settings say. Nothing of an engine is used before the first step, but for `auto`, which asks whether one is
/// there. `doors` lead to the server.
pub async fn choose(serve: &Serve, store: &Store, doors: &Doors) -> anyhow::Result<Runtimes> {
    let Both { docker, embedded } = Both::of(serve, store, doors).await?;
    let in_docker = match serve.runtime {
        RuntimeChoice::Embedded => false,
        RuntimeChoice::Docker => {
            docker.ping(serve.runtime.patience()).await.context("--runtime docker").map(|()| true)?
        }
        RuntimeChoice::Auto | RuntimeChoice::OfConcourse => match docker.ping(serve.runtime.patience()).await {
            Ok(()) => true,
            Err(error) => {
                tracing::info!(%error, "no Docker here: steps run in containers of our own making");
                false
            }
        },
    };
    let shortcoming = if in_docker { embedded.shortcoming().await } else { None };
    let isolation = Arc::<Mutex<String>>::default();
    let containers: Arc<dyn Runtime> = if in_docker { Arc::new(docker.clone()) } else { embedded.clone() };
    let natives: Arc<dyn NativeHost> = match shortcoming {
        None => Arc::new(Children(embedded.clone())),
        Some(_) => Arc::new(InEngine::new(containers.clone(), embedded.clone(), &serve.state_dir)?),
    };
    if serve.roles.contains(&RoleChoice::Worker) {
        let (docker, embedded, told) = (docker.clone(), embedded.clone(), isolation.clone());
        let of_host = doctor::of_start(serve);
        // Beside the start: nobody waits for a word.
        tokio::spawn(async move {
            let tell = |runtime, mut findings: Vec<doctor::Finding>| {
                findings.extend(of_host.iter().cloned());
                let summary = doctor::summary(&findings);
                let text = format!("{runtime}: {summary}");
                let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
                if *told != text {
                    tracing::info!(runtime, isolation = summary, "where steps run");
                    *told = text;
                }
            };
            if !in_docker {
                return tell("embedded", doctor::of_embedded(&embedded).await);
            }
            let natives = doctor::of_natives(shortcoming.as_deref());
            let of_docker = async || [doctor::of_docker(&docker, false).await, natives.clone()].concat();
            tell("docker", of_docker().await);
            // Before a step has a network it is only likely where the engine's networks are.
            docker.networks().decided().await;
            tell("docker", of_docker().await);
        });
    }
    Ok(Runtimes { containers, natives, isolation })
}

/// This installation's own name on an engine that others may use too; made at the first start.
async fn installation(store: &Store) -> anyhow::Result<String> {
    let made = chance::hex::<8>();
    let id = store.write(move |tx| match tx.setting("installation")? {
        Some(id) => Ok(id),
        None => {
            tx.set_setting("installation", &made)?;
            Ok(made)
        }
    });
    Ok(id.await?)
}
