//! Whose the files are that a step finds, on every runtime: as on Concourse, the user's whom the step runs as.

use whistlestop::runtime::{ContainerSpec, Image, Origin, Process, VolumeHandle};

use super::conformance::{Lab, mount, run, script, tar_of, volume};

const WORK: &str = "/tmp/build/3c01eba1";

/// A task of `user` that has `input` and `output`, as the task step puts it together.
async fn task(lab: &dyn Lab, user: &str, input: &VolumeHandle, output: &VolumeHandle, text: &str) -> ContainerSpec {
    let mut spec = script(lab, text).await;
    let (inside, outside) = (format!("{WORK}/in"), format!("{WORK}/out"));
    spec.mounts = vec![mount(input, &inside), mount(output, &outside)];
    spec.process = Process {
        user: Some(user.to_owned()),
        dir: WORK.into(),
        owns: vec!["/scratch".into(), WORK.into(), inside, outside],
        ..spec.process
    };
    spec
}

const LOOK: &str = "for f in /scratch . in in/a in/dir in/dir/b in/link out; do echo $f $(stat -c %u:%g $f); done; ";

pub async fn files_go_to_the_steps_user(lab: &dyn Lab) {
    let runtime = lab.runtime();
    let copy = async |of: &VolumeHandle| volume(lab, &Origin::CopyOf(of.clone())).await;
    let fetched = volume(lab, &Origin::Empty).await;
    runtime.stream_in(&fetched, "", tar_of(&[("a", "first\n"), ("dir/b", "second\n")])).await.unwrap();
    let linked = script(lab, "ln -s /etc/passwd /v/link").await;
    run(lab, &ContainerSpec { mounts: vec![mount(&fetched, "/v")], ..linked }).await;
    if !lab.has_users() {
        // There is one user, who is root inside; whoever else is asked for is refused with the reason.
        let (input, output) = (copy(&fetched).await, volume(lab, &Origin::Empty).await);
        let said = run(lab, &task(lab, "root", &input, &output, "stat -c %u:%g in/a").await).await;
        assert_eq!(said.text(), "0:0\n");
        return;
    }
    let all = |owner: &str| {
        let names = ["/scratch", ".", "in", "in/a", "in/dir", "in/dir/b", "in/link", "out"];
        names.map(|name| format!("{name} {owner}\n")).concat()
    };
    let writes =
        "cat in/a in/dir/b; echo $USER > in/dir/b && echo x > in/new && touch /scratch/x made out/made && echo could";
    let (first, output) = (copy(&fetched).await, volume(lab, &Origin::Empty).await);
    let said = run(lab, &task(lab, "ci", &first, &output, &format!("{LOOK}{writes}")).await).await;
    assert_eq!(said.text(), format!("{}first\nsecond\ncould\n", all("1000:1001")), "{}", said.errors());
    // Passed on to another user, all of it is his.
    let (second, next) = (copy(&first).await, copy(&output).await);
    let said = run(lab, &task(lab, "77:78", &second, &next, &format!("{LOOK}{writes}")).await).await;
    assert_eq!(said.text(), format!("{}first\nci\ncould\n", all("77:78")), "{}", said.errors());
    // To root it goes as it is, but for the top.
    let (third, last) = (copy(&first).await, copy(&output).await);
    let text = "stat -c '%n %u:%g' in in/a in/dir/b out out/made; cat in/dir/b; echo x > in/a && echo could";
    let said = run(lab, &task(lab, "root", &third, &last, text).await).await;
    let expected = "in 0:0\nin/a 1000:1001\nin/dir/b 1000:1001\nout 0:0\nout/made 1000:1001\nci\ncould\n";
    assert_eq!(said.text(), expected, "{}", said.errors());
    // What was fetched is as it was.
    let (fourth, none) = (copy(&fetched).await, volume(lab, &Origin::Empty).await);
    let said =
        run(lab, &task(lab, "root", &fourth, &none, "stat -c %u:%g in/a in/dir/b in/link; cat in/dir/b").await).await;
    assert_eq!(said.text(), "0:0\n0:0\n0:0\nsecond\n");
    for handle in [&third, &last, &second, &next, &first, &output, &fourth, &none, &fetched] {
        runtime.remove_volume(handle).await.unwrap();
    }
}

pub async fn nobody_is_given_files_whom_the_image_does_not_name(lab: &dyn Lab) {
    if !lab.has_users() {
        return;
    }
    let (input, output) = (volume(lab, &Origin::Empty).await, volume(lab, &Origin::Empty).await);
    let image = volume(lab, &Origin::Empty).await;
    let runtime = lab.runtime();
    // No passwd and no group.
    runtime.stream_in(&image, "", super::conformance::busybox_without_users()).await.unwrap();
    let mut spec = task(lab, "77:78", &input, &output, "stat -c %u:%g in out").await;
    spec.image = Image::Volume { volume: image.clone(), path: String::new() };
    let said = run(lab, &spec).await;
    assert_eq!(said.text(), "0:0\n0:0\n", "{said:?}");
    runtime.remove_volume(&image).await.unwrap();
}

pub async fn scratch_is_no_overlay_and_devices_stay_the_hosts(lab: &dyn Lab) {
    use std::os::unix::fs::MetadataExt;
    let text = "cd /scratch && mkdir l u w m && echo low > l/f && mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w m \
                && echo up > m/g && cat m/f u/g; umount m";
    let mut spec = script(lab, text).await;
    spec.privileged = true;
    if lab.has_users() {
        let said = run(lab, &spec).await;
        assert_eq!(said.text(), "low\nup\n", "{}", said.errors());
    }
    let before = std::fs::metadata("/dev/null").unwrap();
    let text = "chmod 600 /dev/null 2>/dev/null; chown 77:78 /dev/null 2>/dev/null; echo x > /dev/null && echo goes";
    assert_eq!(run(lab, &script(lab, text).await).await.text(), "goes\n");
    let after = std::fs::metadata("/dev/null").unwrap();
    assert_eq!((after.mode(), after.uid(), after.gid()), (before.mode(), before.uid(), before.gid()));
}
