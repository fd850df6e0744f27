//! Metrics under Concourse's names, on a listener of their own, so that dashboards and alerts go on working.
//!
//! Counters are counted where things happen. Gauges of what is in the database are read when somebody asks.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::front::App;
use crate::store::ReadTx;
use crate::store::build::Status;
use crate::store::job::LatestStatus;

/// Upper bounds in seconds of how long builds take.
const BUILD_BUCKETS: &[f64] =
    &[1.0, 60.0, 180.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 2700.0, 3600.0, 7200.0, 18000.0, 36000.0];
/// Upper bounds in seconds of how long requests take.
const RESPONSE_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of durations in milliseconds.
const MILLISECOND_BUCKETS: &[f64] = &[1.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10000.0, 60000.0];

/// Counters that stand at 0 until something happens, so that rates can be taken from the first event on.
const FROM_ZERO: &[&str] = &[
    "concourse_builds_started_total",
    "concourse_builds_finished_total",
    "concourse_builds_succeeded_total",
    "concourse_builds_failed_total",
    "concourse_builds_errored_total",
    "concourse_builds_aborted_total",
    "concourse_builds_check_started_total",
    "concourse_builds_check_finished_total",
    "concourse_builds_check_succeeded_total",
    "concourse_builds_check_failed_total",
    "concourse_builds_check_errored_total",
    "concourse_builds_check_aborted_total",
    "concourse_jobs_scheduled_total",
    "concourse_lidar_checks_enqueued_total",
    "concourse_lidar_checks_started_total",
];

/// Those of them that are told apart by how a check ended.
const ENDS: &[&str] = &["success", "error"];

/// The page of metrics.
#[derive(Clone)]
pub struct Recorder {
    handle: PrometheusHandle,
    /// Labels of every metric.
    attributes: Vec<(String, String)>,
}

