//! What is true of the queues and the handlers, kept beside them, and the invariants checked against it.
//!
//! Everything here happens at the instant at which the model carries a request out, or at which a handler begins or
//! ends; what the worker believes plays no part. The first violation ends the run.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use worker::failure::{ATTRIBUTE, Story};
use worker::message::Attributes;

/// Timers have a resolution of a millisecond, and an attempt ends a few polls after its signal.
const SLACK: Duration = Duration::from_millis(5);

/// What was sent: one number for all copies of a message.
pub(crate) type Token = usize;

/// The order of arrival in the main queue.
type Place = usize;

/// A worker process, and which start of it.
pub(crate) type ProcessId = (u8, u32);

/// A message as it was sent first.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) body: String,
    pub(crate) attributes: Attributes,
    pub(crate) group: Option<String>,
    pub(crate) trace_header: Option<String>,
    /// The id it was first sent under, and those of copies that had no room for a story to keep it in.
    pub(crate) original_ids: Vec<String>,
}

/// A message found in the dead-letter queue.
#[derive(Debug, Clone)]
pub(crate) struct Dead {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) attributes: Attributes,
    pub(crate) group: Option<String>,
    pub(crate) trace_header: Option<String>,
    /// SQS itself moved it.
    pub(crate) native: bool,
}

#[derive(Debug)]
struct Receipt {
    id: Arc<str>,
    token: Token,
    place: Place,
    process: ProcessId,
    executed: Instant,
    /// When the worker had the answer; none when it never came.
    answered: Option<Instant>,
    /// When SQS shows the message again, by what it carried out.
    until: Instant,
    beaten: bool,
    attempted: bool,
    running: bool,
    /// A change of its visibility is under way.
    changing: bool,
    delay_sent: bool,
    settled: bool,
}

#[derive(Debug)]
struct Running {
    receipt: String,
    started: Instant,
}

/// The truth, and the first violation of an invariant.
#[derive(Debug)]
pub(crate) struct Ledger {
    pub(crate) violation: Option<String>,
    /// Printed by `SIMULATION_SEED`.
    pub(crate) story: Option<Vec<String>>,
    fifo: bool,
    visibility: Duration,
    deadline: Duration,
    concurrency: usize,
    max_receives: u32,
    /// Since when processes drain.
    draining: HashMap<ProcessId, Instant>,
    /// Whether a process remembers all that it has done.
    remembers: bool,
    done_by: HashSet<(ProcessId, Arc<str>)>,
    origin: Instant,
    trace: DefaultHasher,
    pub(crate) sent: Vec<Sent>,
    /// Ids in the main queue.
    live: HashMap<Arc<str>, (Token, Place)>,
    by_token: Vec<HashSet<Arc<str>>>,
    pub(crate) dead: BTreeMap<Token, Vec<Dead>>,
    pub(crate) natives: usize,
    pub(crate) copies: usize,
    /// Of the copies that have a story, why they were made.
    pub(crate) reasons: Vec<String>,
    pub(crate) receives: usize,
    pub(crate) most_running: usize,
    pub(crate) done: Vec<usize>,
    completed: Vec<bool>,
    next_place: Place,
    receipts: HashMap<String, Receipt>,
    newest: HashMap<Arc<str>, String>,
    running: HashMap<u64, Running>,
    running_of: HashMap<ProcessId, usize>,
    asked_of: HashMap<ProcessId, usize>,
    next_attempt: u64,
    jumps: Vec<(Instant, Instant)>,
}

