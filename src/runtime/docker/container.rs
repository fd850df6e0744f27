//! A container as the engine is told to make it. Nothing of the step's process is in here, so that no secret can be
//! read with `docker inspect`: PID 1 is our own binary, which is told the process over its standard input.

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HealthConfig, HostConfig, HostConfigLogConfig, Mount as EngineMount, MountType,
    MountVolumeOptions, ResourcesUlimits,
};

use super::naming::Naming;
use crate::runtime::{self, ContainerHandle, ContainerSpec, Isolation};

/// Where a container sees the volume with our binary.
pub const SUPERVISOR_DIRECTORY: &str = "/.whistlestop";
/// The binary in it.
pub const SUPERVISOR: &str = "/.whistlestop/whistlestop";

/// What Concourse leaves to the root of an unprivileged container; all the rest is dropped.
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// How much of the host a privileged container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Everything, as `docker run --privileged` gives.
    Full,
    /// All but `SYS_RESOURCE`, for engines that lack it themselves and so cannot give it.
    AllTheEngineHas,
}

/// What is needed besides the specification.
pub struct Surroundings<'a> {
    /// Names and labels.
    pub naming: &'a Naming,
    /// The engine's name of the root file system.
    pub image: String,
    /// The engine's names of the volumes, in the order of the specification's mounts.
    pub volumes: Vec<String>,
    /// The volume with our binary.
    pub binary: String,
    /// The network of a container that may have one; the engine's default where `None`.
    pub network: Option<String>,
    /// The container whose network namespace it joins instead, which has the hosts and name servers that go with it.
    pub lease: Option<String>,
    /// What privileged means on this engine.
    pub privilege: Privilege,
    /// Root in its containers is somebody else outside.
    pub own_users: bool,
    /// The operator's word.
    pub isolation: &'a Isolation,
}

/// The engine's form of a container.
pub fn body(handle: &ContainerHandle, spec: &ContainerSpec, around: Surroundings<'_>) -> ContainerCreateBody {
    let labels = around.naming.labels(&spec.team, &handle.0, &spec.labels);
    let first = match (around.isolation.privilege(spec), around.privilege) {
        (runtime::Privilege::All, Privilege::AllTheEngineHas) => "--pid1-privileged",
        _ => "--pid1",
    };
    ContainerCreateBody {
        hostname: around.lease.is_none().then(|| handle.0.clone()),
        user: Some("0:0".to_string()),
        working_dir: Some("/".to_string()),
        image: Some(around.image.clone()),
        entrypoint: Some([SUPERVISOR, "supervise", first].map(str::to_string).to_vec()),
        cmd: Some(around.isolation.output.iter().map(u64::to_string).collect()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        stdin_once: Some(true),
        tty: Some(false),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_string()]), ..Default::default() }),
        labels: Some(labels),
        host_config: Some(host_config(spec, around)),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec, around: Surroundings<'_>) -> HostConfig {
    let lease = around.lease.as_ref().map(|name| format!("container:{name}"));
    let network = if spec.hermetic { Some("none".to_string()) } else { lease.or_else(|| around.network.clone()) };
    let own_network = around.lease.is_none();
    let (isolation, limits) = (around.isolation, around.isolation.limits(spec));
    let signed = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    let memory = signed(limits.memory);
    let policy = &isolation.network;
    let mut config = HostConfig {
        mounts: Some(mounts(spec, &around)),
        network_mode: network,
        cpu_shares: signed(limits.cpu),
        memory,
        memory_swap: memory,
        // What the process writes is spooled by PID 1 and kept by the server.
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_string()), config: None }),
        init: Some(false),
        pids_limit: signed(isolation.processes),
        ulimits: signed(isolation.open_files).map(|most| {
            vec![ResourcesUlimits { name: Some("nofile".to_string()), soft: Some(most), hard: Some(most) }]
        }),
        dns: (own_network && !policy.dns.is_empty()).then(|| policy.dns.iter().map(ToString::to_string).collect()),
        extra_hosts: (own_network && !policy.hosts.is_empty() && !spec.hermetic)
            .then(|| policy.hosts.iter().map(|h| format!("{}:{}", h.name, h.address)).collect()),
        security_opt: isolation.no_new_privileges.then(|| vec!["no-new-privileges".to_string()]),
        ..Default::default()
    };
    match (isolation.privilege(spec), around.privilege) {
        (runtime::Privilege::Usual, _) => {
            config.cap_drop = Some(vec!["ALL".to_string()]);
            config.cap_add = Some(CAPABILITIES.map(str::to_string).to_vec());
        }
        // To mount is to be root of the host where users are the host's: Docker's filter of system calls opens with it.
        (runtime::Privilege::Fuse, _) if !around.own_users => {
            config.cap_drop = Some(vec!["ALL".to_string()]);
            config.cap_add = Some(CAPABILITIES.map(str::to_string).to_vec());
            config.devices = fuse();
        }
        (runtime::Privilege::Fuse, _) => {
            config.cap_drop = Some(vec!["ALL".to_string()]);
            config.cap_add = Some(CAPABILITIES.iter().chain(&["SYS_ADMIN"]).map(ToString::to_string).collect());
            let unconfined = ["seccomp=unconfined", "apparmor=unconfined"].map(str::to_string);
            config.security_opt.get_or_insert_default().extend(unconfined);
            config.devices = fuse();
        }
        (runtime::Privilege::All, Privilege::Full) => config.privileged = Some(true),
        (runtime::Privilege::All, Privilege::AllTheEngineHas) => {
            config.cap_add = Some(vec!["ALL".to_string()]);
            config.cap_drop = Some(vec!["SYS_RESOURCE".to_string()]);
            let unconfined = ["seccomp=unconfined", "apparmor=unconfined"].map(str::to_string);
            config.security_opt.get_or_insert_default().extend(unconfined);
            config.devices = fuse();
            config.device_cgroup_rules = Some(vec!["a *:* rwm".to_string()]);
            config.masked_paths = Some(Vec::new());
            config.readonly_paths = Some(Vec::new());
        }
    }
    config
}

