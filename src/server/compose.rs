//! The composition of the world: everything is made here once and handed to who needs it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::http::header;
use tokio::net::TcpListener;

use super::bells::{Bells, Rung};
use super::config::{RoleChoice, RuntimeChoice, Serve};
use super::lock::RoleLock;
use super::runtimes::{self, Runtimes};
use super::{listen, log, metrics, program, tls};
use crate::audit::Audit;
use crate::auth::policy::Rbac;
use crate::base::clock::{Clock, System, Time};
use crate::base::hold::Hold;
use crate::base::outgoing::Outgoing;
use crate::base::shutdown::Shutdown;
use crate::engine::feed::Feed;
use crate::engine::{self, Wakes};
use crate::front::{App, AppParts, BuiltIn, Routes, Settings};
use crate::login::{Login, LoginParts};
use crate::pipeline::Object;
use crate::resource::base_type::BaseTypes;
use crate::resource::bundle::{self, Bundle};
use crate::resource::native;
use crate::runtime::network::Doors;
use crate::schedule::due::Intervals;
use crate::schedule::retention::LogLimits;
use crate::store::Store;

/// What a test replaces.
pub struct Seams {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where steps run, instead of what the settings say.
    pub runtime: Option<Runtimes>,
}

impl Default for Seams {
    fn default() -> Self {
        Seams { clock: Arc::new(System), runtime: None }
    }
}

/// A running server.
pub struct World {
    /// What handlers reach, for those who start a server themselves.
    pub app: App,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    runtimes: Runtimes,
    notices: Vec<String>,
    hints: Vec<String>,
    _locks: Vec<RoleLock>,
}

impl World {
    /// Opens the state directory and serves. Returns when requests are answered.
    pub async fn start(serve: Serve, seams: Seams) -> anyhow::Result<World> {
        let log_level = log::start(serve.log_format, &serve.log_level).map_err(anyhow::Error::msg)?;
        let recorder = metrics::start(&serve.metrics_attribute);
        let locks = take_roles(&serve)?;
        let store = Store::open(&serve.state_dir)
            .with_context(|| format!("cannot open the database in {}", serve.state_dir.display()))?;
        let ports = Ports::open(&serve).await?;
        let runtimes = match seams.runtime {
            Some(runtimes) => runtimes,
            None => runtimes::choose(&serve, &store, &doors(&serve, &ports)).await?,
        };
        let bundles = match &serve.resource_types {
            Some(directory) => bundle::discover(directory)?,
            None => Vec::new(),
        };
        let base_types = BaseTypes::new(&serve.base_resource_type, runtimes.natives.has_host());
        let types = built_in(&bundles, &base_types);
        let settings = settings(&serve, types, &ports, seams.clock.now())?;
        let login = login(&serve, &store, &seams.clock, &settings.external_url)?;
        prepare(&store, &login, &serve).await?;
        let notices = notices(&serve);
        let hints = hints(&serve, &store, &login).await?;
        let hold = Hold::default();
        let secrets =
            serve.secrets.open(&serve.state_dir, (&store, &seams.clock), &settings.external_url, outgoing(&serve))?;
        if secrets.keys.has_old() {
            secrets.reseal().await.map_err(anyhow::Error::msg).context("cannot seal the secrets with the new key")?;
        }
        let app = App::new(AppParts {
            secrets: secrets.clone(),
            feed: Feed::new(store.clone(), seams.clock.clone()),
            audit: Audit::new(store.clone(), serve.auditing.categories().collect()),
            store,
            clock: seams.clock,
            wakes: Wakes::default(),
            runtime: runtimes.containers.clone(),
            natives: runtimes.natives.runtime(),
            login,
            pages: Box::new(crate::web::Drawn),
            log_level,
            shutdown: Shutdown::new(),
            isolation: runtimes.isolation.clone(),
            hold: hold.clone(),
            settings,
        });
        if serve.roles.contains(&RoleChoice::Scheduler) {
            let shared = engine::Shared::new(engine::Parts {
                store: app.store.clone(),
                clock: app.clock.clone(),
                feed: app.feed.clone(),
                wakes: app.wakes.clone(),
                runtime: runtimes.containers.clone(),
                natives: runtimes.natives.clone(),
                bundles,
                hold,
                secrets,
                settings: engine_settings(&serve, &app.settings.external_url, base_types)?,
            });
            engine::start(&shared, &app.shutdown);
        }
        let address = ports.plain.address;
        ports.serve(&app)?;
        let rung = Rung { store: app.store.clone(), wakes: app.wakes.clone(), feed: app.feed.clone() };
        let bells = Bells::open(&serve.state_dir, &serve.roles, rung);
        if let Some(bells) = bells.context("cannot open the socket for wake-ups in the state directory")? {
            app.shutdown.spawn(bells.run(app.shutdown.clone()));
        }
        let metrics = match serve.prometheus_bind_port {
            Some(port) => Some(serve_metrics(&app, (serve.prometheus_bind_ip, port).into(), recorder).await?),
            None => None,
        };
        Ok(World { app, address, metrics, runtimes, notices, hints, _locks: locks })
    }