impl Ledger {
    pub(crate) fn new(case: &crate::case::Case, tell: bool) -> Self {
        Self {
            violation: None,
            story: tell.then(Vec::new),
            fifo: case.fifo,
            visibility: Duration::from_secs(case.visibility.into()),
            deadline: Duration::from_secs(case.deadline.into()),
            concurrency: case.concurrency,
            max_receives: case.max_receives,
            draining: HashMap::new(),
            remembers: case.remember >= case.operations.len(),
            done_by: HashSet::new(),
            origin: Instant::now(),
            trace: DefaultHasher::new(),
            sent: Vec::new(),
            live: HashMap::new(),
            by_token: Vec::new(),
            dead: BTreeMap::new(),
            natives: 0,
            copies: 0,
            reasons: Vec::new(),
            receives: 0,
            most_running: 0,
            done: Vec::new(),
            completed: Vec::new(),
            next_place: 0,
            receipts: HashMap::new(),
            newest: HashMap::new(),
            running: HashMap::new(),
            running_of: HashMap::new(),
            asked_of: HashMap::new(),
            next_attempt: 0,
            jumps: Vec::new(),
        }
    }

    /// The same for two runs in which the same happened at the same times.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    pub(crate) fn tell(&mut self, what: impl Hash, text: impl FnOnce() -> String) {
        let at = self.origin.elapsed();
        (at, what).hash(&mut self.trace);
        if let Some(story) = &mut self.story {
            story.push(format!("{:>10.3} {}", at.as_secs_f64(), text()));
        }
    }

    /// Notes the first violation; later ones follow from it.
    pub(crate) fn violated(&mut self, invariant: &str, detail: impl std::fmt::Display) {
        let text = format!(
            "{invariant}: {detail} (at {:.3} s)",
            self.origin.elapsed().as_secs_f64()
        );
        self.tell("violated", || text.clone());
        self.violation.get_or_insert(text);
    }

    // ---- What happens in the queues --------------------------------------------------------------------------

    pub(crate) fn sent(&mut self, sent: Sent) {
        let token = self.sent.len();
        self.tell((1, token), || format!("sent {token} in {:?}", sent.group));
        let id: Arc<str> = sent.original_ids[0].as_str().into();
        self.sent.push(sent);
        self.done.push(0);
        self.completed.push(false);
        self.by_token.push(HashSet::new());
        self.arrives(token, id);
    }

    /// A copy was accepted by the main queue.
    pub(crate) fn copied_back(&mut self, token: Token, id: &str, story: bool) {
        if !story {
            self.sent[token].original_ids.push(id.to_owned());
        }
        self.tell((2, token), || format!("{token} is in the main queue as {id}"));
        self.arrives(token, id.into());
    }

    fn arrives(&mut self, token: Token, id: Arc<str>) {
        self.by_token[token].insert(Arc::clone(&id));
        self.live.insert(id, (token, self.next_place));
        self.next_place += 1;
    }

    /// A message came to the dead-letter queue.
    pub(crate) fn died(&mut self, token: Token, dead: Dead) {
        self.tell((3, token), || {
            format!("{token} is in the dead-letter queue, native: {}", dead.native)
        });
        if dead.native {
            self.natives += 1;
            self.live.remove(dead.id.as_str());
            self.by_token[token].remove(dead.id.as_str());
        }
        if let Some(Ok(story)) = dead.attributes.get(ATTRIBUTE).map(Story::read)
            && !dead.native
        {
            self.reasons.push(story.reason);
        }
        if let Some(wrong) = self.wrong_with(token, &dead) {
            self.violated("a dead letter carries body, attributes and story", wrong);
        }
        self.copies += usize::from(!dead.native);
        self.dead.entry(token).or_default().push(dead);
        self.complete(token);
    }

    fn wrong_with(&self, token: Token, dead: &Dead) -> Option<String> {
        let sent = &self.sent[token];
        let mut attributes = dead.attributes.clone();
        let story = attributes.remove(ATTRIBUTE);
        if dead.body != sent.body || attributes != sent.attributes {
            return Some(format!("{token} was sent as {sent:?} and died as {dead:?}"));
        }
        if dead.group != sent.group || dead.trace_header != sent.trace_header {
            return Some(format!("{token} has another group or trace header: {dead:?}"));
        }
        if dead.native {
            return None;
        }
        let Some(story) = story else {
            return (attributes.len() < 10).then(|| format!("{token} has no story"));
        };
        match Story::read(&story) {
            Err(error) => Some(format!("{token}: {error}")),
            Ok(story) if !sent.original_ids.contains(&story.original_message_id) => {
                Some(format!("{token} was first {:?}: {story:?}", sent.original_ids))
            }
            Ok(story) if !story.source_queue.starts_with("main") => Some(format!("{token}: {story:?}")),
            // Who reads `blocked` believes that nobody has tried it, and who reads another reason that somebody has.
            Ok(story) if !self.was_given(token, story.reason != "blocked") => {
                Some(format!("{token} was not tried, or was: {story:?}"))
            }
            Ok(_) => None,
        }
    }

    /// Whether there was a delivery with an attempt, or one without.
    fn was_given(&self, token: Token, attempted: bool) -> bool {
        let mut deliveries = self
            .receipts
            .values()
            .filter(|receipt| receipt.token == token && receipt.answered.is_some());
        deliveries.any(|receipt| receipt.attempted == attempted)
    }

    /// A receive was carried out.
    pub(crate) fn received(&mut self, process: ProcessId, id: &str, handle: &str, token: Token) {
        self.tell((4, token), || format!("{process:?} is given {token}"));
        let now = Instant::now();
        self.receives += 1;
        let id: Arc<str> = id.into();
        self.newest.insert(Arc::clone(&id), handle.to_owned());
        let place = self.live.get(&id).map_or(self.next_place, |(_, place)| *place);
        let receipt = Receipt {
            id,
            token,
            place,
            process,
            executed: now,
            answered: None,
            // A duplicate, which stays visible, is believed to be invisible for as long.
            until: now + self.visibility,
            beaten: false,
            attempted: false,
            running: false,
            changing: false,
            delay_sent: false,
            settled: false,
        };
        self.receipts.insert(handle.to_owned(), receipt);
    }

    /// The worker has the answer of a receive.
    pub(crate) fn answered(&mut self, handle: &str) {
        if let Some(receipt) = self.receipts.get_mut(handle) {
            receipt.answered = Some(Instant::now());
        }
    }

    /// A deletion was carried out.
    pub(crate) fn deleted(&mut self, handle: &str) {
        let Some(receipt) = self.receipts.get_mut(handle) else {
            return;
        };
        receipt.settled = true;
        let (id, token) = (Arc::clone(&receipt.id), receipt.token);
        if self.newest.get(&id).is_none_or(|newest| newest != handle) || self.live.remove(&id).is_none() {
            return;
        }
        self.tell((5, token), || format!("{token} is deleted"));
        self.by_token[token].remove(&id);
        let copied = !self.by_token[token].is_empty() || self.dead.contains_key(&token);
        if self.done[token] == 0 && !copied {
            self.violated("nothing is deleted before `Done` or a safe copy", token);
        }
    }

    /// A change of visibility was carried out.
    pub(crate) fn changed(&mut self, handle: &str, after: Duration) {
        let visibility = self.visibility;
        if let Some(receipt) = self.receipts.get_mut(handle) {
            let token = receipt.token;
            receipt.until = Instant::now() + after;
            receipt.beaten |= after == visibility;
            receipt.settled |= after != visibility;
            self.tell((6, token, after), || {
                format!("{token} stays hidden for {after:?}")
            });
        }
    }

    // ---- What the worker asks for ----------------------------------------------------------------------------

    pub(crate) fn asks(&mut self, process: ProcessId, messages: usize) {
        let asked = self.asked_of.entry(process).or_default();
        *asked += messages;
        let (asked, running) = (*asked, self.running_of.get(&process).copied().unwrap_or(0));
        if asked + running > self.concurrency {
            let detail = format!("{process:?} asks for {asked} while {running} run");
            self.violated("no more is asked for than there are free slots", detail);
        }
    }

    pub(crate) fn asked(&mut self, process: ProcessId, messages: usize) {
        if let Some(asked) = self.asked_of.get_mut(&process) {
            *asked -= messages;
        }
    }

    /// The worker sends a deletion.
    pub(crate) fn deleting(&mut self, handle: &str) {
        if let Some(receipt) = self.receipts.get(handle)
            && receipt.running
        {
            let token = receipt.token;
            self.violated("nothing is settled while its attempt runs", token);
        }
    }

    /// The worker sends a change of visibility.
    pub(crate) fn changing(&mut self, handle: &str, after: Duration) {
        let beat = after == self.visibility;
        let Some(receipt) = self.receipts.get_mut(handle) else {
            return;
        };
        let (token, overlaps, beat_after) = (receipt.token, receipt.changing, beat && receipt.delay_sent);
        let (runs, at_once) = (!beat && receipt.running, after.is_zero() && receipt.attempted);
        receipt.changing = true;
        receipt.delay_sent |= !beat;
        if overlaps {
            self.violated("a lease is stopped before the visibility is changed", token);
        }
        if beat_after {
            self.violated("no beat follows the delay of a retry", token);
        }
        if runs {
            self.violated("nothing is settled while its attempt runs", token);
        }
        if at_once {
            self.violated("a retry is never immediate", token);
        }
    }

    /// The call with that change has ended for the worker.
    pub(crate) fn change_ended(&mut self, handle: &str) {
        if let Some(receipt) = self.receipts.get_mut(handle) {
            receipt.changing = false;
        }
    }

    // ---- What the handlers do --------------------------------------------------------------------------------

    /// A process begins to drain.
    pub(crate) fn drains(&mut self, process: ProcessId) {
        self.draining.insert(process, Instant::now());
    }

    /// An attempt starts, of a message that was received so often: in a drain, only where it cannot go back.
    pub(crate) fn draining_begins(&mut self, process: ProcessId, token: Token, receives: u32) {
        let cannot_go_back = self.fifo && receives >= self.max_receives;
        // What began in the very moment is not yet stopped.
        let drains = self
            .draining
            .get(&process)
            .is_some_and(|since| *since < Instant::now());
        if drains && !cannot_go_back {
            self.violated("a drain begins no attempt", token);
        }
    }

    pub(crate) fn attempt_starts(&mut self, process: ProcessId, token: Token, handle: &str) -> u64 {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.tell((7, token), || format!("{process:?} begins {token}"));
        let running = self.running_of.entry(process).or_default();
        *running += 1;
        let running = *running;
        if running > self.concurrency {
            self.violated(
                "no more attempts run than there are slots",
                format!("{process:?} runs {running}"),
            );
        }
        let Some(receipt) = self.receipts.get_mut(handle) else {
            self.violated("an attempt is of a message that was received", token);
            return attempt;
        };
        receipt.attempted = true;
        let (place, twice) = (receipt.place, std::mem::replace(&mut receipt.running, true));
        let again = (process, Arc::clone(&receipt.id));
        if self.remembers && self.done_by.contains(&again) {
            self.violated("what a process has done it does not do again", token);
        }
        if twice {
            self.violated("a delivery has one attempt at a time", token);
        }
        if let Some(earlier) = self.earlier(token, place) {
            let detail = format!("{token} starts while {earlier} is still in the queue");
            self.violated("order in a group is kept", detail);
        }
        self.running.insert(
            attempt,
            Running {
                receipt: handle.to_owned(),
                started: Instant::now(),
            },
        );
        self.most_running = self.most_running.max(self.running.len());
        attempt
    }

    /// On a FIFO queue, a message of the same group that arrived earlier and is still in the queue.
    fn earlier(&self, token: Token, place: Place) -> Option<Token> {
        let group = &self.sent[token].group;
        let mut others = self.live.values().filter(|_| self.fifo);
        others
            .find(|(other, at)| *at < place && self.sent[*other].group == *group)
            .map(|(other, _)| *other)
    }

    /// The handler returned, or was dropped.
    pub(crate) fn attempt_ended(&mut self, process: ProcessId, attempt: u64, how: &str) {
        if let Some(running) = self.running_of.get_mut(&process) {
            *running -= 1;
        }
        let Some(running) = self.running.remove(&attempt) else {
            return;
        };
        let now = Instant::now();
        let Some(receipt) = self.receipts.get_mut(&running.receipt) else {
            return;
        };
        receipt.running = false;
        let token = receipt.token;
        // Until its first beat the worker counts from the answer, which came a little later than SQS counts from.
        let late = receipt
            .answered
            .filter(|_| !receipt.beaten)
            .map_or(Duration::ZERO, |at| at - receipt.executed);
        let (until, hash) = (receipt.until + late, how.len());
        self.tell((8, token, hash), || format!("{process:?} ends {token}: {how}"));
        if now > self.after_jumps(until) + SLACK {
            let detail = format!("{token} ran on for {:?} after its lease", now - until);
            self.violated("a lease is extended in time or its attempt cancelled", detail);
        }
        if now > self.after_jumps(running.started + self.deadline) + SLACK {
            self.violated("an attempt ends by its deadline", token);
        }
    }

    /// While everything stands still, nothing can end.
    fn after_jumps(&self, at: Instant) -> Instant {
        self.jumps.iter().fold(
            at,
            |at, (from, to)| {
                if (*from..*to).contains(&at) { *to } else { at }
            },
        )
    }

    pub(crate) fn jumps(&mut self, from: Instant, to: Instant) {
        self.jumps.push((from, to));
    }

    pub(crate) fn is_done(&mut self, process: ProcessId, token: Token, id: &Arc<str>) {
        self.done[token] += 1;
        self.done_by.insert((process, Arc::clone(id)));
        self.complete(token);
    }

    /// The first time that a message is done or dead.
    fn complete(&mut self, token: Token) {
        if std::mem::replace(&mut self.completed[token], true) || !self.fifo {
            return;
        }
        let group = &self.sent[token].group;
        let incomplete = |other: &Token| self.sent[*other].group == *group && !self.completed[*other];
        if let Some(earlier) = (0..token).find(incomplete) {
            let detail = format!("{token} is complete before {earlier}");
            self.violated("order in a group is kept", detail);
        }
    }

    // ---- At the end ------------------------------------------------------------------------------------------

    /// A process is gone, with all that ran in it.
    pub(crate) fn gone(&mut self, process: ProcessId) {
        self.asked_of.remove(&process);
    }

    /// What a process that drained in peace was given and neither deleted nor handed back.
    pub(crate) fn left_hidden(&self, process: ProcessId) -> Vec<Token> {
        let left = self.receipts.values().filter(|receipt| {
            receipt.process == process
                && receipt.answered.is_some()
                && !receipt.settled
                && self.live.contains_key(&receipt.id)
        });
        let mut left: Vec<_> = left.map(|receipt| receipt.token).collect();
        left.sort_unstable();
        left
    }

    pub(crate) fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Every message is done or dead; and exactly one of it, once, when nothing but handlers went wrong.
    pub(crate) fn check_end(&mut self, calm: bool) {
        for token in 0..self.sent.len() {
            let (done, dead) = (self.done[token], self.dead.get(&token).map_or(0, Vec::len));
            if done + dead == 0 {
                self.violated(
                    "nothing is lost",
                    format!("{token} is neither done nor in a queue"),
                );
            }
            if calm && done + dead != 1 {
                let detail = format!("{token} is {done} times done and {dead} times dead");
                self.violated("without faults everything happens once", detail);
            }
        }
        if calm && self.natives > 0 {
            let detail = format!("SQS moved {} messages", self.natives);
            self.violated("without crashes SQS dead-letters nothing by itself", detail);
        }
    }
}
