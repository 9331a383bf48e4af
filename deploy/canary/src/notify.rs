//! Tells people, and whatever listens for them, what a rollout does: webhooks and SNS.
//!
//! Never in the rollout's way: [`Bell`] does not wait. Each target has a queue and a task of its own; what cannot be delivered is
//! tried again some times and then becomes a log line, as does what a full queue has no room for. A note is told after the journal
//! says it, so a tool that is killed in between, or stopped while a target does not answer, tells it to nobody.

mod http;
pub mod settings;
mod sns;

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use worker::retry::Backoff;

use crate::discretion::Discretion;
use crate::drive::Observer;
use crate::journal::{Entry, Journal};
use crate::moment::Moment;
use crate::rollout::Happening;

pub use http::Shape;

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// Notes that wait for one target at most; a rollout has some dozens in all.
const QUEUE: usize = 64;

/// How often a note is tried.
const TRIES: u32 = 5;

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);

const BACKOFF: Backoff = Backoff {
    base: Duration::from_secs(1),
    max: Duration::from_secs(30),
};

/// What a note is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A rollout was begun.
    Start,
    /// A step of the plan, or the bake.
    Step,
    /// The rollout does not go forward, or goes on again; people may have to do something.
    Held,
    /// Suspicion, promotion or rollback.
    Verdict,
    /// It is over.
    Done,
}

/// Something that people are told.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Note {
    /// Version of this form; 1.
    pub schema: u32,
    /// The same for every try, so that a receiver can tell a repeat: the rollout and the place in its timeline.
    pub id: String,
    /// When it happened.
    pub at: Moment,
    /// What it is about.
    pub stage: Stage,
    /// The rollout's id.
    pub rollout: String,
    /// The release that is rolled out.
    pub release: String,
    /// The release before; none for the first one.
    pub baseline: Option<String>,
    /// What happened, in words.
    pub text: String,
}

impl Note {
    /// The note on entry `index` of the timeline of `journal`; none where people need not be told.
    #[must_use]
    pub fn of(journal: &Journal, index: usize, discretion: Discretion) -> Option<Self> {
        let stage = stage(&journal.timeline.get(index)?.happening)?;
        let shown = discretion.journal(journal);
        let Entry { at, happening } = shown.timeline.get(index)?;
        Some(Self {
            schema: SCHEMA,
            id: format!("{}-{}", journal.rollout, index as u64 + journal.left_out),
            at: *at,
            stage,
            rollout: journal.rollout.clone(),
            release: journal.state.candidate.release.to_string(),
            baseline: journal
                .state
                .baseline
                .as_ref()
                .map(|revision| revision.release.to_string()),
            text: happening.to_string(),
        })
    }

    /// In one line.
    fn line(&self) -> String {
        match &self.baseline {
            Some(baseline) => format!("{} (against {baseline}): {}", self.release, self.text),
            None => format!("{}: {}", self.release, self.text),
        }
    }
}

fn stage(happening: &Happening) -> Option<Stage> {
    match happening {
        Happening::Began { .. } => Some(Stage::Start),
        Happening::Step { .. } | Happening::BakeBegan { .. } => Some(Stage::Step),
        Happening::Held { .. } | Happening::Resumed { .. } => Some(Stage::Held),
        Happening::Suspected
        | Happening::Cleared
        | Happening::Promoting { .. }
        | Happening::RollingBack { .. } => Some(Stage::Verdict),
        Happening::Ended { .. } | Happening::Redriven { well: false, .. } => Some(Stage::Done),
        Happening::Checked { .. }
        | Happening::CanaryReady
        | Happening::Promoted
        | Happening::BakeOver
        | Happening::StableRestored { .. }
        | Happening::Removed
        | Happening::Redriven { well: true, .. }
        | Happening::TakenOver { .. }
        | Happening::Refused { .. }
        | Happening::Crashed { .. }
        | Happening::Trouble { .. } => None,
    }
}

/// Who is told, and how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Where.
    pub target: Target,
    /// How much of texts from outside.
    pub discretion: Discretion,
}

/// Where notes go.
#[derive(Clone, PartialEq, Eq)]
pub enum Target {
    /// A POST to this URL.
    Webhook {
        /// `https://…`, or `http://…`.
        url: String,
        /// What is posted.
        shape: Shape,
    },
    /// A message to this SNS topic, as JSON; region, credentials and endpoint as for the other services.
    Sns {
        /// The topic's ARN.
        topic: String,
    },
}

impl Target {
    /// A webhook at `url`.
    ///
    /// # Errors
    /// One sentence that says what is expected; it does not show the URL, which may hold a secret.
    pub fn webhook(url: &str, shape: Shape) -> Result<Self, String> {
        http::check(url)?;
        Ok(Self::Webhook {
            url: url.to_owned(),
            shape,
        })
    }

    /// The SNS topic `arn`.
    ///
    /// # Errors
    /// One sentence that says what is expected.
    pub fn sns(arn: &str) -> Result<Self, String> {
        sns::region(arn)?;
        Ok(Self::Sns {
            topic: arn.to_owned(),
        })
    }

