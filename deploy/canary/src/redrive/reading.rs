//! Reads a dead-letter queue to its end, slice by slice, and sends back what is meant.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use metrics::NoopRecorder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use worker::events::Events;
use worker::lease::{Lease, Leases};
use worker::message::Message;
use worker::metrics::Metrics;
use worker::queue::{
    Description, ErrorKind, MAX_BATCH, Outgoing, Queue, QueueError, ReceiveRequest, Visibility,
};
use worker::release::{Identity, Release, Track};

use super::Request;
use super::letter::Letter;
use super::pace::Pace;
use super::source::Sources;
use super::summary::{Ending, Kept, Summary};
use super::transfer::{Sent, again, batches, delete, pause, send};

/// How long a receive waits for messages. Long polls ask all of SQS's servers, short ones only some.
const WAIT: Duration = Duration::from_secs(1);

/// The queue is at its end after so many receives in a row that brought nothing.
const EMPTY_RECEIVES: u32 = 2;

/// AWS refuses requests of clocks that are off by more: what seems to come later than this was not there at the start.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// Clocks that are kept differ by less. As many messages read as there were at the start, and only later ones in a slice: the rest
/// came since, and a queue that goes on growing would be read for as long as [`CLOCK_TOLERANCE`], hidden from everybody else.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(2);

/// Calls under way at once when messages are handed back.
const HANDING_BACK: usize = 8;

/// Sends back what `request` asks for, from `dead_letter` to `sources`. See [`super::redrive`], which finds the queues.
pub async fn run<Q: Queue>(
    dead_letter: Arc<Q>,
    description: &Description,
    sources: &Sources<Q>,
    request: &Request,
    watch: &(dyn Fn(&Summary) + Send + Sync),
    stop: &CancellationToken,
) -> Summary {
    let leases = leases(description.name(), request.visibility);
    let stop_beats = CancellationToken::new();
    let beats = tokio::spawn(Arc::clone(&leases).run(Arc::clone(&dead_letter), stop_beats.clone()));
    let summary = Summary::new(
        description.name(),
        sources.names(),
        request.dry_run,
        description.visible,
    );
    let mut reading = Reading {
        dead_letter,
        fifo: description.fifo,
        sources,
        request,
        watch,
        stop,
        leases,
        pace: Pace::new(request.rate),
        latest: SystemTime::now().checked_add(CLOCK_TOLERANCE),
        soon: SystemTime::now().checked_add(CLOCK_DIFFERENCE),
        selected: 0,
        known: HashMap::new(),
        originals: HashSet::new(),
        held: HashMap::new(),
        not_deleted: HashSet::new(),
        fatal: None,
        summary,
    };
    if let Err(error) = reading.all().await {
        reading.summary.ending = Ending::Failed(error.to_string());
    }
    reading.hand_back().await;
    stop_beats.cancel();
    // Beats under way end within the timeout of their call.
    let _ = beats.await;
    let not_deleted = reading.not_deleted.into_iter().map(|id| id.as_ref().to_owned());
    reading.summary.not_deleted = not_deleted.collect();
    reading.summary
}

/// The worker's own scheduler of heartbeats. Its counters go nowhere: this process has no metrics.
fn leases(queue: &str, visibility: Duration) -> Arc<Leases> {
    #[expect(clippy::expect_used, reason = "a constant that is a release's name")]
    let release = Release::new("redrive").expect("is a release's name");
    let identity = Identity {
        release,
        track: Track::Stable,
    };
    let metrics = Metrics::register(&NoopRecorder, &identity, queue, &[]);
    let events = Arc::new(Events::new(Arc::new(metrics), queue, 10));
    Leases::new(visibility, events, fastrand::Rng::new())
}

/// What this run knows of a message that it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Sent back.
    Moved,
    /// Kept, in the pass of this number.
    Kept { pass: u32 },
}

/// A delivery in hand that stays in the dead-letter queue.
struct Held {
    receipt: Arc<str>,
    lease: Lease,
}

