//! Images from registries and files through the front door, on both runtimes.

use std::path::Path;

use serde_json::{Value, json};

use super::image::{INDEX, Registry, archive, busybox, digest, push, push_index, push_packed};
use super::world::{Runtime, World, ended, run};
use crate::secrets::moto::Moto;

const NEVER: [&str; 2] = ["--resource-checking-interval", "1h"];

/// A second layer: a whiteout, a new file in a directory of the first, a hard link, a user.
fn second() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, mode: u32, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    };
    add("bin/.wh.yes", 0o644, "");
    add("etc/greeting", 0o640, "hello from layer two\n");
    add("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nbuilder:x:0:0:b:/root:/bin/sh\n");
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Link);
    header.set_size(0);
    builder.append_link(&mut header, "etc/greeting2", "etc/greeting").unwrap();
    builder.into_inner().unwrap()
}

fn base() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    busybox(root.path());
    archive(root.path())
}

fn runs() -> Value {
    json!({"Env": ["OF_IMAGE=yes", "PATH=/bin"], "User": "root", "Cmd": ["sh"], "Labels": {"made.by": "test"}})
}

async fn once(world: &World, config: &str) -> (String, String) {
    world.pipeline("p", config).await;
    let build = world.trigger("p", "j").await;
    (world.finish(build).await, world.watch(build).await)
}

