//! The story that a copy of a message takes with it.

use super::super::Shared;
use crate::attempt::Ending;
use crate::failure::{self, AttemptRecord, Story, bounded};
use crate::handler::Reason;
use crate::message::Message;

/// What happened to the message, up to now. `attempted`: by this worker, in this delivery.
pub(super) fn story<Q, H>(
    shared: &Shared<Q, H>,
    message: &Message,
    reason: Reason,
    error: &str,
    attempted: bool,
) -> Story {
    let now = shared.parts.clock.now();
    let identity = &shared.parts.identity;
    let reason = shared.parts.events.metrics.known(reason);
    let mut attempts = message
        .story
        .as_ref()
        .map_or_else(Vec::new, |story| story.attempts.clone());
    if attempted {
        attempts.push(AttemptRecord {
            release: identity.release.clone(),
            track: identity.track,
            outcome: outcome_of(reason).as_str().to_owned(),
            receive_count: message.receive_count,
            at: now,
        });
    }
    // What a canary handed over goes back to the main queue when it is redriven.
    let main = shared.steering.handed_over_from.as_deref();
    Story {
        schema: failure::SCHEMA,
        release: identity.release.clone(),
        track: identity.track,
        reason: reason.as_str().to_owned(),
        error: (shared.options.max_error_bytes > 0).then(|| bounded(error, shared.options.max_error_bytes)),
        attempts,
        first_received_at: message.first_received_at.unwrap_or(now),
        failed_at: now,
        source_queue: main.unwrap_or(shared.parts.description.name()).to_owned(),
        original_message_id: message.original_id().to_owned(),
        redrives: message.story.as_ref().map_or(0, |story| story.redrives),
        handed_over_by: message
            .story
            .as_ref()
            .and_then(|story| story.handed_over_by.clone()),
    }
}

/// The ending that goes with a reason: each built-in reason belongs to one, and all others are rejections.
fn outcome_of(reason: Reason) -> Ending {
    Ending::ALL
        .into_iter()
        .find(|ending| ending.reasons(&[reason]).next().is_some())
        .unwrap_or(Ending::Reject)
}
