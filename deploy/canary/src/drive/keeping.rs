//! What a tool writes and reads: its journal, in which people ask for things meanwhile.

use tokio::time::{Instant, sleep};

use super::{AGAIN, Drive, DriveError, OUTAGE, Observer, REQUESTS_HOLD, Redriver, Source};
use crate::fleet::Fleet;
use crate::journal::{Journal, Request, Store, StoreError};
use crate::moment::Moment;
use crate::rollout::{Ask, Event, Happening, Transition, step};

impl<S: Store, F: Fleet, E: Source, R: Redriver, O: Observer> Drive<S, F, E, R, O> {
    /// Follows what people have asked for, in the order in which they did.
    pub(super) async fn answer_requests(&mut self) -> Result<(), DriveError> {
        self.refresh().await?;
        // Bounded by what is there now; each is taken off as it is answered.
        for request in self.journal.requests.clone() {
            let now = self.now();
            let transition = match late(&request, now) {
                None => step(&self.course, &self.journal.state, now, &Event::Asked(request.ask)),
                refused => Transition {
                    state: self.journal.state.clone(),
                    actions: Vec::new(),
                    happened: Vec::new(),
                    refused,
                },
            };
            self.follow(transition, Some(request.id)).await?;
        }
        Ok(())
    }

    /// Reads what others have written: their requests, or that this tool does not own the rollout any more.
    async fn refresh(&mut self) -> Result<(), DriveError> {
        let mut tries = 0;
        let read = loop {
            match self.store.read().await {
                Err(StoreError::Unreachable(_)) if tries < OUTAGE => tries += 1,
                read => break read?,
            }
            sleep(AGAIN).await;
        };
        let Some((journal, version)) = read else {
            return Err(DriveError::Lost("the journal is gone".to_owned()));
        };
        if version == self.version {
            return Ok(());
        }
        match &journal.owner {
            Some(owner) if owner.id == self.owner && journal.rollout == self.journal.rollout => {}
            Some(owner) => return Err(DriveError::Lost(owner.to_string())),
            // It was left, and the answer to that was lost.
            None if self.journal.owner.is_none() && journal.rollout == self.journal.rollout => {}
            None => return Err(DriveError::Lost("nobody owns it".to_owned())),
        }
        self.journal.requests = journal.requests;
        self.version = version;
        Ok(())
    }

    /// Writes everything down with what happened.
    pub(super) async fn write_down(&mut self, happened: Vec<Happening>) -> Result<(), DriveError> {
        let now = self.now();
        if let Some(owner) = &mut self.journal.owner {
            owner.heartbeat = now;
        }
        self.journal.evidence = self.collector.checkpoint().clone();
        let first = happened.len();
        self.journal.tell(now, happened);
        self.save().await?;
        self.due.beat = Instant::now() + self.pace.beat;
        let from = self.journal.timeline.len().saturating_sub(first);
        for entry in &self.journal.timeline[from..] {
            self.observer.happened(entry, &self.journal);
        }
        self.observer.looked(&self.journal);
        Ok(())
    }

    async fn save(&mut self) -> Result<(), DriveError> {
        // Somebody who asks for something may come between, again and again, but not for ever.
        for _ in 0..OUTAGE {
            match self.store.write(&self.journal, Some(&self.version)).await {
                Ok(version) => {
                    self.version = version;
                    return Ok(());
                }
                Err(StoreError::Conflict) => self.refresh_before_writing().await?,
                // Whether it was written is not known: read, then written once more.
                Err(StoreError::Unreachable(_)) => {
                    sleep(AGAIN).await;
                    self.refresh_before_writing().await?;
                }
                Err(error @ StoreError::Broken(_)) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// What was answered is not asked for any more, though the journal that was read still says so.
    async fn refresh_before_writing(&mut self) -> Result<(), DriveError> {
        self.refresh().await?;
        let answers = &self.journal.answers;
        self.journal
            .requests
            .retain(|request| answers.iter().all(|answer| answer.id != request.id));
        Ok(())
    }

    /// Leaves the rollout to whoever comes next.
    pub(super) async fn leave(&mut self) -> Result<(), DriveError> {
        self.journal.owner = None;
        self.journal.evidence = self.collector.checkpoint().clone();
        self.save().await
    }

    pub(super) async fn finish(&mut self) -> Result<(), DriveError> {
        // The tool before may have died between its last word and this.
        self.steer().await?;
        let owner = None;
        let journal = Journal {
            owner,
            ..self.journal.clone()
        };
        self.store.archive(&journal).await?;
        self.leave().await
    }
}

/// Why a request is not followed any more, if it came while nobody drove: whoever asked has gone, and the rollout has gone on since.
///
/// What takes a release back holds for ever: it can be unwelcome, but not unsafe.
fn late(request: &Request, now: Moment) -> Option<String> {
    let age = now.since(request.at);
    match request.ask {
        Ask::Pause { .. } | Ask::Resume { .. } | Ask::Promote { .. } if age >= REQUESTS_HOLD => {
            Some(format!(
                "it was asked {} s ago, when no tool answered; ask again",
                age.as_secs()
            ))
        }
        Ask::Pause { .. }
        | Ask::Resume { .. }
        | Ask::Promote { .. }
        | Ask::Abort { .. }
        | Ask::Supersede { .. } => None,
    }
}