    /// Where it listens, or the process that serves the web beside this one.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its metrics are, if anywhere.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What the operator should know.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// What the operator must do before anybody can use the server, such as to add a first user.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Stops and takes the steps that still run along, for a server whose state is thrown away.
    pub async fn end(self) {
        let runtimes = self.runtimes.all();
        self.app.shutdown.ask();
        self.app.shutdown.finished().await;
        for runtime in runtimes {
            let Ok(listing) = runtime.list().await else { continue };
            for container in listing.containers {
                if let Err(error) = runtime.remove_container(&container).await {
                    tracing::warn!(%error, %container, "not removed");
                }
            }
            // Those of an ordinary user hold directories that only the runtime knows how to remove.
            for volume in listing.volumes {
                if let Err(error) = runtime.remove_volume(&volume).await {
                    tracing::warn!(%error, %volume, "not removed");
                }
            }
            runtime.close().await;
        }
    }

    /// Stops, letting what is under way finish.
    pub async fn stop(self) {
        self.app.shutdown.ask();
        self.app.shutdown.finished().await;
        for runtime in self.runtimes.all() {
            runtime.close().await;
        }
    }
}

/// Serves until a signal: the first asks everything to finish, the second ends at once.
pub async fn run(serve: Serve, seams: Seams) -> anyhow::Result<()> {
    let web = serve.roles.contains(&RoleChoice::Web);
    let world = World::start(serve, seams).await?;
    if web {
        tracing::info!(address = %world.address(), url = world.app.settings.external_url, "ready");
    } else {
        tracing::info!("ready; the web is left to another process on this state directory");
    }
    for notice in world.notices() {
        tracing::warn!("{notice}");
    }
    for hint in world.hints() {
        tracing::warn!(target: log::ALWAYS, "{hint}");
    }
    signal().await?;
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = world.stop() => Ok(()),
        second = signal() => second,
    }
}

/// SIGINT or SIGTERM.
pub async fn signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn take_roles(serve: &Serve) -> anyhow::Result<Vec<RoleLock>> {
    let directory = &serve.state_dir;
    // Whoever else is on this host has no business in it.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make the state directory {}", directory.display()))?;
    let roles: std::collections::BTreeSet<_> = serve.roles.iter().copied().collect();
    Ok(roles.into_iter().map(|role| RoleLock::take(directory, role.name())).collect::<Result<_, _>>()?)
}

/// A port, before anything is answered on it. In a process that does not serve the web nobody listens: it is where the
/// one beside it does.
struct Port {
    listener: Option<TcpListener>,
    address: SocketAddr,
}

impl Port {
    async fn open(serve: &Serve, port: u16, flag: &str) -> anyhow::Result<Port> {
        let address = (serve.bind_ip, port).into();
        if !serve.roles.contains(&RoleChoice::Web) {
            return Ok(Port { listener: None, address });
        }
        let listener = listen::bind(address, flag).await?;
        Ok(Port { address: listener.local_addr()?, listener: Some(listener) })
    }
}

