//! Where git may go: nowhere that the operator denies, however it is led there.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::base::network;
use crate::base::outgoing::Outgoing;
use crate::resource::registry::Registries;

/// Answers requests for files below `dir`, as the simplest of git's servers does, or sends all of them elsewhere.
fn serve(dir: Option<PathBuf>, elsewhere: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, elsewhere) = (listener.local_addr().unwrap().port(), elsewhere.to_owned());
    std::thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            let path = request(&mut client);
            let answer = match dir.as_ref().map(|dir| fs::read(dir.join(path.split('?').next().unwrap()))) {
                Some(Ok(bytes)) => {
                    [format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len()).into(), bytes]
                }
                Some(Err(_)) => [b"HTTP/1.0 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(), Vec::new()],
                None => [format!("HTTP/1.0 302 Found\r\nlocation: {elsewhere}/{path}\r\n\r\n").into(), Vec::new()],
            };
            // Git may have hung up.
            client.write_all(&answer.concat()).ok();
        }
    });
    port
}

/// The path that is asked for.
fn request(client: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|n| n == 1) {
        text.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    text.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned()
}

fn check(world: &World, denied: &[&str], source: Value) -> Result<Vec<Version>, String> {
    let denied = denied.iter().map(|text| network::read(text).unwrap()).collect();
    let mut source = world.source(&source);
    // Then the newest commit is all that is asked for.
    source.insert("disable_ci_skip".to_owned(), json!(true));
    let request = Request { source, ..Request::default() };
    let (answer, _) = world.with(|env| {
        env.cache = None;
        env.allow_local = false;
        env.registries = Registries { outgoing: Outgoing::new(denied), ..Registries::default() };
        Git.check(&request, env)
    });
    answer.map_err(|failure| failure.to_string())
}

#[test]
fn what_is_not_denied_is_reached_also_by_a_redirect() {
    let world = World::new();
    let commit = world.commit("f", "one");
    world.git("remote.git", &["update-server-info"]);
    let port = serve(Some(world.path("remote.git")), "");
    let other = serve(None, &format!("http://127.0.0.1:{port}"));
    for port in [port, other] {
        let found = check(&world, &["169.254.0.0/16"], json!({"uri": format!("http://127.0.0.1:{port}/")}));
        let found = found.unwrap();
        assert_eq!(found[0].0["ref"], commit);
    }
}

#[test]
fn a_denied_host_sees_no_connection_however_git_is_led_there() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let there = format!("127.0.0.9:{port}");
    let redirect = serve(None, &format!("http://{there}"));
    let set = |name: &str, value: &str| {
        let setting = json!({"name": name.replace("THERE", &there), "value": value.replace("THERE", &there)});
        json!({"uri": format!("http://127.0.0.1:{redirect}/r"), "git_config": [setting]})
    };
    for source in [
        json!({"uri": format!("http://{there}/r")}),
        json!({"uri": format!("http://2130706441:{port}/r")}),
        json!({"uri": format!("https://[::ffff:127.0.0.9]:{port}/r")}),
        json!({"uri": format!("git://{there}/r")}),
        json!({"uri": format!("ssh://git@{there}/r")}),
        json!({"uri": format!("http://127.0.0.1:{redirect}/r")}),
        set("http.followRedirects", "true"),
        set("http.proxy", "http://THERE"),
        set("http.http://127.0.0.1.proxy", ""),
        set("url.http://THERE/.insteadOf", "http://127.0.0.1"),
        set("url.git://THERE/.insteadOf", "http://127.0.0.1"),
    ] {
        let error = check(&world, &["127.0.0.9"], source.clone());
        let error = error.expect_err(&source.to_string());
        assert!(error.contains("--deny-networks"), "{source}: {error}");
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "{source}");
    }
}

#[test]
fn a_submodule_of_a_submodule_leads_to_no_denied_host_and_is_fetched_otherwise() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let there = format!("git://127.0.0.9:{}/r", listener.local_addr().unwrap().port());
    let uri = |name: &str| format!("file://{}", world.path(name).display());
    for name in ["inner", "outer"] {
        world.git(".", &["init", "--quiet", "--bare", "-b", "main", &format!("{name}.git")]);
        world.git(".", &["clone", "--quiet", &format!("{name}.git"), name]);
        world.commit_in(name, "f", name);
        if name == "outer" {
            world.git(name, &["submodule", "--quiet", "add", &uri("inner.git"), "deep"]);
            world.commit_in(name, "g", "with a submodule");
        }
        world.git(name, &["push", "--quiet", "origin", "HEAD"]);
    }
    world.git("work", &["submodule", "--quiet", "add", &uri("outer.git"), "sub"]);
    let good = world.commit("f", "with submodules");
    let get = |commit: &str| {
        let number = fs::read_dir(world.dir.path()).unwrap().count();
        let dir = world.path(&format!("got-{number}"));
        fs::create_dir(&dir).unwrap();
        let request = Request { source: world.source(&json!({})), params: None, version: Some(version(commit)) };
        let registries =
            Registries { outgoing: Outgoing::new(vec![network::read("127.0.0.9").unwrap()]), ..Registries::default() };
        let (answer, log) = world.with(|env| {
            env.registries = registries;
            Git.get(&request, &dir, env)
        });
        answer.map(|_| dir).map_err(|failure| format!("{failure}\n{log}"))
    };
    assert_eq!(fs::read_to_string(get(&good).unwrap().join("sub/deep/f")).unwrap(), "inner\n");
    // The same, but the inner one is elsewhere.
    world.git("outer", &["config", "--file", ".gitmodules", "submodule.deep.url", &there]);
    world.commit_in("outer", "f", "elsewhere");
    world.git("outer", &["push", "--quiet", "origin", "HEAD"]);
    world.git("work/sub", &["pull", "--quiet", "origin", "main"]);
    let bad = world.commit("f", "led elsewhere");
    let error = get(&bad).unwrap_err();
    assert!(error.contains("a submodule: 127.0.0.9 is not allowed") && error.contains("--deny-networks"), "{error}");
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
