//! Configurations through the front door: set by PUT, read back by GET.

use reqwest::Method;
use serde_json::Value;

use crate::corpus;
use crate::world::{Caller, World};

const PATH: &str = "/api/v1/teams/main/pipelines/cases/config";

async fn set(caller: &Caller, text: Vec<u8>, version: Option<String>) -> (u16, Value) {
    let mut request = caller.put(PATH).header("content-type", "application/x-yaml").body(text);
    if let Some(version) = version {
        request = request.header("x-concourse-config-version", version);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
}

async fn get(caller: &Caller) -> (Value, String) {
    let answer = caller.get(PATH).await;
    let version = answer.headers()["x-concourse-config-version"].to_str().unwrap().to_owned();
    (answer.json::<Value>().await.unwrap()["config"].take(), version)
}

async fn destroy(caller: &Caller) {
    caller.request(Method::DELETE, "/api/v1/teams/main/pipelines/cases").send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_small_configuration_of_the_corpus_is_taken_and_given_as_by_concourse() {
    let Some(wire) = corpus::wire() else { return };
    let world = World::new().await;
    let admin = world.admin().await;
    let mut wrong = Vec::new();
    for case in corpus::lines(&wire.join("config-cases.jsonl")) {
        destroy(&admin).await;
        let text = case["yaml"].as_str().unwrap();
        let (status, answer) = set(&admin, text.into(), None).await;
        if case["status"] != status {
            wrong.push(format!("{text}  want {case}\n  got  {status} {answer}"));
            continue;
        }
        let first = |errors: &Value, n: usize| Value::from(errors.as_array().unwrap()[..n].to_vec());
        if status >= 400 {
            let want = &case["answer"]["errors"];
            if first(&answer["errors"], want.as_array().unwrap().len()) != *want {
                wrong.push(format!("{text}  want {want}\n  got  {answer}"));
            }
            continue;
        }
        let (config, _) = get(&admin).await;
        if !corpus::same(&config, &case["read_back"]) || answer["warnings"] != case["answer"]["warnings"] {
            wrong.push(format!("{text}  want {case}\n  got  {config} {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_back_over_the_corpus_can_be_set_again_without_a_change() {
    let Some(folder) = corpus::corpus() else { return };
    let world = World::new().await;
    let admin = world.admin().await;
    for line in corpus::lines(&folder.join("verdicts.jsonl")) {
        let file = line["file"].as_str().unwrap();
        if file.starts_with("tasks/") || line["server"] != "accept" {
            continue;
        }
        destroy(&admin).await;
        let (status, answer) = set(&admin, std::fs::read(folder.join(file)).unwrap(), None).await;
        assert!(status < 400, "{file}: {status} {answer}");
        let (config, version) = get(&admin).await;
        let (status, answer) = set(&admin, config.to_string().into_bytes(), Some(version)).await;
        assert_eq!(status, 200, "{file}: {answer}");
        assert_eq!(get(&admin).await.0, config, "{file}");
    }
}
