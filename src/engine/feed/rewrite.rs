//! Takes a secret out of a log that is already stored, or the whole log away. Only for builds that have ended: a log
//! that still grows is redacted as it is written.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Feed;
use crate::base::id::BuildId;
use crate::base::secret::{Redacting, Redactor};
use crate::store::log::Chunk;

impl Feed {
    /// Replaces secrets in everything a build has told, wherever the output was cut. Says how many events changed.
    pub async fn redact(&self, build: BuildId, redactor: &Redactor) -> crate::store::Result<usize> {
        let (mut chunks, mut from) = (Vec::new(), 0);
        while let Some(chunk) = self.store.log_chunk(build, from).await? {
            from = chunk.first_event + chunk.events;
            chunks.push(chunk);
        }
        let changed = rewrite(&mut chunks, redactor)?;
        if changed > 0 {
            self.store.replace_log(build, chunks).await?;
        }
        Ok(changed)
    }

    /// Removes a build's log.
    pub async fn erase(&self, build: BuildId) -> crate::store::Result<()> {
        self.store.replace_log(build, Vec::new()).await?;
        self.changed(build);
        Ok(())
    }
}

/// Where the last piece of a stream's output is, to which what was held back is added.
struct Pending {
    stream: Redacting,
    chunk: usize,
    line: usize,
}

fn rewrite(chunks: &mut [Chunk], redactor: &Redactor) -> serde_json::Result<usize> {
    let mut events: Vec<Vec<Value>> = Vec::with_capacity(chunks.len());
    for chunk in chunks.iter() {
        let lines = chunk.text.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        events.push(lines.map(serde_json::from_slice).collect::<serde_json::Result<_>>()?);
    }
    let before = events.clone();
    let mut streams: BTreeMap<String, Pending> = BTreeMap::new();
    for (chunk, lines) in events.iter_mut().enumerate() {
        for (line, event) in lines.iter_mut().enumerate() {
            if event["event"] != "log" {
                // Numbers, names and versions of events stay what they are; versions of resources too.
                let version = event["data"].get("version").cloned();
                redactor.redact_json(&mut event["data"]);
                if let Some(version) = version {
                    event["data"]["version"] = version;
                }
                continue;
            }
            let origin = event["data"]["origin"].to_string();
            let payload = event["data"]["payload"].as_str().unwrap_or_default().to_owned();
            let pending = streams.entry(origin).or_insert_with(|| Pending { stream: redactor.stream(), chunk, line });
            event["data"]["payload"] = pending.stream.push(&payload).into();
            (pending.chunk, pending.line) = (chunk, line);
        }
    }
    for mut pending in streams.into_values() {
        let payload = &mut events[pending.chunk][pending.line]["data"]["payload"];
        let text = format!("{}{}", payload.as_str().unwrap_or_default(), pending.stream.finish());
        *payload = text.into();
    }
    let mut changed = 0;
    for ((chunk, old), new) in chunks.iter_mut().zip(&before).zip(&events) {
        changed += old.iter().zip(new).filter(|(a, b)| a != b).count();
        if old != new {
            let lines: Vec<String> = new.iter().map(Value::to_string).collect();
            chunk.text = lines.join("\n").into_bytes();
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> String {
        format!(r#"{{"data":{data},"event":"{kind}","version":"5.1","event_id":"1"}}"#)
    }

    #[test]
    fn a_secret_that_two_events_share_is_taken_out_of_both() {
        let log = |id: &str, text: &str| {
            event("log", &format!(r#"{{"time":1,"origin":{{"id":"{id}"}},"payload":"{text}"}}"#))
        };
        let first =
            [log("a", "x hun"), log("b", "hun"), event("error", r#"{"message":"hunter2 is wrong"}"#)].join("\n");
        let second = [log("a", "ter2 y"), event("finish-get", r#"{"version":{"ref":"hunter2"}}"#)].join("\n");
        let chunk = |first_event, events, text: String| Chunk {
            first_event,
            events,
            text: text.into_bytes(),
            marks: "{}".into(),
        };
        let mut chunks = [chunk(0, 3, first), chunk(3, 2, second)];
        let redactor = Redactor::new();
        redactor.learn("hunter2");
        assert_eq!(rewrite(&mut chunks, &redactor).unwrap(), 3);
        let text: Vec<String> = chunks.iter().map(|c| String::from_utf8_lossy(&c.text).into_owned()).collect();
        assert!(text[0].contains(r#""payload":"x ""#) && text[0].contains("((redacted)) is wrong"), "{text:?}");
        assert!(text[0].contains(r#""payload":"hun""#), "{text:?}");
        assert!(
            text[1].contains(r#""payload":"((redacted)) y""#) && text[1].contains(r#""ref":"hunter2""#),
            "{text:?}"
        );
    }
}
