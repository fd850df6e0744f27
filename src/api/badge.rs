//! Badges: a small picture of how a job or pipeline stands.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::job::find;
use crate::front::{Answer, Call, Permit, query_escape, redirect};
use crate::store::build::Status;

/// Word, colour and width of the right half.
fn looks(status: Option<Status>) -> (&'static str, &'static str, u32) {
    match status {
        Some(Status::Succeeded) => ("passing", "#44cc11", 51),
        Some(Status::Failed) => ("failing", "#e05d44", 43),
        Some(Status::Aborted) => ("aborted", "#8f4b2d", 53),
        Some(Status::Errored) => ("errored", "#fe7d37", 51),
        _ => ("unknown", "#9f9f9f", 61),
    }
}

/// Width of the left half, by length of its text.
fn title_width(title: &str) -> u32 {
    let length = u32::try_from(title.len()).unwrap_or(u32::MAX).min(1000);
    let padding = match length {
        0..=8 => 12,
        9..=15 => 6,
        _ => 0,
    };
    length * 6 + padding
}

/// Draws the badge; `title` is on its left instead of `build`.
fn draw(status: Option<Status>, title: Option<&str>) -> String {
    let (word, colour, right) = looks(status);
    let left = title.map_or(37, title_width);
    let whole = left + right;
    // The usual badge has its words half a pixel beside the middle.
    let offset = if title.is_some() { 0.0 } else { -1.0 };
    let title_at = format!("{:.1}", f64::from(left) / 2.0);
    let word_at = format!("{:.1}", f64::from(left) + (f64::from(right) + offset * 2.0) / 2.0);
    let title = title.unwrap_or("build");
    let title = title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;");
    format!(
        r##"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="{whole}" height="20">
   <linearGradient id="b" x2="0" y2="100%">
      <stop offset="0" stop-color="#bbb" stop-opacity=".1" />
      <stop offset="1" stop-opacity=".1" />
   </linearGradient>
   <mask id="a">
      <rect width="{whole}" height="20" rx="3" fill="#fff" />
   </mask>
   <g mask="url(#a)">
      <path fill="#555" d="M0 0h{left}v20H0z" />
      <path fill="{colour}" d="M{left} 0h{right}v20H{left}z" />
      <path fill="url(#b)" d="M0 0h{whole}v20H0z" />
   </g>
   <g fill="#fff" text-anchor="middle" font-family="DejaVu Sans,Verdana,Geneva,sans-serif" font-size="11">
      <text x="{title_at}" y="15" fill="#010101" fill-opacity=".3">{title}</text>
      <text x="{title_at}" y="14">{title}</text>
      <text x="{word_at}" y="15" fill="#010101" fill-opacity=".3">{word}</text>
      <text x="{word_at}" y="14">{word}</text>
   </g>
</svg>"##
    )
}

fn answer(call: &Call, status: Option<Status>) -> Answer {
    let title = Some(call.query.get("title")).filter(|t| !t.is_empty());
    let mut response = Response::new(draw(status, title).into());
    for (name, value) in [
        (header::CONTENT_TYPE, "image/svg+xml"),
        (header::CACHE_CONTROL, "no-cache, no-store, must-revalidate"),
        (header::EXPIRES, "0"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `JobBadge`
pub async fn job(permit: Permit, call: Call) -> Answer {
    let job = find(&permit, &call).await?;
    let finished = job.latest_completed_build_id;
    let build = call.app.store.read(move |tx| finished.map(|id| tx.build(id)).transpose()).await?;
    answer(&call, build.flatten().map(|b| b.status))
}

/// `MainJobBadge`: the address from before there were teams.
pub async fn of_main(_: Permit, call: Call) -> Answer {
    let [pipeline, job] = ["pipeline_name", "job_name"].map(|p| query_escape(call.param(p)).replace('+', "%20"));
    let query = call.parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let to = format!("/api/v1/teams/main/pipelines/{pipeline}/jobs/{job}/badge{query}");
    redirect(StatusCode::MOVED_PERMANENTLY, &to)
}

/// `PipelineBadge`: the worst of its jobs' last builds.
pub async fn pipeline(permit: Permit, call: Call) -> Answer {
    let id = permit.pipeline()?.id;
    let statuses = call.app.store.read(move |tx| {
        let finished = tx.jobs_of_pipeline(id)?.into_iter().filter_map(|j| j.latest_completed_build_id);
        let builds = finished.map(|id| tx.build(id)).collect::<crate::store::Result<Vec<_>>>()?;
        Ok(builds.into_iter().flatten().map(|b| b.status).collect::<Vec<_>>())
    });
    let statuses = statuses.await?;
    let order = [Status::Failed, Status::Errored, Status::Aborted, Status::Succeeded];
    answer(&call, order.into_iter().find(|s| statuses.contains(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn badges_have_concourse_s_measures() {
        for (status, width, word_at) in [
            (Some(Status::Succeeded), 88, "61.5"),
            (Some(Status::Failed), 80, "57.5"),
            (Some(Status::Aborted), 90, "62.5"),
            (Some(Status::Errored), 88, "61.5"),
            (None, 98, "66.5"),
        ] {
            let svg = draw(status, None);
            assert!(svg.contains(&format!(r#"width="{width}" height="20">"#)), "{svg}");
            assert!(svg.contains(&format!(r#"<text x="{word_at}" y="14">"#)), "{svg}");
        }
        assert!(!draw(None, Some("<script>")).contains("<script>"));
    }
}