async fn an_image_is_for_tasks_and_a_volume_of_files(runtime: Runtime) {
    let registry = Registry::empty("").await;
    let named = push(&registry.address, "team/app", "1.5", &[base(), second()], runs()).await;
    let world = World::new(runtime, &NEVER).await;
    let script = "id -un 2>/dev/null || echo $USER; cat /etc/greeting2; echo of-image=$OF_IMAGE; ls /bin/yes; \
                  cat image/tag; echo; cat image/digest; echo; cat image/repository; echo; cat image/metadata.json; \
                  cat image/labels.json; cat image/rootfs/etc/greeting; echo changed > image/rootfs/etc/greeting";
    let config = format!(
        r"
resources:
- {{name: app, type: registry-image, source: {{repository: {address}/team/app, tag: 1.5}}}}
jobs:
- name: j
  plan:
  - get: app
  - task: by-artifact
    image: app
    config:
      platform: linux
      inputs: [{{name: app, path: image}}]
      run: {{path: sh, args: [-c, {script}]}}
  - task: by-config
    file: app/rootfs/etc/task.yml
  - load_var: digest
    file: app/digest
    reveal: true
  - load_var: greeting
    file: app/rootfs/etc/greeting
    format: trim
    reveal: true
  - task: by-var
    image: app
    config:
      platform: linux
      run: {{path: echo, args: [loaded, ((.:digest)), ((.:greeting))]}}
  - task: by-type
    config:
      platform: linux
      image_resource: {{type: docker-image, source: {{repository: {address}/team/app, tag: '1.5'}}}}
      run: {{path: sh, args: [-c, 'cat /etc/greeting; echo of-image=$OF_IMAGE']}}
",
        address = registry.address,
        script = Value::from(script),
    );
    // A task's own file may be in an image as well.
    let task = format!(
        "platform: linux\nimage_resource: {{type: registry-image, source: {{repository: {}/team/app, tag: 1.5}}}}\n\
         run: {{path: echo, args: [from the image's own file]}}\n",
        registry.address
    );
    let third = {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(task.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, "etc/task.yml", task.as_bytes()).unwrap();
        builder.into_inner().unwrap()
    };
    drop(named);
    let named = push(&registry.address, "team/app", "1.5", &[base(), second(), third], runs()).await;
    let (status, log) = once(&world, &config).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    for part in [
        "hello from layer two\nof-image=yes",
        "yes: No such file",
        "1.5\n",
        &named,
        &format!("{}/team/app\n", registry.address),
        r#"{"cmd":["sh"],"entrypoint":null,"env":["OF_IMAGE=yes","PATH=/bin"],"user":"root"}"#,
        r#"{"made.by":"test"}"#,
        "from the image's own file",
        &format!("loaded {named} hello from layer two"),
        "fetching \u{1b}[32m",
    ] {
        assert!(log.contains(part), "{part:?} is missing in\n{log}");
    }
    let versions = world.api("teams/main/pipelines/p/resources/app/versions").await;
    assert_eq!(versions[0]["version"], json!({"tag": "1.5", "digest": named}));
    let metadata = versions[0]["metadata"].to_string();
    assert!(metadata.contains("repository") && metadata.contains("1.5"), "{metadata}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_for_tasks_and_a_volume_of_files_embedded() {
    an_image_is_for_tasks_and_a_volume_of_files(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_for_tasks_and_a_volume_of_files_in_docker() {
    an_image_is_for_tasks_and_a_volume_of_files(Runtime::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_about_images_are_told() {
    let registry = Registry::empty("").await;
    push(&registry.address, "app", "latest", &[base()], runs()).await;
    let world = World::new(Runtime::Embedded, &NEVER).await;
    for (source, said) in [
        (
            format!("repository: {}/app, tag: absent", registry.address),
            vec!["no version of image is known: ", "/app:absent: there is no such tag"],
        ),
        (
            format!("repository: {}/nothing", registry.address),
            vec!["image check failed: checking origin ", "NAME_UNKNOWN", "404"],
        ),
        ("repository: '127.0.0.1:1/app', tag: x".to_owned(), vec!["127.0.0.1", "cannot be reached"]),
        ("repository: 'app:1'".to_owned(), vec!["source.tag"]),
        ("tag: x".to_owned(), vec!["add source.repository"]),
        (format!("repository: {}/app, tags: x", registry.address), vec!["did you mean tag?"]),
        ("repository: 169.254.169.254/app, tag: x, insecure: true".to_owned(), vec!["--deny-networks"]),
        (
            format!(
                "repository: {}/app, tag: latest, platform: {{architecture: arm64}}, ca_certs: [x]",
                registry.address
            ),
            vec!["source.ca_certs"],
        ),
    ] {
        let config = format!(
            "jobs:\n- name: j\n  plan:\n  - task: t\n    config:\n      platform: linux\n      \
             image_resource: {{type: registry-image, source: {{{source}}}}}\n      run: {{path: 'true'}}\n"
        );
        let (status, log) = once(&world, &config).await;
        assert_eq!(status, "errored", "{source}: {log}");
        for part in said {
            assert!(log.contains(part), "{source}: {part:?} is missing in\n{log}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_needs_its_password_and_another_team_too() {
    let htpasswd = "auth: {htpasswd: {realm: test, path: '{DIR}/htpasswd'}}";
    let open = Registry::empty("").await;
    push(&open.address, "app", "latest", &[base(), second()], runs()).await;
    // The same files behind a password.
    let closed = Registry::empty(htpasswd).await;
    let secret = format!("pusher:{}\n", bcrypt::hash("a password", 4).unwrap());
    std::fs::write(closed.directory.path().join("htpasswd"), secret).unwrap();
    run(
        Path::new("/"),
        "cp",
        &["-a", open.directory.path().join("data").to_str().unwrap(), closed.directory.path().to_str().unwrap()],
    )
    .await;
    let world = World::new(Runtime::Embedded, &NEVER).await;
    let config = |more: &str| {
        format!(
            "jobs:\n- name: j\n  plan:\n  - task: t\n    config:\n      platform: linux\n      image_resource: \
             {{type: registry-image, source: {{repository: {}/app, tag: latest{more}}}}}\n      run: {{path: 'true'}}\n",
            closed.address
        )
    };
    let (status, log) = once(&world, &config("")).await;
    assert!(status == "errored" && log.contains("set source.username"), "{log}");
    let (status, log) = once(&world, &config(", username: pusher, password: wrong")).await;
    assert!(status == "errored" && log.contains("does not accept these credentials"), "{log}");
    let (status, log) = once(&world, &config(", username: pusher, password: 'a password'")).await;
    assert_eq!(status, "succeeded", "{log}");
}

/// A certificate for this host's loopback and the authority that signed it, as files in a directory.
pub async fn certificates(directory: &Path) {
    std::fs::write(directory.join("extensions"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    run(directory, "openssl", &[&authority[..], &new].concat()).await;
    let request = ["req", "-subj", "/CN=registry", "-keyout", "key.pem", "-out", "request.pem"];
    run(directory, "openssl", &[&request[..], &new].concat()).await;
    let sign = ["x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"];
    let more = ["-days", "2", "-extfile", "extensions", "-out", "cert.pem"];
    run(directory, "openssl", &[&sign[..], &more].concat()).await;
}

/// The same files behind another registry.
async fn copy(from: &Registry, to: &Path) {
    run(Path::new("/"), "cp", &["-a", from.directory.path().join("data").to_str().unwrap(), to.to_str().unwrap()])
        .await;
}

async fn an_authority_of_its_own_is_trusted(runtime: Runtime) {
    let open = Registry::empty("").await;
    push(&open.address, "app", "latest", &[base(), second()], runs()).await;
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path()).await;
    copy(&open, directory.path()).await;
    let authority = std::fs::read_to_string(directory.path().join("ca.pem")).unwrap();
    let closed = Registry::encrypted(directory, "").await;
    let world = World::new(runtime, &NEVER).await;
    let config = |more: Value| {
        let mut source = json!({"repository": format!("{}/app", closed.address), "tag": "latest"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config = json!({"platform": "linux", "image_resource": {"type": "registry-image", "source": source},
            "run": {"path": "cat", "args": ["/etc/greeting"]}});
        json!({"jobs": [{"name": "j", "plan": [{"task": "t", "config": config}]}]}).to_string()
    };
    let (status, log) = once(&world, &config(json!({}))).await;
    assert!(status == "errored" && log.contains("ca_certs"), "{log}");
    let (status, log) = once(&world, &config(json!({"ca_certs": [authority]}))).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    assert!(log.contains("hello from layer two"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_its_own_is_trusted_embedded() {
    an_authority_of_its_own_is_trusted(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_of_its_own_is_trusted_in_docker() {
    an_authority_of_its_own_is_trusted(Runtime::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_shared_between_teams_that_may_have_them() {
    let open = Registry::empty("").await;
    push(&open.address, "app", "latest", &[base(), second()], runs()).await;
    let closed = Registry::empty("auth: {htpasswd: {realm: test, path: '{DIR}/htpasswd'}}").await;
    copy(&open, closed.directory.path()).await;
    let secret = format!("ann:{0}\nbob:{0}\n", bcrypt::hash("a password", 4).unwrap());
    std::fs::write(closed.directory.path().join("htpasswd"), secret).unwrap();
    let world = World::new(Runtime::Embedded, &NEVER).await;
    let config = |who: &str, password: &str| {
        let source = json!({"repository": format!("{}/app", closed.address), "tag": "latest",
            "username": who, "password": password});
        let config = json!({"platform": "linux", "image_resource": {"type": "registry-image", "source": source},
            "run": {"path": "cat", "args": ["/etc/greeting"]}});
        json!({"jobs": [{"name": "j", "plan": [{"task": "t", "config": config}]}]}).to_string()
    };
    let (status, log) = once(&world, &config("ann", "a password")).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    let layers = || -> Vec<(std::path::PathBuf, usize)> {
        let mut found: Vec<_> = std::fs::read_dir(world.state().join("worker/layers"))
            .unwrap()
            .flatten()
            .map(|entry| {
                let note: Value =
                    serde_json::from_slice(&std::fs::read(entry.path().join("layer.json")).unwrap()).unwrap();
                (entry.path(), note["known"]["teams"].as_array().unwrap().len())
            })
            .collect();
        found.sort();
        found
    };
    let before = layers();
    assert_eq!(before.iter().map(|(_, teams)| *teams).collect::<Vec<_>>(), [1, 1], "{before:?}");

    let owners = json!({"auth": {"owner": {"users": [format!("local:{}", world.credentials().0)], "groups": []}}});
    let team = world.request(reqwest::Method::PUT, "/api/v1/teams/other").json(&owners).send().await.unwrap();
    assert!(team.status().is_success(), "{team:?}");
    let others = async |config: String| {
        let path = |rest: &str| format!("/api/v1/teams/other/pipelines/p{rest}");
        let set = world.request(reqwest::Method::PUT, &path("/config")).header("content-type", "application/x-yaml");
        let version = world.request(reqwest::Method::GET, &path("/config")).send().await.unwrap();
        let version = version.headers().get("x-concourse-config-version").cloned();
        let set = match version {
            Some(version) => set.header("x-concourse-config-version", version),
            None => set,
        };
        assert!(set.body(config).send().await.unwrap().status().is_success());
        world.request(reqwest::Method::PUT, &path("/unpause")).send().await.unwrap();
        let build = world.request(reqwest::Method::POST, &path("/jobs/j/builds")).send().await.unwrap();
        let build = build.json::<Value>().await.unwrap()["id"].as_i64().unwrap();
        (world.finish(build).await, world.watch(build).await)
    };
    // That the files are here is nobody's right to them.
    let (status, log) = others(config("bob", "wrong")).await;
    assert!(status == "errored" && !log.contains("hello"), "{log}");
    assert_eq!(layers(), before);
    let (status, log) = others(config("bob", "a password")).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    assert!(log.contains("hello from layer two"), "{log}");
    let after = layers();
    assert_eq!(after.iter().map(|(_, teams)| *teams).collect::<Vec<_>>(), [2, 2], "{after:?}");
    assert!(before.iter().zip(&after).all(|(b, a)| b.0 == a.0), "each layer is there once: {after:?}");
}

async fn undeclared_and_declared_types_come_from_images(runtime: Runtime) {
    let registry = Registry::empty("").await;
    let scripts = {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("opt/resource");
        std::fs::create_dir_all(&place).unwrap();
        for (name, text) in [
            ("check", "echo '[{\"n\": \"7\"}]'"),
            ("in", "cat > /dev/null; echo seven > $1/number; echo '{\"version\": {\"n\": \"7\"}}'"),
            ("out", "cat > /dev/null; ls $1 >&2; echo '{\"version\": {\"n\": \"8\"}}'"),
        ] {
            use std::os::unix::fs::PermissionsExt;
            std::fs::write(place.join(name), format!("#!/bin/sh\nset -eu\n{text}\n")).unwrap();
            std::fs::set_permissions(place.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        archive(root.path())
    };
    push(&registry.address, "counter", "2", &[base(), scripts], json!({"Env": ["PATH=/bin"]})).await;
    let semver = format!("semver={}/counter:2", registry.address);
    // A built-in type would refuse this source.
    let git = format!("git={}/counter:2", registry.address);
    let images = [&semver, &git, "pool=127.0.0.1:1/pool"].map(|image| ["--base-resource-type", image]);
    let flags = [images.as_flattened(), &NEVER].concat();
    let world = World::new(runtime, &flags).await;
    let config = format!(
        r"
resource_types:
- {{name: counter, type: registry-image, source: {{repository: {address}/counter, tag: 2}}}}
resources:
- {{name: undeclared, type: semver, source: {{}}}}
- {{name: chosen, type: git, source: {{}}}}
- {{name: declared, type: counter, source: {{}}}}
- {{name: lost, type: pool, source: {{}}}}
jobs:
- name: j
  plan:
  - get: undeclared
  - get: chosen
  - get: declared
  - put: declared
    inputs: [undeclared]
    no_get: true
- name: lost
  plan:
  - get: lost
",
        address = registry.address
    );
    let (status, log) = once(&world, &config).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    assert!(log.contains("undeclared"), "{log}");
    let ended = world.try_fly(&["check-resource", "-r", "p/lost"]).await;
    let told = format!("{}{}", ended.stdout, ended.stderr);
    for part in ["resource type pool", "127.0.0.1:1/pool", "--base-resource-type pool=IMAGE", "image preload"] {
        assert!(told.contains(part), "{part:?} is missing in\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_and_declared_types_come_from_images_embedded() {
    undeclared_and_declared_types_come_from_images(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_and_declared_types_come_from_images_in_docker() {
    undeclared_and_declared_types_come_from_images(Runtime::Docker).await;
}

/// An image as `docker save` writes it.
fn saved(names: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let unpacked: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": runs(), "rootfs": {"type": "layers", "diff_ids": unpacked},
    })
    .to_string();
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    let files: Vec<String> = (0..layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    for (file, layer) in files.iter().zip(layers) {
        add(file, layer);
    }
    add("config.json", config.as_bytes());
    let entry = json!([{"Config": "config.json", "RepoTags": names, "Layers": files}]);
    add("manifest.json", entry.to_string().as_bytes());
    builder.into_inner().unwrap()
}

async fn a_workshop_needs_no_network(runtime: Runtime) {
    let world = World::new(runtime, &NEVER).await;
    let file = world.directory.path().join("image.tar");
    std::fs::write(&file, saved(&["no.such.host.invalid/workshop:1.0", "busybox:latest"], &[base(), second()]))
        .unwrap();
    let image = |args: &[&str]| {
        let mut command = super::world::binary();
        command.args(["image", "--state-dir"]).arg(world.directory.path().join("state")).args(args);
        command
    };
    // As `docker save | gzip` leaves it.
    run(world.directory.path(), "gzip", &["image.tar"]).await;
    let file = file.with_extension("tar.gz");
    let loaded = ended(image(&["preload", file.to_str().unwrap()])).await;
    assert_eq!(loaded.code, 0, "{}", loaded.stderr);
    assert!(loaded.stdout.contains("no.such.host.invalid/workshop:1.0@sha256:"), "{}", loaded.stdout);
    assert!(
        loaded.stdout.contains("busybox:latest@sha256:") && loaded.stdout.contains("0 of them new"),
        "{}",
        loaded.stdout
    );
    let config = r"
jobs:
- name: j
  plan:
  - task: t
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: no.such.host.invalid/workshop, tag: '1.0'}}
      run: {path: sh, args: [-c, 'cat /etc/greeting; ls /bin/yes; echo of-image=$OF_IMAGE']}
  - task: u
    config:
      platform: linux
      image_resource: {type: registry-image, source: {repository: busybox}}
      run: {path: cat, args: [/etc/greeting2]}
";
    let (status, log) = once(&world, config).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    for part in ["hello from layer two\nls: /bin/yes", "of-image=yes", "saved images"] {
        assert!(log.contains(part), "{part:?} is missing in\n{log}");
    }
    let listed = ended(image(&["ls"])).await.stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert_eq!(ended(image(&["rm", "busybox"])).await.code, 0);
    let again = ended(image(&["rm", "busybox"])).await;
    assert!(again.code == 1 && again.stderr.contains("image ls"), "{}", again.stderr);
    let nonsense = world.file("nonsense.tar", "x");
    let refused = ended(image(&["preload", &nonsense])).await;
    assert!(refused.code == 1 && refused.stderr.contains("nonsense.tar"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workshop_needs_no_network_embedded() {
    a_workshop_needs_no_network(Runtime::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workshop_needs_no_network_in_docker() {
    a_workshop_needs_no_network(Runtime::Docker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_put_with_its_tags_and_got_back_in_every_format() {
    let registry = Registry::empty("").await;
    push(&registry.address, "base", "latest", &[base()], runs()).await;
    let world = World::new(Runtime::Embedded, &NEVER).await;
    let config = format!(
        r"
resources:
- {{name: base, type: registry-image, source: {{repository: {address}/base, tag: latest}}}}
- {{name: out, type: registry-image, source: {{repository: {address}/out}}}}
jobs:
- name: j
  plan:
  - get: base
    params: {{format: oci}}
  - get: layout
    resource: base
    params: {{format: oci-layout}}
  - task: tags
    config:
      platform: linux
      image_resource: {{type: registry-image, source: {{repository: {address}/base, tag: latest}}}}
      inputs: [{{name: base}}, {{name: layout}}]
      outputs: [{{name: tags}}]
      run:
        path: sh
        args: [-ec, 'ls base layout/oci; echo one two > tags/list']
  - put: out
    inputs: [base, tags]
    params: {{image: base/*.tar, version: 1.2.3, bump_aliases: true, additional_tags: tags/list, tag_prefix: x-}}
  - put: from-layout
    resource: out
    params: {{image: layout/oci, version: 2.0.0}}
  - task: check
    image: out
    config: {{platform: linux, run: {{path: sh, args: [-c, 'echo image $OF_IMAGE']}}}}
",
        address = registry.address
    );
    let (status, log) = once(&world, &config).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    for part in ["image.tar", "index.json", "image yes", "pushing tag(s) 1.2.3, latest, 1, 1.2, x-one, x-two"] {
        assert!(log.contains(part), "{part:?} is missing in\n{log}");
    }
    let tags = reqwest::get(format!("http://{}/v2/out/tags/list", registry.address)).await.unwrap();
    let mut tags: Vec<String> = serde_json::from_value(tags.json::<Value>().await.unwrap()["tags"].clone()).unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "1.2", "1.2.3", "2.0.0", "latest", "x-one", "x-two"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_may_list_an_index() {
    let registry = Registry::empty("").await;
    let address = &registry.address;
    let image = push(address, "app", "image", &[base()], runs()).await;
    let inner = push_index(address, "app", "inner", (&image, "application/vnd.oci.image.manifest.v1+json")).await;
    push_index(address, "app", "outer", (&inner, INDEX)).await;
    let world = World::new(Runtime::Embedded, &NEVER).await;
    let config = format!(
        "jobs:\n- name: j\n  plan:\n  - task: t\n    config:\n      platform: linux\n      image_resource: \
         {{type: registry-image, source: {{repository: {address}/app, tag: outer}}}}\n      run: {{path: echo, args: [it runs]}}\n"
    );
    let (status, log) = once(&world, &config).await;
    assert_eq!(status, "succeeded", "{log}");
    assert!(log.contains("it runs"), "{log}");
}

/// One layer that old engines can unpack, and one that they cannot.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_cannot_pull_is_unpacked_here() {
    let registry = Registry::empty("").await;
    let zstd = |layer: Vec<u8>| (layer.clone(), "zstd", zstd::encode_all(layer.as_slice(), 1).unwrap());
    // Newer engines know zstd; none knows a layer that lies about it, which nothing but its first bytes tells.
    let (layer, _, packed) = zstd(second());
    push_packed(&registry.address, ("app", "1"), &[zstd(base()), (layer, "gzip", packed)], runs()).await;
    let world = World::new(Runtime::Docker, &NEVER).await;
    let config = format!(
        "jobs:\n- name: j\n  plan:\n  - task: t\n    config:\n      platform: linux\n      image_resource: \
         {{type: registry-image, source: {{repository: {}/app, tag: '1'}}}}\n      run: {{path: cat, args: \
         [/etc/greeting]}}\n",
        registry.address
    );
    let (status, log) = once(&world, &config).await;
    let of_engine = log.contains("unpacked by this server instead");
    assert!(status == "succeeded" && log.contains("hello from layer two"), "{log}");
    println!("the engine {}", if of_engine { "could not pull it" } else { "pulled it itself" });
}

/// How far it comes is told by whose registry is asked: nobody answers there.
#[tokio::test(flavor = "multi_thread")]
async fn ecr_is_asked_as_the_server_only_where_the_operator_says_so() {
    let moto = Moto::start().await;
    let env = [("AWS_ENDPOINT_URL", moto.url.as_str()), ("AWS_ACCESS_KEY_ID", "own"), ("AWS_SECRET_ACCESS_KEY", "own")];
    let config = "jobs:\n- name: j\n  plan:\n  - task: t\n    config:\n      platform: linux\n      image_resource: \
                  {type: registry-image, source: {repository: app, tag: x, aws_region: eu-west-1}}\n      \
                  run: {path: 'true'}\n";
    let allowed = [&NEVER[..], &["--allow-ecr-as-server"]].concat();
    for (flags, said) in
        [(&NEVER[..], "(--allow-ecr-as-server)"), (&allowed, "123456789012.dkr.ecr.eu-west-1.amazonaws.com")]
    {
        let world = World::with_env(Runtime::Embedded, flags, &env).await;
        let (status, log) = once(&world, config).await;
        assert!(status == "errored" && log.contains(said), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_steps_share_one_copy_of_an_image() {
    let registry = Registry::empty("").await;
    // Made once: its files' times are those of now.
    let base = base();
    push(&registry.address, "app", "1", std::slice::from_ref(&base), runs()).await;
    push(&registry.address, "app", "2", &[base, second()], runs()).await;
    let world = World::new(Runtime::Embedded, &NEVER).await;
    let config = format!(
        r"
jobs:
- name: j
  plan:
  - in_parallel:
    - {{task: a, config: &c {{platform: linux, image_resource: {{type: registry-image, source: {{repository: {address}/app, tag: 1}}}}, run: {{path: 'true'}}}}}}
    - {{task: b, config: *c}}
    - task: c
      config:
        platform: linux
        image_resource: {{type: registry-image, source: {{repository: {address}/app, tag: 2}}}}
        run: {{path: 'true'}}
",
        address = registry.address
    );
    let (status, log) = once(&world, &config).await;
    assert_eq!(status, "succeeded", "{log}\n{}", world.log());
    let layers = world.directory.path().join("state/worker/layers");
    assert_eq!(std::fs::read_dir(&layers).unwrap().count(), 2, "a layer is there once");
}