/// Reads `NAME:VALUE`, a label of every metric.
pub fn attribute(text: &str) -> Result<(String, String), String> {
    let plain = |name: &str| {
        let mut chars = name.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once(':') {
        Some((name, value)) if plain(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME:VALUE with a name of letters, digits and _")),
    }
}

/// Starts counting; a second call in the same process goes on with the same counters and labels.
pub fn start(attributes: &[(String, String)]) -> Recorder {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    RECORDER
        .get_or_init(|| {
            let full = |name: &str| Matcher::Full(name.to_owned());
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(full("concourse_builds_duration_seconds"), BUILD_BUCKETS)
                .and_then(|b| {
                    b.set_buckets_for_metric(full("concourse_http_responses_duration_seconds"), RESPONSE_BUCKETS)
                })
                .and_then(|b| b.set_buckets(MILLISECOND_BUCKETS))
                .expect("the bounds are not empty");
            let labelled =
                attributes.iter().fold(builder, |builder, (name, value)| builder.add_global_label(name, value));
            let recorder = labelled.build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder can only be a test's; then nothing is counted here.
            let _ = metrics::set_global_recorder(recorder);
            for name in FROM_ZERO {
                metrics::counter!(*name).absolute(0);
            }
            for end in ENDS {
                metrics::counter!("concourse_lidar_checks_finished_total", "status" => *end).absolute(0);
            }
            metrics::gauge!("concourse_builds_check_running").increment(0.0);
            Recorder { handle, attributes: attributes.to_vec() }
        })
        .clone()
}

/// The page that Prometheus reads.
pub async fn render(app: &App, recorder: &Recorder) -> String {
    recorder.handle.run_upkeep();
    let mut page = recorder.handle.render();
    let settings = &app.settings;
    let worker = Worker { name: settings.worker_name.clone(), tags: settings.worker_tags.join("/") };
    let mut gauges = vec![
        Gauge::of("whistlestop_builds_held", vec![], if app.hold.why().is_some() { 1.0 } else { 0.0 }),
        Gauge::of("concourse_workers_registered", vec![("state", "running".to_owned())], 1.0),
    ];
    match app.store.read(move |tx| read(tx, &worker)).await {
        Ok(read) => gauges.extend(read),
        Err(e) => tracing::error!(error = %e, "metrics could not be read from the database"),
    }
    write(&mut page, &gauges, &recorder.attributes);
    page
}

/// A number that is read when somebody asks: what is gone is not told of any more.
struct Gauge {
    name: &'static str,
    labels: Vec<(&'static str, String)>,
    value: f64,
}

impl Gauge {
    fn of(name: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Gauge {
        Gauge { name, labels, value }
    }
}

/// The worker in this process.
struct Worker {
    name: String,
    tags: String,
}

fn read(tx: &ReadTx<'_>, worker: &Worker) -> crate::store::Result<Vec<Gauge>> {
    let count = |sql: &str| -> crate::store::Result<f64> {
        Ok(tx.prepare_cached(sql)?.query_row([], |r| r.get::<_, i64>(0))? as f64)
    };
    let started = "select count(*) from builds where status in ('pending', 'started') and status = 'started'";
    let place = || vec![("platform", "linux".to_owned()), ("worker", worker.name.clone())];
    let whole = || [place(), vec![("tags", worker.tags.clone()), ("team", String::new())]].concat();
    let (containers, volumes) = tx.count_containers_and_volumes()?;
    let tasks = "select count(*) from containers c join builds b on b.id = c.build_id
         where c.type = 'task' and b.status in ('pending', 'started') and b.status = 'started'";
    let mut gauges = vec![
        Gauge::of("concourse_builds_running", vec![], count(&format!("{started} and resource_id is null"))?),
        Gauge::of(
            "concourse_jobs_scheduling",
            vec![],
            count("select count(*) from jobs where schedule_requested > last_scheduled")?,
        ),
        Gauge::of("concourse_workers_containers", whole(), containers as f64),
        Gauge::of("concourse_workers_volumes", whole(), volumes as f64),
        Gauge::of("concourse_workers_tasks", place(), count(tasks)?),
    ];
    gauges.extend(latest_statuses(tx)?);
    Ok(gauges)
}

/// How each job's latest build ended: 0 succeeded, 1 failed, 2 aborted, 3 errored. Instances of a pipeline share a name,
/// and so a line, which is about the latest of their builds.
fn latest_statuses(tx: &ReadTx<'_>) -> crate::store::Result<Vec<Gauge>> {
    let gauge = |latest: LatestStatus| {
        let order = [Status::Succeeded, Status::Failed, Status::Aborted, Status::Errored];
        let value = order.iter().position(|status| *status == latest.status)?;
        let labels = vec![("jobName", latest.job), ("pipelineName", latest.pipeline), ("teamName", latest.team)];
        Some(Gauge::of("concourse_builds_latest_completed_build_status", labels, value as f64))
    };
    Ok(tx.latest_statuses()?.into_iter().filter_map(gauge).collect())
}

/// Adds gauges in the exposition format; those of one name stand together.
fn write(page: &mut String, gauges: &[Gauge], attributes: &[(String, String)]) {
    let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut named = "";
    for gauge in gauges {
        if gauge.name != named {
            named = gauge.name;
            page.push_str(&format!("# TYPE {named} gauge\n"));
        }
        let own = gauge.labels.iter().map(|(name, value)| (*name, value.as_str()));
        let labels = own.chain(attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let labels: Vec<String> = labels.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        page.push_str(&format!("{named}{labels} {}\n", gauge.value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_of_one_name_stand_together_with_every_label() {
        let job = |name: &str, value| Gauge::of("latest", vec![("jobName", name.to_owned())], value);
        let gauges = [job("a\"b", 0.0), job("c\\d", 3.0), Gauge::of("held", vec![], 1.0)];
        let mut page = String::new();
        write(&mut page, &gauges, &[attribute("stage:prod:eu").unwrap()]);
        let expected = "# TYPE latest gauge\nlatest{jobName=\"a\\\"b\",stage=\"prod:eu\"} 0\n\
            latest{jobName=\"c\\\\d\",stage=\"prod:eu\"} 3\n# TYPE held gauge\nheld{stage=\"prod:eu\"} 1\n";
        assert_eq!(page, expected);
        for wrong in ["stage", ":x", "a b:x", "1:x"] {
            assert!(attribute(wrong).is_err(), "{wrong}");
        }
    }
}
