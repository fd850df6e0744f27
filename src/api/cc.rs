//! The state of a team's jobs for desktop notifiers, as `cc.xml`.

use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::installation::rfc3339;
use crate::base::clock::Time;
use crate::front::{Answer, Call, Permit};
use crate::store::build::Status;
use crate::store::show::job::JobView;

/// `GetCC`: jobs that have ever finished a build, of pipelines the caller may see.
pub async fn get(permit: Permit, call: Call) -> Answer {
    let team = match permit.team() {
        Ok(team) => Some(team),
        Err(absent) if permit.is_admin() => return Err(absent),
        // A team that is not there is one that shows nothing.
        Err(_) => None,
    };
    let views = call.app.store.read(move |tx| {
        let mut views = Vec::new();
        let Some(team) = team else { return Ok(views) };
        for pipeline in tx.pipelines_of_team(team)? {
            if permit.sees(team, pipeline.public) {
                views.extend(tx.job_views(&pipeline)?);
            }
        }
        Ok(views)
    });
    let url = &call.app.settings.external_url;
    let projects: String = views.await?.iter().filter_map(|v| project(v, url)).collect();
    let mut response = Response::new(format!("<Projects>{projects}</Projects>").into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(response)
}

fn project(view: &JobView, url: &str) -> Option<String> {
    let build = view.finished_build.as_ref()?;
    let status = match build.status {
        Status::Succeeded => "Success",
        Status::Failed => "Failure",
        Status::Errored | Status::Aborted => "Exception",
        Status::Pending | Status::Started => return None,
    };
    let activity = if view.next_build.is_some() { "Building" } else { "Sleeping" };
    let vars = view.pipeline_instance_vars.as_ref().map(|v| serde_json::Value::Object(v.clone()));
    let pipeline = match &vars {
        Some(vars) => format!("{}/{vars}", view.pipeline_name),
        None => view.pipeline_name.clone(),
    };
    let time = rfc3339(Time(build.ended_at.unwrap_or(build.created_at).unix() * 1000));
    let address = format!("{url}/teams/{}/pipelines/{}/jobs/{}", view.team_name, view.pipeline_name, view.job.name);
    Some(format!(
        r#"<Project activity="{activity}" lastBuildLabel="{}" lastBuildStatus="{status}" lastBuildTime="{time}" name="{}" webUrl="{}"></Project>"#,
        escape(&build.name),
        escape(&format!("{pipeline}/{}", view.job.name)),
        escape(&address),
    ))
}

/// For an attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;")
}
