//! Which runtime this process uses, and where native resource types run.

use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;

use super::config::{RuntimeChoice, Serve};
use crate::base::chance;
use crate::exec::NativeHost;
use crate::runtime::docker::{self, Docker};
use crate::runtime::embedded::{self, Embedded, NATIVE_EXE};
use crate::runtime::{self, Attached, ContainerHandle, ContainerSpec, Runtime};
use crate::store::Store;

/// Where things run.
#[derive(Clone)]
pub struct Runtimes {
    /// Containers of steps.
    pub containers: Arc<dyn Runtime>,
    /// Native gets and puts.
    pub natives: Arc<dyn NativeHost>,
}

/// What the settings say. Nothing of an engine is used before the first step, but for `auto`, which asks whether one is
/// there.
pub async fn choose(serve: &Serve, store: &Store) -> anyhow::Result<Runtimes> {
    let state = std::path::absolute(&serve.state_dir)?;
    let options = embedded::Options {
        allow_host_rootfs: serve.allow_host_rootfs,
        allow_local: serve.allow_local_git,
        self_exe: std::env::current_exe().context("where this program's file is")?,
        masked: vec![state.clone()],
    };
    let embedded = Arc::new(Embedded::new(state.join("worker"), options)?);
    let natives: Arc<dyn NativeHost> = Arc::new(Natives(embedded.clone()));
    let docker = match serve.runtime {
        RuntimeChoice::Embedded => None,
        RuntimeChoice::Docker => {
            let docker = Docker::connect(docker::Options::new(installation(store).await?));
            docker.ping().await.context("--runtime docker")?;
            Some(docker)
        }
        RuntimeChoice::Auto => {
            let docker = Docker::connect(docker::Options::new(installation(store).await?));
            match docker.ping().await {
                Ok(()) => Some(docker),
                Err(error) => {
                    tracing::info!(%error, "no Docker here: steps run in containers of our own making");
                    None
                }
            }
        }
    };
    let containers: Arc<dyn Runtime> = match docker {
        Some(docker) => Arc::new(docker),
        None => embedded,
    };
    Ok(Runtimes { containers, natives })
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

/// Native types as confined children on the host's own files.
pub struct Natives(pub Arc<Embedded>);

#[async_trait]
impl NativeHost for Natives {
    async fn start(&self, container: &ContainerHandle, spec: &ContainerSpec) -> runtime::Result<Attached> {
        self.0.start_native(container, spec).await
    }

    fn runtime(&self) -> Arc<dyn Runtime> {
        self.0.clone()
    }

    fn program(&self) -> String {
        NATIVE_EXE.to_owned()
    }
}