/// The ports of the web.
struct Ports {
    plain: Port,
    encrypted: Option<(Port, tokio_rustls::TlsAcceptor)>,
}

impl Ports {
    async fn open(serve: &Serve) -> anyhow::Result<Ports> {
        let plain = Port::open(serve, serve.bind_port, "--bind-port").await?;
        let encrypted = match serve.network.tls(serve.external_url.as_deref())? {
            Some((port, certificate, key)) => {
                let acceptor = tls::acceptor(&certificate, &key)?;
                Some((Port::open(serve, port, "--tls-bind-port").await?, acceptor))
            }
            None => None,
        };
        Ok(Ports { plain, encrypted })
    }

    /// The number of the port for HTTPS.
    fn encrypted(&self) -> Option<u16> {
        self.encrypted.as_ref().map(|(port, _)| port.address.port())
    }

    /// Answers, where somebody listens.
    fn serve(self, app: &App) -> anyhow::Result<()> {
        let Some(plain) = self.plain.listener else { return Ok(()) };
        let router = crate::web::routes(crate::api::routes(Routes::new(app.clone()))).finish();
        if let Some((Port { listener: Some(listener), .. }, acceptor)) = self.encrypted {
            listen::serve(tls::Encrypted::new(listener, acceptor)?, router.clone(), &app.shutdown);
        }
        listen::serve(listen::Plain(plain), router, &app.shutdown);
        Ok(())
    }
}

/// The ways to this server for its steps.
fn doors(serve: &Serve, ports: &Ports) -> Doors {
    let own = [Some(&ports.plain), ports.encrypted.as_ref().map(|(port, _)| port)].into_iter().flatten();
    let own = own.map(|port| port.address);
    let front = serve.external_url.as_deref().and_then(|url| url.parse::<axum::http::Uri>().ok()).and_then(|url| {
        let usual = if url.scheme_str() == Some("https") { 443 } else { 80 };
        Some((url.host()?.trim_matches(['[', ']']).to_owned(), url.port_u16().unwrap_or(usual)))
    });
    Doors::new(own.filter(|own| !own.ip().is_loopback()).map(|own| own.port()).collect(), front)
}

fn login(serve: &Serve, store: &Store, clock: &Arc<dyn Clock>, external_url: &str) -> anyhow::Result<Login> {
    Ok(Login::new(LoginParts {
        store: store.clone(),
        clock: clock.clone(),
        users: serve.add_local_user.clone(),
        connectors: serve.sign_in.connectors(clock)?,
        callback: format!("{external_url}/sky/issuer/callback"),
        lifetime: serve.auth_duration,
    }))
}

fn settings(serve: &Serve, resource_types: Vec<BuiltIn>, ports: &Ports, started: Time) -> anyhow::Result<Settings> {
    let local = || match ports.encrypted() {
        Some(port) => format!("https://127.0.0.1:{port}"),
        None => format!("http://127.0.0.1:{}", ports.plain.address.port()),
    };
    let external_url = serve.external_url.as_deref().map_or_else(local, |url| url.trim_end_matches('/').to_owned());
    Ok(Settings {
        cookie_secure: serve.cookie_secure || external_url.starts_with("https://"),
        hsts: serve.network.hsts(&external_url),
        networks: serve.network.networks(),
        external_url,
        cluster_name: serve.cluster_name.clone().unwrap_or_default(),
        worker_name: serve.worker_name.clone(),
        worker_tags: serve.tag.clone(),
        resource_types,
        started,
        hijack_idle: serve.network.intercept_idle_timeout,
        frames: serve.network.x_frame_options,
        global_resources: serve.enable_global_resources,
        hijack_grace: serve.containment.gc_hijack_grace_period,
        rbac: serve.config_rbac.as_deref().map(rbac).transpose()?.unwrap_or_default(),
        intervals: intervals(serve),
        concourse_version: serve.concourse_version.clone(),
        named_teams: serve.secrets.named_teams().into_iter().chain(serve.containment.named_teams()).collect(),
        cli_artifacts_dir: serve.cli_artifacts_dir.clone(),
    })
}