/// The device that file systems in user space need, where this host has it; an engine refuses what its own has not.
fn fuse() -> Option<Vec<DeviceMapping>> {
    let path = Some("/dev/fuse".to_string()).filter(|path| std::path::Path::new(path).exists())?;
    let (path_on_host, path_in_container) = (Some(path.clone()), Some(path));
    Some(vec![DeviceMapping { path_on_host, path_in_container, cgroup_permissions: Some("rwm".to_string()) }])
}

fn mounts(spec: &ContainerSpec, around: &Surroundings<'_>) -> Vec<EngineMount> {
    let mut mounts = vec![supervisor_mount(around.binary.clone())];
    // A volume of the container's own: `/scratch` must not lie on the overlay, for those who mount one there.
    if spec.privileged && !spec.mounts.iter().any(|mount| mount.path == "/scratch") {
        mounts.push(volume_mount(None, "/scratch", false));
    }
    let steps = spec.mounts.iter().zip(&around.volumes);
    mounts.extend(steps.map(|(mount, name)| volume_mount(Some(name.clone()), &mount.path, mount.read_only)));
    mounts.sort_by(|a, b| a.target.cmp(&b.target));
    mounts
}

/// The volume with our binary, in its place.
pub fn supervisor_mount(volume: String) -> EngineMount {
    volume_mount(Some(volume), SUPERVISOR_DIRECTORY, true)
}

fn volume_mount(source: Option<String>, target: &str, read_only: bool) -> EngineMount {
    // Without `no_copy` the engine fills an empty volume with what the image has in that place.
    let options = MountVolumeOptions { no_copy: Some(true), ..Default::default() };
    EngineMount {
        typ: Some(MountType::VOLUME),
        source,
        target: Some(target.to_string()),
        read_only: Some(read_only),
        volume_options: Some(options),
        ..Default::default()
    }
}

