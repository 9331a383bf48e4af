//! What ECS tells a task about itself, and how the task asks not to be stopped while it works.

pub mod metadata;
pub mod protection;

use std::collections::HashMap;

use self::metadata::{Task, TaskError};
use crate::config::source::Source;

/// The variable with the address of the task metadata, version 4. ECS sets it in every container.
pub const METADATA_VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";

/// The variable with the address of the agent's own endpoints. ECS sets it in every container.
pub const AGENT_VARIABLE: &str = "ECS_AGENT_URI";

/// What the task is, and what could not be learned of it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The task; none outside ECS.
    pub task: Option<Task>,
    /// Why nothing is known of it, although this is ECS. To be logged: it is no reason to stop when the settings say
    /// what the process answers for.
    pub problem: Option<String>,
}

/// Asks the metadata endpoint that `variables` name, and offers `source` the release and the track.
///
/// A release that is set and a track that is set are not touched. Outside ECS nothing is asked.
///
/// # Errors
/// When the endpoint does not say what the release is, and the settings do not either.
pub async fn identify(source: &mut Source, variables: &HashMap<String, String>) -> Result<Known, TaskError> {
    let Some(url) = variables.get(METADATA_VARIABLE).filter(|url| !url.is_empty()) else {
        return Ok(Known::default());
    };
    let task = match metadata::task(url).await {
        Ok(task) => task,
        Err(error) if source.is_given("release") => {
            return Ok(Known {
                task: None,
                problem: Some(error.to_string()),
            });
        }
        Err(error) => return Err(error),
    };
    source.offer("release", &task.release(), "the task's metadata");
    let suffix = source.reader().optional("ecs.canary_suffix").unwrap_or_default();
    let track = task.track(&suffix).as_str();
    source.offer("track", track, "the task's metadata");
    if let Some(service) = &task.service {
        source.offer("service", service, "the task's metadata");
    }
    Ok(Known {
        task: Some(task),
        problem: None,
    })
}

#[cfg(test)]
mod tests;
