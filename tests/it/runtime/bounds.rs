//! What the operator bounds and grants, on every runtime.

use whistlestop::runtime::network::Policy;
use whistlestop::runtime::{Exit, Isolation, Limits, PrivilegedMode};

use super::conformance::{Lab, Said, container, finish, read_all, script, shell};

/// Runs a script under the operator's word.
async fn under(lab: &dyn Lab, isolation: Isolation, text: &str, privileged: bool, limits: Limits) -> Said {
    let mut spec = script(lab, text).await;
    (spec.privileged, spec.limits) = (privileged, limits);
    let (runtime, handle) = (lab.with(isolation), container());
    let said = read_all(runtime.start(&handle, &spec).await.unwrap()).await;
    runtime.remove_container(&handle).await.unwrap();
    said
}

pub async fn memory_that_runs_out_is_told(lab: &dyn Lab) {
    if !lab.has_users() {
        // An ordinary user cannot bound memory; `doctor` says so.
        return;
    }
    let limits = Limits { cpu: None, memory: Some(20 << 20) };
    let said = under(lab, Isolation::default(), "x=a; while true; do x=$x$x; done", false, limits).await;
    assert_eq!(said.exit(), Some(&Exit::Status(137)), "{said:?}");
    let told = said.errors();
    assert!(told.contains("out of memory: the step reached its limit of 20 MiB"), "{told}");
}

pub async fn output_is_bounded(lab: &dyn Lab) {
    let isolation = Isolation { output: Some(100_000), ..Isolation::default() };
    let said = under(lab, isolation.clone(), "yes; true", false, Limits::default()).await;
    assert!(said.lost().is_some_and(|why| why.contains("--max-step-output")), "{:?}", said.lost());
    assert!((100_000..10_000_000).contains(&said.text().len()), "{}", said.text().len());
    let quiet = under(lab, isolation, "yes | head -c 90000", false, Limits::default()).await;
    assert_eq!((quiet.exit(), quiet.text().len()), (Some(&Exit::Status(0)), 90_000));
}

pub async fn open_files_and_new_rights_are_bounded(lab: &dyn Lab) {
    let text = "ulimit -n; grep NoNewPrivs /proc/self/status | tr -d '\\t'";
    let isolation = Isolation { open_files: Some(300), no_new_privileges: true, ..Isolation::default() };
    assert_eq!(under(lab, isolation, text, false, Limits::default()).await.text(), "300\nNoNewPrivs:1\n");
    // What started the server does not count, as far as its hard bound goes.
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let usual = under(lab, Isolation::default(), &format!("{text}; true"), false, Limits::default()).await;
    let open: u64 = usual.text().lines().next().unwrap().parse().unwrap();
    assert!(open >= hard.min(20_000), "{open} open files where {soft} and {hard} are the server's");
    assert!(usual.text().ends_with("NoNewPrivs:0\n"), "sudo must work: {}", usual.text());
}

pub async fn privileged_is_what_the_operator_says(lab: &dyn Lab) {
    let text = "grep CapEff /proc/self/status | tr -d '\\t'; mkdir -p /tmp/m; mount -t tmpfs x /tmp/m 2>/dev/null && echo mounted; \
                [ -e /dev/fuse ] && echo fuse; true";
    let mode = |privileged| Isolation { privileged, ..Isolation::default() };
    let ignored = under(lab, mode(PrivilegedMode::Ignore), text, true, Limits::default()).await;
    assert_eq!(ignored.text(), "CapEff:00000000a80425fb\n");
    let fuse = if std::path::Path::new("/dev/fuse").exists() { "fuse\n" } else { "" };
    let some = under(lab, mode(PrivilegedMode::FuseOnly), text, true, Limits::default()).await;
    match lab.maps_users().await {
        true => assert_eq!(some.text(), format!("CapEff:00000000a82425fb\nmounted\n{fuse}")),
        // Who may mount there is the host's root.
        false => assert_eq!(some.text(), format!("CapEff:00000000a80425fb\n{fuse}")),
    }
    let by_team = Isolation {
        privileged: PrivilegedMode::Ignore,
        privileged_by_team: [("main".to_owned(), PrivilegedMode::FuseOnly)].into(),
        ..Isolation::default()
    };
    assert_eq!(under(lab, by_team, text, true, Limits::default()).await.text(), some.text());
    let full = under(lab, mode(PrivilegedMode::Full), text, true, Limits::default()).await;
    assert!(full.text().ends_with(&format!("mounted\n{fuse}")), "{}", full.text());
}

pub async fn names_are_added(lab: &dyn Lab) {
    let network = Policy { hosts: vec!["db.internal:10.9.8.7".parse().unwrap()], ..Policy::default() };
    let isolation = Isolation { network, ..Isolation::default() };
    let said = under(lab, isolation, "grep -c 'db.internal' /etc/hosts", false, Limits::default()).await;
    assert_eq!(said.text(), "1\n");
}

pub async fn a_finished_container_gives_its_output_back_and_can_be_entered(lab: &dyn Lab) {
    let (runtime, handle) = (lab.runtime(), container());
    let spec = script(lab, "yes | head -c 500000; exit 3").await;
    let said = read_all(runtime.start(&handle, &spec).await.unwrap()).await;
    assert_eq!(said.text().len(), 500_000);
    runtime.forget_output(&handle).await.unwrap();
    runtime.forget_output(&handle).await.unwrap();
    let again = read_all(runtime.attach(&handle, 0).await.unwrap()).await;
    assert_eq!((again.text().len(), again.exit()), (0, Some(&Exit::Status(3))));
    let entered = finish(runtime.exec(&handle, &shell("echo inside")).await.unwrap()).await;
    assert_eq!(entered.text(), "inside\n");
    runtime.remove_container(&handle).await.unwrap();
}
