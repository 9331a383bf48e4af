//! The task metadata endpoint, version 4.
//!
//! Source: "Amazon ECS task metadata endpoint version 4" in the ECS developer guide. `$ECS_CONTAINER_METADATA_URI_V4`
//! is this container's entry, the same with `/task` is the task.

use std::time::Duration;

use http_body_util::Full;
use hyper::{Request, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::METADATA_VARIABLE;
use crate::failure::bounded;
use crate::http_client::{HttpClient, Rest, read};
use crate::release::{MAX_RELEASE_LENGTH, Track};

/// The endpoint limits its rate, and may need a moment when a container starts.
const TRIES: u32 = 4;
const TRY_TIMEOUT: Duration = Duration::from_secs(2);
const TRY_PAUSE: Duration = Duration::from_millis(250);

/// A task's metadata is a few KiB.
const MAX_BYTES: usize = 1024 * 1024;

/// So many hexadecimal digits of a digest tell images apart.
const DIGEST_DIGITS: usize = 12;

/// The metadata cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{METADATA_VARIABLE}: {url:?}: {problem}; expected ECS's task metadata, or the setting release (WORKER__RELEASE)"
)]
pub struct TaskError {
    /// What was asked.
    pub url: String,
    /// What was wrong with it.
    pub problem: String,
}

/// The task this process runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The cluster's ARN or name.
    pub cluster: String,
    /// The task's ARN.
    pub arn: String,
    /// The task definition's family.
    pub family: String,
    /// The task definition's revision.
    pub revision: String,
    /// The service, if it runs for one.
    pub service: Option<String>,
    /// The image of this container, as the task definition names it.
    pub image: String,
    /// That image's digest, `sha256:…`; empty where ECS does not say.
    pub digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TaskAnswer {
    cluster: String,
    #[serde(rename = "TaskARN")]
    task_arn: String,
    family: String,
    revision: String,
    service_name: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerAnswer {
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
}

impl Task {
    /// The release: `<image tag>@<family>:<revision>`.
    ///
    /// The revision is in it since it fixes the configuration. An image without a tag, or with the tag `latest`, which
    /// is any image's, is named by the beginning of its digest. What a release must not have becomes `_`, and a family
    /// too long for it is cut.
    #[must_use]
    pub fn release(&self) -> String {
        let tag = match tag(&self.image) {
            Some(tag) if tag != "latest" => tag.to_owned(),
            other => {
                let digest = self
                    .image
                    .split_once('@')
                    .map_or(self.digest.as_str(), |(_, digest)| digest);
                let hex = digest.rsplit(':').next().unwrap_or_default();
                match hex.get(..DIGEST_DIGITS) {
                    Some(digits) => format!("sha256-{digits}"),
                    None => other.unwrap_or("untagged").to_owned(),
                }
            }
        };
        let clean = |text: &str| -> String {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
            text.chars().map(|c| if allowed(c) { c } else { '_' }).collect()
        };
        let (tag, revision) = (clean(&tag), clean(&self.revision));
        let mut family = clean(&self.family);
        // A tag has 128 characters at most, and is worth more than the family's end.
        family.truncate(MAX_RELEASE_LENGTH.saturating_sub(tag.len() + revision.len() + 2));
        let mut release = format!("{tag}@{family}:{revision}");
        if release.len() > MAX_RELEASE_LENGTH {
            release = format!("@:{revision}");
            release.insert_str(
                0,
                &tag[..MAX_RELEASE_LENGTH.saturating_sub(release.len()).min(tag.len())],
            );
        }
        release
    }

    /// Canary when the service's name ends in `suffix`; a task without a service is stable.
    #[must_use]
    pub fn track(&self, suffix: &str) -> Track {
        match &self.service {
            Some(service) if !suffix.is_empty() && service.ends_with(suffix) => Track::Canary,
            _ => Track::Stable,
        }
    }
}

/// The tag in `[registry[:port]/]name[:tag][@digest]`.
fn tag(image: &str) -> Option<&str> {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let last = name.rsplit('/').next().unwrap_or(name);
    last.split_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty())
}

/// Asks for this task and this container; 10 s at most.
///
/// # Errors
/// When the endpoint does not answer, or with something else.
pub async fn task(url: &str) -> Result<Task, TaskError> {
    let base = url.trim_end_matches('/');
    let task: TaskAnswer = ask(&format!("{base}/task")).await?;
    let container: ContainerAnswer = ask(base).await?;
    Ok(Task {
        cluster: task.cluster,
        arn: task.task_arn,
        family: task.family,
        revision: task.revision,
        service: task.service_name.filter(|name| !name.is_empty()),
        image: container.image,
        digest: container.image_id,
    })
}

async fn ask<T: DeserializeOwned>(url: &str) -> Result<T, TaskError> {
    let failed = |problem: String| TaskError {
        url: url.to_owned(),
        problem,
    };
    let uri: Uri = url
        .parse()
        .map_err(|error: hyper::http::uri::InvalidUri| failed(error.to_string()))?;
    let client = HttpClient::new(&uri);
    let mut problem = String::new();
    for attempt in 1..=TRIES {
        match get(&client, &uri).await {
            Ok(body) => {
                return serde_json::from_slice(&body).map_err(|error| {
                    let beginning = bounded(&String::from_utf8_lossy(&body), 80);
                    failed(format!("the answer is {beginning:?} ({error})"))
                });
            }
            Err(error) => problem = error,
        }
        if attempt < TRIES {
            sleep(TRY_PAUSE * attempt).await;
        }
    }
    Err(failed(problem))
}

async fn get(client: &HttpClient, uri: &Uri) -> Result<Vec<u8>, String> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = uri.clone();
    let deadline = Instant::now() + TRY_TIMEOUT;
    let answer = client
        .send(request, deadline)
        .await
        .map_err(|error| error.to_string())?;
    let status = answer.status();
    match read(answer.into_body(), MAX_BYTES, deadline).await {
        (body, Rest::Whole) if status.is_success() => Ok(body),
        (body, _) if !status.is_success() => Err(format!(
            "it answers {status} {:?}",
            bounded(&String::from_utf8_lossy(&body), 80)
        )),
        (_, rest) => Err(format!("the answer has no end ({rest:?})")),
    }
}
