//! Which steps the worker of this server takes.

use super::outcome::Stop;

/// Whether the worker takes a step for this platform with these tags: it needs every one of them. Steps without tags
/// run here also where the worker has some, for there is no other worker.
///
/// # Errors
/// Concourse's sentence, with what to do.
pub fn allowed(platform: &str, tags: &[String], worker: &[String]) -> Result<(), Stop> {
    let none = |what: &str| Err(Stop::Error(format!("no workers satisfying: {what}")));
    if !matches!(platform, "" | "linux") {
        return none(&format!("platform '{platform}': this server runs linux containers only"));
    }
    let missing: Vec<&str> = tags.iter().filter(|tag| !worker.contains(tag)).map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let has = match worker {
        [] => "has no tags".to_owned(),
        tags => format!("has '{}'", tags.join("', '")),
    };
    none(&format!(
        "platform 'linux', tag '{}': the worker of this server {has}; the operator adds more with --tag",
        missing.join("', '")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tag_of_a_step_must_be_one_of_the_workers() {
        let tags = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (platform, wanted, has, why) in [
            ("linux", "", "", None),
            ("", "", "gpu", None),
            ("linux", "gpu", "gpu big", None),
            ("linux", "gpu arm", "gpu", Some("tag 'arm': the worker of this server has 'gpu'")),
            ("linux", "gpu arm", "", Some("tag 'gpu', 'arm': the worker of this server has no tags")),
            ("windows", "", "", Some("platform 'windows': this server runs linux")),
        ] {
            match (allowed(platform, &tags(wanted), &tags(has)), why) {
                (Ok(()), None) => {}
                (Err(stop), Some(why)) => assert!(stop.text().contains(why), "{}", stop.text()),
                _ => panic!("{platform} {wanted} on {has}"),
            }
        }
    }
}