/// A delivery that goes back, with its copy.
struct Selected {
    id: Arc<str>,
    original_id: String,
    receipt: Arc<str>,
    lease: Lease,
    group: usize,
    copy: Outgoing,
}

/// How a pass over the queue ended, if nothing went wrong.
struct Pass {
    moved: u64,
    kept: bool,
    ending: Ending,
}

struct Reading<'a, Q> {
    dead_letter: Arc<Q>,
    fifo: bool,
    sources: &'a Sources<Q>,
    request: &'a Request,
    watch: &'a (dyn Fn(&Summary) + Send + Sync),
    stop: &'a CancellationToken,
    leases: Arc<Leases>,
    pace: Pace,
    /// What was sent after this was certainly not there at the start; after `soon`, hardly.
    latest: Option<SystemTime>,
    soon: Option<SystemTime>,
    /// Messages chosen to be sent back, for the limit.
    selected: u64,
    known: HashMap<Arc<str>, Known>,
    /// Original ids of what was sent back: what fails again at once must not go in circles.
    originals: HashSet<String>,
    held: HashMap<Arc<str>, Held>,
    /// What was sent and not deleted.
    not_deleted: HashSet<Arc<str>>,
    /// What ends the run.
    fatal: Option<QueueError>,
    summary: Summary,
}

