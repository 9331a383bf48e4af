//! The process as an ECS task: what is known of it, and its protection.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::config::EcsSettings;
use crate::consumer::health::Health;
use crate::ecs::metadata::Task;
use crate::ecs::protection::{Agent, Options};

/// How long the exit waits for the protection to be lifted. What is not lifted in time ends by itself.
const LIFT_TIMEOUT: Duration = Duration::from_secs(1);

/// Says what is known of the ECS task.
pub(super) fn tell(ecs: &EcsSettings) {
    if let Some(task) = &ecs.known.task {
        let Task {
            cluster,
            arn,
            family,
            revision,
            service,
            image,
            digest,
        } = task;
        tracing::info!(
            cluster,
            arn,
            family,
            revision,
            service,
            image,
            digest,
            "runs as an ECS task"
        );
    }
    if let Some(problem) = &ecs.known.problem {
        tracing::warn!(
            problem,
            "nothing is known of the ECS task; the settings say what it answers for"
        );
    }
}

/// The agent to be told of work in hand, where that is asked for.
pub(super) fn agent(ecs: &EcsSettings) -> Result<Option<Agent>, RunError> {
    if !ecs.task_protection {
        return Ok(None);
    }
    let base = ecs.agent.clone().unwrap_or_default();
    let agent = Agent::new(&base, Options::default());
    agent
        .map(Some)
        .map_err(|error| RunError::Protection { base, error })
}

/// Whether any of `each` is busy.
fn any_busy(each: Vec<watch::Receiver<bool>>) -> watch::Receiver<bool> {
    let any = watch::Sender::new(false);
    let receiver = any.subscribe();
    let any = Arc::new(any);
    for mut one in each.clone() {
        let (all, any) = (each.clone(), Arc::clone(&any));
        // Ends with the consumer.
        tokio::spawn(async move {
            while one.changed().await.is_ok() {
                let busy = all.iter().any(|one| *one.borrow());
                any.send_if_modified(|was| std::mem::replace(was, busy) != busy);
            }
        });
    }
    receiver
}

/// Protects the task while any of the consumers is busy, until `stop`.
pub(super) fn protect(
    agent: Option<Agent>,
    healths: &[(String, Arc<Health>)],
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    agent.map(|agent| {
        let busy = any_busy(healths.iter().map(|(_, health)| health.busy()).collect());
        tokio::spawn(agent.run(busy, stop.clone()))
    })
}

/// Waits until the protection is lifted.
pub(super) async fn lifted(protecting: Option<JoinHandle<()>>) {
    if let Some(protecting) = protecting {
        // A panic in it, or the end of the time, changes nothing about the exit.
        let _ = timeout(LIFT_TIMEOUT, protecting).await;
    }
}
