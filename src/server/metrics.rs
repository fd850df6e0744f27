//! Metrics under Concourse's names, on a listener of their own, so that dashboards and alerts go on working.
//!
//! Counters are counted where things happen. Gauges of what is in the database are read when somebody asks.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::front::App;
use crate::store::ReadTx;

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

/// Starts counting; a second call in the same process goes on with the same counters.
pub fn start() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let full = |name: &str| Matcher::Full(name.to_owned());
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(full("concourse_builds_duration_seconds"), BUILD_BUCKETS)
                .and_then(|b| {
                    b.set_buckets_for_metric(full("concourse_http_responses_duration_seconds"), RESPONSE_BUCKETS)
                })
                .and_then(|b| b.set_buckets(MILLISECOND_BUCKETS))
                .expect("the bounds are not empty")
                .build_recorder();
            let handle = recorder.handle();
            // Somebody else's recorder can only be a test's; then nothing is counted here.
            let _ = metrics::set_global_recorder(recorder);
            for name in FROM_ZERO {
                metrics::counter!(*name).absolute(0);
            }
            handle
        })
        .clone()
}

/// The page that Prometheus reads.
pub async fn render(app: &App, handle: &PrometheusHandle) -> String {
    match app.store.read(gauges).await {
        Ok(gauges) => gauges.into_iter().for_each(|(name, value)| metrics::gauge!(name).set(value)),
        Err(e) => tracing::error!(error = %e, "metrics could not be read from the database"),
    }
    let held = if app.hold.why().is_some() { 1.0 } else { 0.0 };
    metrics::gauge!("whistlestop_builds_held").set(held);
    metrics::gauge!("concourse_workers_registered", "state" => "running").set(1.0);
    handle.run_upkeep();
    handle.render()
}

fn gauges(tx: &ReadTx<'_>) -> crate::store::Result<Vec<(&'static str, f64)>> {
    let count = |sql: &str| -> crate::store::Result<f64> {
        Ok(tx.prepare_cached(sql)?.query_row([], |r| r.get::<_, i64>(0))? as f64)
    };
    let started = "select count(*) from builds where status in ('pending', 'started') and status = 'started'";
    Ok(vec![
        ("concourse_builds_running", count(&format!("{started} and resource_id is null"))?),
        ("concourse_builds_check_running", count(&format!("{started} and resource_id is not null"))?),
        ("concourse_jobs_scheduling", count("select count(*) from jobs where schedule_requested > last_scheduled")?),
    ])
}