impl<Q: Queue> Reading<'_, Q> {
    /// One pass over a standard queue. On a FIFO queue what is kept hides what is behind it in its group, so that there is
    /// another pass for as long as the last one moved something; each moves at least one message, and none twice.
    async fn all(&mut self) -> Result<(), QueueError> {
        for number in 0.. {
            let pass = self.pass(number).await?;
            self.summary.ending = pass.ending;
            let description = self.dead_letter.description().await;
            // At the end of a standard queue the estimate, which lags, could only raise a false alarm.
            if self.fifo || self.summary.ending != Ending::Complete {
                self.summary.unread = description.map_or(0, |description| description.visible);
            }
            let behind = self.fifo && pass.kept && pass.moved > 0 && self.summary.ending == Ending::Complete;
            if !behind || self.request.dry_run {
                break;
            }
            self.hand_back().await;
        }
        Ok(())
    }

    async fn pass(&mut self, number: u32) -> Result<Pass, QueueError> {
        let before = self.summary.moved();
        let mut empty = 0;
        // Bounded: what is read stays hidden, what comes later than the start is not waited for.
        let ending = loop {
            if self.stop.is_cancelled() {
                break Ending::Interrupted;
            }
            if self.request.limit.is_some_and(|limit| self.selected >= limit) {
                break Ending::Limit;
            }
            let asked = Instant::now();
            let slice = self.receive().await?;
            if slice.is_empty() {
                empty += 1;
                if empty == EMPTY_RECEIVES {
                    break Ending::Complete;
                }
                continue;
            }
            empty = 0;
            let newest = if self.summary.found() >= self.summary.visible {
                self.soon
            } else {
                self.latest
            };
            let later = slice.iter().all(|message| is_after(message, newest));
            let came_round = self.take(slice, asked, number).await?;
            (self.watch)(&self.summary);
            if came_round {
                break Ending::CameRound;
            }
            if later {
                break Ending::Complete;
            }
        };
        Ok(Pass {
            moved: self.summary.moved() - before,
            kept: !self.held.is_empty(),
            ending,
        })
    }

    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let request = ReceiveRequest {
            max: MAX_BATCH,
            wait: WAIT,
            visibility: self.request.visibility,
        };
        let mut n = 1;
        loop {
            match self.dead_letter.receive(request).await {
                Ok(messages) => return Ok(messages),
                // As much in flight as SQS allows: what is behind cannot be reached in this run.
                Err(error) if error.kind == ErrorKind::OverLimit => return Ok(Vec::new()),
                Err(error) if again(n, &error) => pause(n).await,
                Err(error) => return Err(error),
            }
            n += 1;
        }
    }

    /// Sorts a slice into what stays and what goes, and lets the latter go. Whether a kept message came round again.
    async fn take(&mut self, slice: Vec<Message>, asked: Instant, pass: u32) -> Result<bool, QueueError> {
        let mut came_round = false;
        // Nobody waits for a lease to be lost here; it is looked at before a message is sent.
        let bell = Arc::new(Notify::new());
        let mut again = Vec::new();
        let mut chosen: HashMap<usize, Vec<Selected>> = HashMap::new();
        for message in slice {
            let id = Arc::clone(&message.id);
            let known = self.known.get(&id).copied();
            if known == Some(Known::Moved) {
                // The deletion was lost, or SQS delivers twice: the newest handle deletes it.
                self.summary.seen_again += 1;
                again.push((id, message.receipt));
                continue;
            }
            let lease = self
                .leases
                .start(Arc::clone(&message.receipt), Arc::clone(&id), asked, &bell);
            let receipt = Arc::clone(&message.receipt);
            came_round |= known == Some(Known::Kept { pass });
            let first = known.is_none();
            match self.choose(message, first) {
                Some((target, selected)) => chosen.entry(target).or_default().push(selected.with(lease)),
                None => {
                    self.known.insert(Arc::clone(&id), Known::Kept { pass });
                    self.held.insert(id, Held { receipt, lease });
                }
            }
        }
        self.delete(again).await;
        for (target, selected) in chosen {
            self.send_back(target, selected, pass).await;
        }
        self.fatal.take().map_or(Ok(came_round), Err)
    }

    /// Where the message goes and as what; none when it stays, which is counted if this is the first sight of it.
    fn choose(&mut self, message: Message, first: bool) -> Option<(usize, Choice)> {
        let later = is_after(&message, self.latest);
        let letter = Letter::read(message);
        let matched = self.request.filter.holds(&letter);
        let group = if first {
            Some(self.summary.count(&letter, matched))
        } else {
            None
        };
        // What was looked at and kept before is kept for the same reason again.
        let group = group.filter(|_| matched)?;
        let limit = self.request.limit.is_some_and(|limit| self.selected >= limit);
        let verdict = match () {
            () if later => Err(Kept::ArrivedLater),
            () if self.originals.contains(letter.original_id()) => Err(Kept::CameBack),
            () if letter.redrives() >= self.request.max_redrives => Err(Kept::TooOften),
            () if limit => Err(Kept::Limit),
            () => self.sources.pick(&letter).ok_or(Kept::Ambiguous),
        };
        let target = verdict.and_then(|index| {
            self.sources
                .get(index)
                .map(|source| (index, source))
                .ok_or(Kept::Ambiguous)
        });
        let (index, source) = match target {
            Ok(found) => found,
            Err(why) => {
                self.summary.keep(group, why);
                return None;
            }
        };
        match letter.copy(&source.description, SystemTime::now()) {
            Err(error) => {
                self.summary.keep(group, Kept::Refused);
                self.summary.problem(&letter.message.id, &error);
                None
            }
            Ok(_) if self.request.dry_run => {
                self.selected += 1;
                self.summary.groups[group].moved += 1;
                None
            }
            Ok(copy) => {
                self.selected += 1;
                Some((index, Choice { group, letter, copy }))
            }
        }
    }

    /// Sends copies and deletes what was sent. After an error that ends the run the rest stays.
    async fn send_back(&mut self, target: usize, selected: Vec<Selected>, pass: u32) {
        for batch in batches(selected, |selected| &selected.copy) {
            let stopped = tokio::select! {
                () = self.pace.take(batch.len()) => false,
                () = self.stop.cancelled() => true,
            };
            // A message whose lease is lost may be with somebody else: a copy would be one too many.
            let (batch, lost): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|selected| !selected.lease.is_lost());
            for selected in lost {
                self.stay(selected, Kept::LeaseLost, pass);
            }
            let source = self
                .sources
                .get(target)
                .filter(|_| !stopped && self.fatal.is_none());
            let Some(source) = source else {
                for selected in batch {
                    self.stay(selected, Kept::NotSent, pass);
                }
                continue;
            };
            let copies: Vec<Outgoing> = batch.iter().map(|selected| selected.copy.clone()).collect();
            let fates = send(&*source.queue, &copies).await;
            self.settle(batch, fates, pass).await;
        }
    }

    /// Deletes what was sent and keeps what was not.
    async fn settle(&mut self, batch: Vec<Selected>, fates: Vec<Sent>, pass: u32) {
        let mut sent = Vec::new();
        let mut leases = Vec::new();
        for (selected, fate) in batch.into_iter().zip(fates) {
            match fate {
                Sent::Yes { perhaps_twice } => {
                    self.summary.groups[selected.group].moved += 1;
                    self.summary.sent_twice_at_most += u64::from(perhaps_twice);
                    self.known.insert(Arc::clone(&selected.id), Known::Moved);
                    self.originals.insert(selected.original_id);
                    sent.push((selected.id, selected.receipt));
                    leases.push(selected.lease);
                }
                Sent::Refused(error) => {
                    self.summary.problem(&selected.id, &error);
                    self.stay(selected, Kept::Refused, pass);
                }
                Sent::No(error) => {
                    self.summary.problem(&selected.id, &error);
                    self.stay(selected, Kept::NotSent, pass);
                    self.fatal = Some(error);
                }
            }
        }
        // The leases last until the deletion is over.
        self.delete(sent).await;
        drop(leases);
    }

    /// Deletes what is in the other queue by now. What cannot be deleted is remembered.
    async fn delete(&mut self, sent: Vec<(Arc<str>, Arc<str>)>) {
        if sent.is_empty() {
            return;
        }
        let receipts: Vec<Arc<str>> = sent.iter().map(|(_, receipt)| Arc::clone(receipt)).collect();
        let results = delete(&*self.dead_letter, &receipts).await;
        for ((id, _), result) in sent.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    self.not_deleted.remove(&id);
                }
                Err(error) => {
                    self.summary
                        .problem(&id, &format_args!("sent, and not deleted: {error}"));
                    self.not_deleted.insert(id);
                }
            }
        }
    }

    fn stay(&mut self, selected: Selected, why: Kept, pass: u32) {
        self.summary.keep(selected.group, why);
        self.known.insert(Arc::clone(&selected.id), Known::Kept { pass });
        let (receipt, lease) = (selected.receipt, selected.lease);
        self.held.insert(selected.id, Held { receipt, lease });
    }

    /// Makes everything in hand visible at once. What fails comes back by itself, at the end of its lease.
    async fn hand_back(&mut self) {
        let mut receipts = Vec::with_capacity(self.held.len());
        for held in std::mem::take(&mut self.held).into_values() {
            let lost = held.lease.is_lost();
            // A beat that lands later would hide the message again.
            held.lease.stop().await;
            if !lost {
                receipts.push(held.receipt);
            }
        }
        let mut calls = JoinSet::new();
        for batch in receipts.chunks(MAX_BATCH) {
            if calls.len() >= HANDING_BACK {
                let _ = calls.join_next().await;
            }
            let entry = |receipt: &Arc<str>| Visibility {
                receipt: Arc::clone(receipt),
                after: Duration::ZERO,
            };
            let batch: Vec<Visibility> = batch.iter().map(entry).collect();
            let queue = Arc::clone(&self.dead_letter);
            calls.spawn(async move {
                for n in 1.. {
                    match queue.change_visibility(&batch).await {
                        Err(error) if again(n, &error) => pause(n).await,
                        _ => break,
                    }
                }
            });
        }
        while calls.join_next().await.is_some() {}
    }
}

/// Whether the message was sent after `moment`, as far as is known.
fn is_after(message: &Message, moment: Option<SystemTime>) -> bool {
    matches!((message.sent_at, moment), (Some(sent), Some(moment)) if sent > moment)
}

/// What [`Reading::choose`] chose to send back.
struct Choice {
    group: usize,
    letter: Letter,
    copy: Outgoing,
}

impl Choice {
    fn with(self, lease: Lease) -> Selected {
        Selected {
            original_id: self.letter.original_id().to_owned(),
            id: self.letter.message.id,
            receipt: self.letter.message.receipt,
            lease,
            group: self.group,
            copy: self.copy,
        }
    }
}
