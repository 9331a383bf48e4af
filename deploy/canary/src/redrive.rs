//! Sends dead letters back to the queue they came from: those of one release, say, after it was rolled back.
//!
//! The dead-letter queue is read to its end under leases, so that nothing comes round while it is read. What matches is
//! copied to its source queue and then deleted; the rest is handed back at once. A process that is killed in between has lost
//! nothing: what was copied and not yet deleted is in both queues, once each.

mod filter;
mod letter;
mod pace;
mod reading;
mod source;
mod summary;
mod transfer;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use worker::queue::QueueError;
use worker::sqs::Sqs;

pub use filter::{Filter, Since};
pub use letter::{Letter, Origin, UNKNOWN};
pub use reading::run;
pub use source::{Source, Sources};
pub use summary::{Ending, Group, Kept, Summary};

/// How often a message may be sent back, unless the request says otherwise.
pub const MAX_REDRIVES: u32 = 3;

/// Messages a second, unless the request says otherwise.
pub const RATE: f64 = 50.0;

/// How long what is read stays hidden should the process die, unless the request says otherwise.
pub const VISIBILITY: Duration = Duration::from_secs(120);

/// Bounds every request to SQS but a receive.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What is to be sent back, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// URL of the dead-letter queue.
    pub dead_letter_url: String,
    /// URL of the queue to send to; must name the dead-letter queue in its redrive policy. Without it each message goes where it
    /// came from.
    pub to: Option<String>,
    /// Which messages.
    pub filter: Filter,
    /// What was sent back so often stays.
    pub max_redrives: u32,
    /// Messages a second, above 0; without it as fast as SQS answers.
    pub rate: Option<f64>,
    /// The most messages to send back.
    pub limit: Option<u64>,
    /// Only look. Looking receives the messages, which counts as a receive of each.
    pub dry_run: bool,
    /// How long a message stays hidden should this process die; whole seconds, at least 30 s for the sake of the heartbeat.
    pub visibility: Duration,
}

impl Request {
    /// All messages of the dead-letter queue at `url`, with the usual bounds.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            dead_letter_url: url.into(),
            to: None,
            filter: Filter::default(),
            max_redrives: MAX_REDRIVES,
            rate: Some(RATE),
            limit: None,
            dry_run: false,
            visibility: VISIBILITY,
        }
    }
}

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// A queue could not be asked.
    #[error("{subject}: {error}")]
    Queue {
        /// What was asked, of which queue.
        subject: String,
        /// What SQS said.
        error: QueueError,
    },
    /// No queue has this one as its dead-letter queue.
    #[error(
        "{0} is the dead-letter queue of no queue; expected at least one whose redrive policy names it: messages go back to such \
         queues only"
    )]
    NoSource(String),
    /// The queue asked for does not have this one as its dead-letter queue.
    #[error("--to {to}: its redrive policy does not name {dead_letter}; expected one of: {}", sources.join(", "))]
    NotASource {
        /// The queue asked for.
        to: String,
        /// The dead-letter queue.
        dead_letter: String,
        /// URLs of those that would do.
        sources: Vec<String>,
    },
}

/// Sends back what `request` asks for. `watch` is told after every slice of at most ten messages.
///
/// What goes wrong on the way does not lose what was found out: it ends the run with [`Ending::Failed`], after everything in
/// hand was handed back. Cancelling `stop` ends the run after the slice in hand. Dropping the future is like a kill: nothing
/// is lost, what is in hand stays hidden for [`Request::visibility`].
///
/// # Errors
/// [`RedriveError`], before anything was read.
pub async fn redrive(
    sqs: &Sqs,
    request: &Request,
    watch: &(dyn Fn(&Summary) + Send + Sync),
    stop: &CancellationToken,
) -> Result<Summary, RedriveError> {
    let queue = sqs.queue(request.dead_letter_url.as_str());
    let description = source::described(&queue).await?;
    let sources = source::find(sqs, &request.dead_letter_url, &description, request.to.as_deref()).await?;
    Ok(run(Arc::new(queue), &description, &sources, request, watch, stop).await)
}