    /// How it is called in logs, without what may be secret.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Webhook { url, .. } => format!("webhook at {}", http::host(url)),
            Self::Sns { topic } => format!("topic {topic}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// Why a note was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Undelivered {
    /// What went wrong.
    text: String,
    /// Whether another try may go better.
    again: bool,
}

impl Undelivered {
    fn new(text: impl Into<String>, again: bool) -> Self {
        Self {
            text: text.into(),
            again,
        }
    }

    /// What an answer with this status means; none when it is a success.
    fn of_status(status: u16) -> Option<Self> {
        match status {
            200..300 => None,
            408 | 425 | 429 | 500.. => Some(Self::new(format!("it answers {status}"), true)),
            _ => Some(Self::new(
                format!("it answers {status}, so trying again would not help"),
                false,
            )),
        }
    }
}

/// Delivers notes in the background.
#[derive(Debug)]
pub struct Notifier {
    tasks: JoinSet<()>,
}

/// Hands notes to a [`Notifier`]; never waits.
#[derive(Debug)]
pub struct Bell {
    lines: Vec<Line>,
}

/// The way to one subscriber.
#[derive(Debug)]
struct Line {
    name: String,
    discretion: Discretion,
    queue: Sender<Note>,
}

impl Notifier {
    /// A notifier for these subscribers, and the bell that it hears; must be called in a runtime.
    #[must_use]
    pub fn start(subscribers: Vec<Subscriber>) -> (Self, Bell) {
        let mut tasks = JoinSet::new();
        let mut line = |Subscriber { target, discretion }| {
            let (queue, receiver) = channel(QUEUE);
            let name = target.name();
            tasks.spawn(deliver_all(target, receiver));
            Line {
                name,
                discretion,
                queue,
            }
        };
        let lines = subscribers.into_iter().map(&mut line).collect();
        (Self { tasks }, Bell { lines })
    }

    /// Delivers what is still under way once the bell is dropped, for at most `limit`. Whatever is left then is left out, which is
    /// a log line.
    pub async fn close(mut self, limit: Duration) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "notifications were still under way: they are left out");
        }
    }
}

impl Bell {
    /// Hands a note over to be delivered to all.
    pub fn tell(&self, note: &Note) {
        for line in &self.lines {
            line.put(note.clone());
        }
    }
}

impl Line {
    fn put(&self, note: Note) {
        if let Err(error) = self.queue.try_send(note) {
            let note = error.into_inner();
            tracing::warn!(target_name = %self.name, id = %note.id, "no room for a notification: it is left out");
        }
    }
}

impl Observer for Bell {
    fn happened(&mut self, entry: &Entry, journal: &Journal) {
        let place = journal.timeline.iter().rposition(|written| written == entry);
        let Some(index) = place else { return };
        for line in &self.lines {
            if let Some(note) = Note::of(journal, index, line.discretion) {
                line.put(note);
            }
        }
    }
}

async fn deliver_all(target: Target, mut notes: Receiver<Note>) {
    let name = target.name();
    let mut post = match Post::new(target).await {
        Ok(post) => post,
        Err(error) => {
            tracing::warn!(target_name = %name, %error, "nobody is notified there");
            return;
        }
    };
    while let Some(note) = notes.recv().await {
        if let Err(error) = deliver(&mut post, &note).await {
            tracing::warn!(target_name = %name, id = %note.id, %error, "a notification was not delivered");
        }
    }
}

/// Tries until it is delivered, would be in vain, or was tried often enough.
async fn deliver(post: &mut Post, note: &Note) -> Result<(), Undelivered> {
    let mut rng = fastrand::Rng::new();
    let mut n = 1;
    loop {
        let sent = timeout(TIMEOUT, post.send(note)).await;
        match sent.unwrap_or_else(|_| Err(Undelivered::new(format!("no answer within {TIMEOUT:?}"), true))) {
            Ok(()) => return Ok(()),
            Err(error) if error.again && n < TRIES => {
                sleep(Duration::from_millis(100) + BACKOFF.delay(n, &mut rng)).await;
            }
            Err(error) => return Err(error),
        }
        n += 1;
    }
}

/// A target with its client.
#[derive(Debug)]
enum Post {
    Webhook(Box<http::Webhook>),
    Sns(Box<sns::Topic>),
}

impl Post {
    async fn new(target: Target) -> Result<Self, Undelivered> {
        Ok(match target {
            Target::Webhook { url, shape } => Self::Webhook(Box::new(http::Webhook::new(&url, shape)?)),
            Target::Sns { topic } => Self::Sns(Box::new(sns::Topic::new(&topic).await?)),
        })
    }

    async fn send(&self, note: &Note) -> Result<(), Undelivered> {
        match self {
            Self::Webhook(webhook) => webhook.send(note).await,
            Self::Sns(topic) => topic.send(note).await,
        }
    }
}

#[cfg(test)]
mod tests;