/// The mount points that must be made by hand since the mount they lie in cannot be written to: index of that mount,
/// and the path in its volume.
pub fn hidden_mount_points(spec: &ContainerSpec) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for inner in &spec.mounts {
        let parents = spec.mounts.iter().enumerate().filter_map(|(index, outer)| {
            let below = inner.path.strip_prefix(outer.path.trim_end_matches('/'))?.strip_prefix('/')?;
            (!below.is_empty()).then(|| (index, outer, below.to_string()))
        });
        if let Some((index, outer, below)) = parents.max_by_key(|(_, outer, _)| outer.path.len())
            && outer.read_only
        {
            found.push((index, below));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Image, Limits, Mount, PrivilegedMode, Process, VolumeHandle};
    use std::collections::BTreeMap;

    fn spec(mounts: &[(&str, bool)]) -> ContainerSpec {
        let mount = |(index, (path, read_only)): (usize, &(&str, bool))| Mount {
            volume: VolumeHandle(format!("v{index}")),
            path: (*path).to_string(),
            read_only: *read_only,
        };
        ContainerSpec {
            team: "main".into(),
            labels: BTreeMap::new(),
            image: Image::Engine("busybox".into()),
            privileged: false,
            hermetic: false,
            mounts: mounts.iter().enumerate().map(mount).collect(),
            limits: Limits::default(),
            process: Process { path: "sh".into(), env: vec!["TOKEN=hunter2".into()], ..Default::default() },
        }
    }

    fn made_with(spec: &ContainerSpec, privilege: Privilege, lease: Option<&str>) -> ContainerCreateBody {
        made_under(&Isolation::default(), false, spec, privilege, lease)
    }

    fn made_under(
        isolation: &Isolation,
        own_users: bool,
        spec: &ContainerSpec,
        privilege: Privilege,
        lease: Option<&str>,
    ) -> ContainerCreateBody {
        let naming = Naming::new("i");
        let volumes = spec.mounts.iter().map(|mount| format!("ws-{}", mount.volume)).collect();
        let around = Surroundings {
            naming: &naming,
            image: "image".into(),
            volumes,
            binary: "binary".into(),
            network: Some("ci".into()),
            lease: lease.map(str::to_owned),
            privilege,
            own_users,
            isolation,
        };
        body(&ContainerHandle("c1".into()), spec, around)
    }

    fn made(spec: &ContainerSpec, privilege: Privilege) -> ContainerCreateBody {
        made_with(spec, privilege, None)
    }

    #[test]
    fn nothing_of_the_process_is_told_to_the_engine() {
        let text = serde_json::to_string(&made(&spec(&[]), Privilege::Full)).unwrap();
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn unprivileged_is_fourteen_capabilities_and_the_default_filter() {
        let config = made(&spec(&[]), Privilege::AllTheEngineHas).host_config.unwrap();
        assert_eq!(config.cap_add.unwrap(), CAPABILITIES);
        assert_eq!(config.cap_drop.unwrap(), ["ALL"]);
        assert_eq!((config.privileged, config.security_opt), (None, None));
    }

    #[test]
    fn privileged_is_full_or_all_the_engine_has() {
        let spec = ContainerSpec { privileged: true, ..spec(&[]) };
        assert_eq!(made(&spec, Privilege::Full).host_config.unwrap().privileged, Some(true));
        let fallback = made(&spec, Privilege::AllTheEngineHas).host_config.unwrap();
        let first = |privilege| made(&spec, privilege).entrypoint.unwrap().pop();
        assert_eq!(first(Privilege::Full).as_deref(), Some("--pid1"));
        assert_eq!(first(Privilege::AllTheEngineHas).as_deref(), Some("--pid1-privileged"));
        assert_eq!((fallback.privileged, fallback.cap_drop.unwrap()), (None, vec!["SYS_RESOURCE".to_string()]));
    }

    #[test]
    fn mounts_are_only_allowed_where_root_is_not_the_hosts() {
        let isolation = Isolation { privileged: PrivilegedMode::FuseOnly, ..Isolation::default() };
        let spec = ContainerSpec { privileged: true, ..spec(&[]) };
        let under = |own| made_under(&isolation, own, &spec, Privilege::Full, None).host_config.unwrap();
        assert_eq!(under(false).cap_add.unwrap(), CAPABILITIES);
        assert_eq!((under(false).privileged, under(false).security_opt), (None, None));
        assert!(under(true).cap_add.unwrap().contains(&"SYS_ADMIN".to_owned()));
        assert!(under(true).security_opt.unwrap().contains(&"seccomp=unconfined".to_owned()));
    }

    #[test]
    fn hermetic_has_no_network_and_limits_include_swap() {
        let mut spec = spec(&[]);
        assert_eq!(made(&spec, Privilege::Full).host_config.unwrap().network_mode.unwrap(), "ci");
        spec.hermetic = true;
        spec.limits = Limits { cpu: Some(512), memory: Some(1 << 20) };
        let config = made(&spec, Privilege::Full).host_config.unwrap();
        assert_eq!(config.network_mode.unwrap(), "none");
        assert_eq!((config.cpu_shares, config.memory, config.memory_swap), (Some(512), Some(1 << 20), Some(1 << 20)));
    }

    #[test]
    fn who_joins_a_network_has_no_name_or_hosts_of_its_own() {
        let body = made_with(&spec(&[]), Privilege::Full, Some("waiting"));
        let config = body.host_config.unwrap();
        assert_eq!((config.network_mode.unwrap().as_str(), body.hostname), ("container:waiting", None));
        assert_eq!((config.dns, config.extra_hosts), (None, None));
    }

    #[test]
    fn mounts_come_in_order_of_path() {
        let body = made(&spec(&[("/tmp/build/x/deep", false), ("/tmp/build/x", false)]), Privilege::Full);
        let targets: Vec<_> = body.host_config.unwrap().mounts.unwrap().into_iter().filter_map(|m| m.target).collect();
        assert_eq!(targets, ["/.whistlestop", "/tmp/build/x", "/tmp/build/x/deep"]);
    }

    #[test]
    fn mount_points_in_read_only_mounts_are_found() {
        let check = |mounts: &[(&str, bool)], expected: &[(usize, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(index, path)| (*index, (*path).to_string())).collect();
            assert_eq!(hidden_mount_points(&spec(mounts)), expected, "{mounts:?}");
        };
        check(&[("/a", true), ("/a/b/c", false)], &[(0, "b/c")]);
        check(&[("/a", false), ("/a/b", false)], &[]);
        check(&[("/a", true), ("/a/b", false), ("/a/b/c", false)], &[(0, "b")]);
        check(&[("/a", true), ("/ab", false)], &[]);
    }
}