/// The types that pipelines can use without naming an image: native ones, or else those of the table, unless a bundle
/// takes their place.
fn built_in(bundles: &[Bundle], base: &BaseTypes) -> Vec<BuiltIn> {
    let bundled = |name: &str| bundles.iter().any(|b| b.name == name);
    let fetched = base.iter().filter(|(name, _)| !bundled(name) && base.native(name).is_none());
    let fetched = fetched.map(|(name, base)| BuiltIn {
        name: name.to_owned(),
        version: base.parts().1.to_owned(),
        privileged: base.privileged,
        unique_version_history: false,
    });
    let native = native::all().iter().filter(|n| !bundled(n.name()) && base.native(n.name()).is_some());
    let native = native.map(|n| BuiltIn {
        name: n.name().to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        privileged: false,
        unique_version_history: n.unique_history(),
    });
    let bundles = bundles.iter().map(|b| BuiltIn {
        name: b.name.clone(),
        version: b.version.clone(),
        privileged: b.privileged,
        unique_version_history: b.unique_version_history,
    });
    native.chain(bundles).chain(fetched).collect()
}

/// How often resources are checked.
fn intervals(serve: &Serve) -> Intervals {
    let usual = serve.resource_checking_interval;
    Intervals { usual, webhook: serve.resource_with_webhook_checking_interval.unwrap_or(usual).max(usual) }
}

fn engine_settings(serve: &Serve, external_url: &str, base_types: BaseTypes) -> anyhow::Result<engine::Settings> {
    Ok(engine::Settings {
        external_url: external_url.to_owned(),
        worker_name: serve.worker_name.clone(),
        worker_tags: serve.tag.clone(),
        allow_local_git: serve.allow_local_git,
        allow_host_rootfs: serve.allow_host_rootfs,
        registries: serve.registries.registries(outgoing(serve))?,
        proxies: serve.containment.proxies().variables(),
        base_types,
        cache_dir: std::path::absolute(serve.state_dir.join("cache"))?,
        most_tasks: serve.max_active_tasks_per_worker,
        checks_per_second: serve.max_checks_per_second,
        timeouts: engine::Timeouts {
            check: serve.global_resource_check_timeout,
            get: serve.default_get_timeout,
            put: serve.default_put_timeout,
            task: serve.default_task_timeout,
        },
        task_cache_ttl: serve.default_task_cache_ttl,
        defaults: serve.base_resource_type_defaults.as_deref().map(defaults).transpose()?.unwrap_or_default(),
        check_interval: intervals(serve).usual,
        webhook_interval: intervals(serve).webhook,
        type_check_interval: serve.resource_type_checking_interval.max(serve.resource_checking_interval),
        retention: serve.containment.retention(),
        watch: engine::disk::Watch {
            places: vec![std::path::absolute(&serve.state_dir)?],
            watermark: serve.containment.low_disk_watermark,
        },
        audit_retention: serve.auditing.audit_retention,
        starts: 2 * std::thread::available_parallelism().map_or(1, usize::from),
        share_histories: serve.enable_global_resources,
        keeping: engine::retention::Keeping {
            logs: LogLimits {
                default_builds: serve.default_build_logs_to_retain.into(),
                max_builds: serve.max_build_logs_to_retain.into(),
                default_days: serve.default_days_to_retain_build_logs.into(),
                max_days: serve.max_days_to_retain_build_logs.into(),
            },
            pause_after_days: serve.pause_pipelines_after,
        },
    })
}

/// Requests for pipelines are denied the networks that their steps are, and pass the same proxies.
fn outgoing(serve: &Serve) -> Outgoing {
    Outgoing::new(serve.containment.deny_networks.clone()).through(serve.containment.proxies())
}

