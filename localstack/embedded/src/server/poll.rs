//! Long polling: a receive that waits for its first message.

use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::state::State;
use crate::model::action::{ReceiveMessage, ReceiveMessageOutput};
use crate::model::{Result, Timestamp};

/// Receives messages; waits for the first one as long as the request or the queue says.
///
/// The wait ends when either the machine's clock or the endpoint's own says so. A client that goes away ends it too: the
/// future is dropped between two looks at the queue, never with messages in hand.
pub(super) async fn receive(state: &State, request: &ReceiveMessage) -> Result<ReceiveMessageOutput> {
    let first = state.with_account(|account, now| {
        let output = account.receive_message(now, request)?;
        let wait = account.wait_seconds(request)?;
        Ok((
            output,
            wait,
            now.plus_seconds(wait),
            account.key(&request.queue_url)?,
        ))
    });
    let (output, wait, deadline, key) = first?;
    if wait == 0 || !output.messages.is_empty() {
        return Ok(output);
    }
    let end = Instant::now() + std::time::Duration::from_secs(wait.into());
    let waiting = state.waiting(key);
    loop {
        // Listens before it looks, so that what is sent in between is not missed.
        let mut woken = std::pin::pin!(waiting.notified());
        woken.as_mut().enable();
        let (output, now, next) = look(state, request)?;
        let over = now >= deadline || Instant::now() >= end || state.stopping.is_cancelled();
        if over || !output.messages.is_empty() {
            return Ok(output);
        }
        wait_for(state, woken, next, deadline, end).await;
    }
}

/// One look at the queue, and when the next one is due without anybody's doing.
fn look(
    state: &State,
    request: &ReceiveMessage,
) -> Result<(ReceiveMessageOutput, Timestamp, Option<Timestamp>)> {
    state.with_account(|account, now| {
        let output = account.receive_message(now, request)?;
        let next = account.next_visible_at(now, &request.queue_url)?;
        // Something is there and is not given out: a fault, or the limit of messages in flight. Only an event changes that.
        Ok((output, now, next.filter(|at| *at > now)))
    })
}

async fn wait_for(
    state: &State,
    woken: std::pin::Pin<&mut Notified<'_>>,
    next: Option<Timestamp>,
    deadline: Timestamp,
    end: Instant,
) {
    let due = next.map_or(deadline, |next| next.min(deadline));
    let due = state
        .read_clock(|clock| clock.until(due))
        .map_or(end, |left| end.min(Instant::now() + left));
    tokio::select! {
        () = woken => {}
        () = tokio::time::sleep_until(due) => {}
        () = state.stopping.cancelled() => {}
    }
}
