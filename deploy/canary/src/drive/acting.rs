//! What a tool does: the actions of the state machine, and the control document.

use tokio::time::Instant;
use worker::control::share;

use super::{AGAIN, Drive, DriveError, Observer, Redriver, Redriving, Source, control};
use crate::fleet::{Fleet, Service};
use crate::journal::Store;
use crate::rollout::{Action, Count, Happening, Phase, State};

impl<S: Store, F: Fleet, E: Source, R: Redriver, O: Observer> Drive<S, F, E, R, O> {
    /// Carries actions out. What does not work stays pending.
    pub(super) async fn act(&mut self, actions: Vec<Action>) -> Result<(), DriveError> {
        for action in actions {
            let done = match &action {
                // Done by `look`, as long as it is to be done.
                Action::Check => Ok(()),
                Action::Limit { .. } => {
                    self.tracks = None;
                    self.steer().await?;
                    Ok(())
                }
                Action::RunCanary { revision, count } => {
                    self.fleet.run(Service::Canary, revision, *count).await
                }
                Action::StopCanary => self.fleet.stop(Service::Canary).await,
                Action::RunStable { revision } => {
                    self.fleet.run(Service::Stable, revision, Count::Full).await
                }
                Action::StopStable => self.fleet.stop(Service::Stable).await,
                Action::Record { revision } => self.fleet.record(revision.as_ref()).await,
                Action::Redrive { release } => {
                    let rate = self.course.plan.redrive.rate;
                    self.redriving = Some(self.redriver.redrive(release.clone(), rate));
                    Ok(())
                }
            };
            if let Err(error) = done {
                self.pending.push(action);
                self.due.again = Instant::now() + AGAIN;
                self.trouble(error.0).await?;
            }
        }
        Ok(())
    }

    /// Notes what did not work, once for as long as it stays the same.
    pub(super) async fn trouble(&mut self, text: String) -> Result<(), DriveError> {
        let happening = Happening::Trouble { text };
        let last = self.journal.timeline.last().map(|entry| &entry.happening);
        if last == Some(&happening) {
            return Ok(());
        }
        self.write_down(vec![happening]).await
    }

    /// Writes the control document when what the tracks may do has changed.
    pub(super) async fn steer(&mut self) -> Result<(), DriveError> {
        let state: &State = &self.journal.state;
        if matches!(state.phase, Phase::Preflight) {
            return Ok(());
        }
        let wanted = control::tracks(
            &self.course,
            state,
            &self.collector,
            &self.journal.measured,
            self.now(),
        );
        let early = Instant::now() < self.due.review;
        if self.tracks.as_ref().is_some_and(|tracks| {
            control::is_same(tracks, &wanted) || early && control::can_wait(tracks, &wanted)
        }) {
            return Ok(());
        }
        match self.fleet.control(&wanted).await {
            Ok(()) => {
                self.tracks = Some(wanted);
                self.due.review = Instant::now() + share::REVIEW;
                Ok(())
            }
            Err(error) => self.trouble(error.0).await,
        }
    }
}

/// The end of a redrive that is under way; for ever pending when there is none.
pub(super) async fn redriven(redriving: &mut Option<Redriving>) -> Result<String, String> {
    let Some(under_way) = redriving else {
        return std::future::pending().await;
    };
    let result = under_way.await;
    *redriving = None;
    result
}