fn defaults(path: &Path) -> anyhow::Result<BTreeMap<String, Object>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let defaults: Option<BTreeMap<String, Object>> = serde_yaml::from_str(&text)
        .with_context(|| format!("{} is not a map of resource types to sources", path.display()))?;
    Ok(defaults.unwrap_or_default())
}

fn rbac(path: &Path) -> anyhow::Result<Rbac> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let moved: Option<BTreeMap<String, Vec<String>>> =
        serde_yaml::from_str(&text).with_context(|| format!("{} is not a map of roles to actions", path.display()))?;
    Rbac::new(&moved.unwrap_or_default()).with_context(|| format!("cannot use {}", path.display()))
}

/// What must be in the database before the first request: the main team as configured, nobody who was removed.
async fn prepare(store: &Store, login: &Login, serve: &Serve) -> anyhow::Result<()> {
    let auth = serve.main_team.auth()?.map(serde_json::to_value).transpose()?;
    store.write(move |tx| tx.ensure_main(auth.as_ref())).await?;
    login.forget_removed_users().await?;
    Ok(())
}

fn notices(serve: &Serve) -> Vec<String> {
    let mut notices = serve.containment.notices(serve.runtime != RuntimeChoice::Embedded);
    notices.extend(serve.notice.iter().cloned());
    if serve.runtime == RuntimeChoice::OfConcourse {
        notices.push("there is no containerd, guardian or houdini here: --runtime is taken as auto".into());
    }
    notices
}

/// Who cannot sign in or see anything, and what to do about it.
async fn hints(serve: &Serve, store: &Store, login: &Login) -> anyhow::Result<Vec<String>> {
    let add = |name: &str| {
        let state_dir = std::path::absolute(&serve.state_dir).unwrap_or_else(|_| serve.state_dir.clone());
        let state_dir = program::quoted(&state_dir.to_string_lossy());
        format!("`{} user add {} --state-dir {state_dir}`", program::name(), program::quoted(name))
    };
    if !login.has_local_users().await && login.choices().is_empty() {
        return Ok(vec![format!(
            "nobody can sign in yet; add a user with {}, and start again with --main-team-local-user NAME so that they \
             administer this server",
            add("NAME")
        )]);
    }
    let main = store.read(|tx| tx.find_team("main")).await?;
    if main.is_none_or(|team| is_empty(&team.auth)) {
        let flag = match serve.add_local_user.first() {
            Some(user) => format!("--main-team-local-user {}", program::quoted(user.name())),
            None => "--main-team-local-user NAME (--main-team-github-user NAME …)".to_owned(),
        };
        return Ok(vec![format!(
            "nobody is in the team main: whoever signs in can do nothing and see public pipelines only. Start again with \
             {flag}, so that they own the team and administer this server"
        )]);
    }
    let mut hints = Vec::new();
    for owner in serve.main_team.main_team_local_user.iter().filter(|name| !name.trim().is_empty()) {
        if !login.is_local_user(owner).await {
            hints.push(format!("{owner} owns the team main but cannot sign in; run {}", add(owner)));
        }
    }
    Ok(hints)
}

/// Whether nobody has a role.
fn is_empty(auth: &serde_json::Value) -> bool {
    let members = |kind: &serde_json::Value| kind.as_array().is_some_and(|names| !names.is_empty());
    let roles = auth.as_object().into_iter().flat_map(|roles| roles.values());
    !roles.flat_map(|role| [&role["users"], &role["groups"]]).any(members)
}

async fn serve_metrics(app: &App, address: SocketAddr, recorder: metrics::Recorder) -> anyhow::Result<SocketAddr> {
    let listener = listen::bind(address, "--prometheus-bind-port").await?;
    let address = listener.local_addr()?;
    let served = app.clone();
    let router = Router::new().fallback(move || {
        let (app, recorder) = (served.clone(), recorder.clone());
        async move {
            let text = metrics::render(&app, &recorder).await;
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
        }
    });
    listen::serve(listen::Plain(listener), router, &app.shutdown);
    Ok(address)
}
