//! Makes a rollout safe when the tool that drove it is gone.
//!
//! Called on an alarm of the application, when the build in which the tool ran has stopped, when ECS gives a deployment up, and every
//! few minutes by the clock. It looks at the journal first: while the tool lives, the tool decides. When nobody has written for
//! [`STALE`], it goes by the phase.
//!
//! | Phase | Without harm | With harm |
//! |---|---|---|
//! | Before promotion | The canary is paused and scaled to zero | The same, and the rollout is to be rolled back |
//! | From promotion on | People are told; nothing is moved | The old release goes back to the stable service; the canary service, once it runs the old release, carries the work meanwhile |
//! | In a rollback | The rollback's next deed is done | The same |
//! | Over, and not put away | Autoscaling and control are put back | The same |
//!
//! Never is the good release scaled down. Each call does what is to be done now and ends; a call repeated changes nothing more. The
//! rollout itself stays where it was, with nobody as its owner and, with harm, an abort as its first request: the next `canary
//! rollout` or `canary abort` brings it to its end in order.

#[cfg(feature = "lambda")]
pub mod function;
mod harm;

use std::time::Duration;

use aws_config::SdkConfig;
use serde::Serialize;
use worker::clock::Clock;
use worker::control::{TrackControl, Tracks};

use crate::drive::request;
use crate::fleet::ecs::{Ecs, Options};
use crate::fleet::{Fleet as _, FleetError, Service};
use crate::journal::{Journal, S3Store, Store, StoreError, Version};
use crate::moment::Moment;
use crate::rollout::{Ask, Count, Happening, Phase, Revision, State, Undoing};

pub use harm::{Harm, of_event};

/// Without a sign of life for so long, the tool counts as gone.
pub const STALE: Duration = Duration::from_secs(90);
/// When the build in which it ran has stopped, so long is enough.
pub const STOPPED: Duration = Duration::from_secs(25);
/// Who the watchdog is, in journals.
const NAME: &str = "the watchdog";
/// Tries to write what a person's request comes between.
const TRIES: usize = 5;

/// Why a watchdog could not do its work. It is called again.
#[derive(Debug, thiserror::Error)]
pub enum WatchdogError {
    /// The journal cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// AWS refused.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The alarms cannot be read.
    #[error("{0}")]
    Alarms(String),
}

/// What the watchdog did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "deed", rename_all = "snake_case")]
pub enum Deed {
    /// Nothing was to be done.
    Nothing {
        /// Why.
        why: String,
    },
    /// People are told; nothing is moved.
    Alerted,
    /// The canary is paused and scaled to zero.
    Removed,
    /// The old release is on its way back to the stable service.
    Restoring {
        /// Whether the canary service runs it already, and carries the work.
        control: bool,
    },
    /// Autoscaling and the control document are as before the rollout.
    PutAway,
}

/// A watchdog.
#[derive(Debug)]
pub struct Watchdog {
    store: S3Store,
    fleet: Ecs,
    alarms: harm::Alarms,
    clock: Clock,
}

/// What a call found and did.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The rollout's id; none where there never was one.
    pub rollout: Option<String>,
    /// What was done.
    #[serde(flatten)]
    pub deed: Deed,
    /// What people are to be told: each once.
    pub note: Option<String>,
}

impl Watchdog {
    /// The watchdog of a fleet and its journal.
    #[must_use]
    pub fn new(config: &SdkConfig, options: Options, store: S3Store, clock: Clock) -> Self {
        Self {
            store,
            alarms: harm::Alarms::new(config, &options.app),
            fleet: Ecs::new(config, options, clock),
            clock,
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    /// Looks, and does what is to be done. `called` is what the event says by itself.
    ///
    /// # Errors
    /// When AWS refuses or cannot be reached: what was done so far stands, and the next call goes on.
    pub async fn look(&mut self, called: &Harm) -> Result<Outcome, WatchdogError> {
        let Some((journal, version)) = self.store.read().await? else {
            return Ok(nothing(None, "there was no rollout yet"));
        };
        let id = Some(journal.rollout.clone());
        let over = journal.state.outcome().is_some();
        if over && journal.owner.is_none() {
            return Ok(nothing(id, "no rollout is under way"));
        }
        let patience = if called.build_stopped { STOPPED } else { STALE };
        if let Some(owner) = &journal.owner {
            let silence = self.now().since(owner.heartbeat);
            if silence < patience {
                let why = format!("{owner} drives it, last heard of {} s ago", silence.as_secs());
                return Ok(nothing(id, &why));
            }
        }
        let harm = called.and(self.alarms.ask().await.map_err(WatchdogError::Alarms)?);
        let plan = plan(&journal.state, &harm);
        let note = self.write_down(journal.clone(), version, &plan, &harm).await?;
        let Some(note) = note else {
            return Ok(nothing(id, "the tool has come back"));
        };
        let deed = self.act(&journal.state, plan).await?;
        Ok(Outcome {
            rollout: id,
            deed,
            note: note.filter(|text| !text.is_empty()),
        })
    }

    /// Writes down that nobody drives, and what is to be asked of whoever comes next; before anything is done.
    ///
    /// None when the tool has written meanwhile; else what people are to be told, if it is news.
    async fn write_down(
        &self,
        mut journal: Journal,
        mut version: Version,
        plan: &Plan,
        harm: &Harm,
    ) -> Result<Option<Option<String>>, WatchdogError> {
        for _ in 0..TRIES {
            let before = journal.clone();
            let text = words(&journal, plan, harm);
            let told = journal
                .timeline
                .iter()
                .any(|entry| matches!(&entry.happening, Happening::Trouble { text: told } if *told == text));
            journal.owner = None;
            if !told {
                journal.tell(self.now(), [Happening::Trouble { text: text.clone() }]);
            }
            let asked = journal
                .requests
                .iter()
                .any(|request| matches!(&request.ask, Ask::Abort { by, .. } if by == NAME));
            if plan.aborts && !asked {
                let ask = Ask::Abort {
                    by: NAME.to_owned(),
                    why: harm.to_string(),
                };
                journal.requests.push(request(ask, self.now()));
            }
            let news = (!told).then_some(text);
            if journal == before {
                return Ok(Some(news));
            }
            match self.store.write(&journal, Some(&version)).await {
                Ok(_) => return Ok(Some(news)),
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
            // A person's request, or the tool itself.
            let Some((again, newer)) = self.store.read().await? else {
                return Ok(None);
            };
            let heartbeat = |journal: &Journal| journal.owner.as_ref().map(|owner| owner.heartbeat);
            if heartbeat(&again) != heartbeat(&before) || again.state != before.state {
                return Ok(None);
            }
            (journal, version) = (again, newer);
        }
        Err(StoreError::Conflict.into())
    }

    async fn act(&mut self, state: &State, plan: Plan) -> Result<Deed, WatchdogError> {
        self.fleet.set_on_trial(state.abandoned().cloned());
        match plan.deed {
            Todo::Tell => Ok(Deed::Alerted),
            Todo::Remove => {
                // Paused first: heard within seconds, while tasks take their time to stop.
                self.fleet.release_control(&shut()).await?;
                self.fleet.stop(Service::Canary).await?;
                Ok(Deed::Removed)
            }
            Todo::Restore(baseline) => {
                let control = self.fleet.runs(Service::Canary, &baseline).await?;
                self.fleet.control(&if control { open() } else { shut() }).await?;
                self.fleet.record(Some(&baseline)).await?;
                self.fleet.run(Service::Canary, &baseline, Count::Full).await?;
                self.fleet.run(Service::Stable, &baseline, Count::Full).await?;
                Ok(Deed::Restoring { control })
            }
            Todo::PutAway => {
                self.fleet.control(&Tracks::default()).await?;
                Ok(Deed::PutAway)
            }
        }
    }
}

fn nothing(rollout: Option<String>, why: &str) -> Outcome {
    Outcome {
        rollout,
        deed: Deed::Nothing { why: why.to_owned() },
        note: None,
    }
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    deed: Todo,
    /// Whether the rollout is to be rolled back by whoever drives it next.
    aborts: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Todo {
    Tell,
    Remove,
    Restore(Revision),
    PutAway,
}

/// Goes by the phase. Pure.
fn plan(state: &State, harm: &Harm) -> Plan {
    let only = |deed| Plan { deed, aborts: false };
    let restore = |deed: Todo| match (&state.baseline, state.is_restore()) {
        (Some(baseline), false) => Todo::Restore(baseline.clone()),
        // Nothing ran before, or what ran before is what is being left: there is no better release to go to.
        (None, _) | (Some(_), true) => deed,
    };
    match &state.phase {
        Phase::Preflight => only(Todo::Tell),
        Phase::Deploying { .. } | Phase::Step { .. } => Plan {
            deed: Todo::Remove,
            aborts: harm.canary || harm.stable,
        },
        Phase::Promoting { .. }
        | Phase::Controlling { .. }
        | Phase::Baking { .. }
        | Phase::Settling { .. } => {
            // Until all of stable runs the new release, an alarm of the canary speaks of that release too.
            let promoting = matches!(state.phase, Phase::Promoting { .. });
            let harmed = harm.stable || promoting && harm.canary;
            Plan {
                deed: if harmed { restore(Todo::Tell) } else { Todo::Tell },
                aborts: harmed && !state.is_restore(),
            }
        }
        Phase::RollingBack { undoing, .. } => only(match undoing {
            Undoing::Restore { .. } => restore(Todo::Tell),
            Undoing::Remove => Todo::Remove,
            Undoing::Redrive => Todo::Tell,
        }),
        Phase::Ended { .. } => only(Todo::PutAway),
    }
}

fn words(journal: &Journal, plan: &Plan, harm: &Harm) -> String {
    let done = match &plan.deed {
        Todo::Tell => "nothing is moved; `canary rollout` goes on with it, `canary abort` ends it".to_owned(),
        Todo::Remove => "the canary is paused and scaled to zero".to_owned(),
        Todo::Restore(baseline) => format!("{} goes back to the stable service", baseline.release),
        Todo::PutAway => "autoscaling and control are put back".to_owned(),
    };
    let why = if harm.is_any() {
        format!(", and {harm}")
    } else {
        String::new()
    };
    let release = &journal.state.candidate.release;
    format!("{NAME}: nobody drives the rollout of {release} any more{why}: {done}")
}

fn shut() -> Tracks {
    tracks(TrackControl {
        max_per_second: Some(0.0),
        paused: true,
        ..TrackControl::default()
    })
}

fn open() -> Tracks {
    tracks(TrackControl {
        // It runs the good release, which does not stop itself, and whose failures are its own.
        max_failure_rate: Some(1.0),
        handover: Some(false),
        ..TrackControl::default()
    })
}

fn tracks(canary: TrackControl) -> Tracks {
    Tracks {
        canary: Some(canary),
        stable: Some(TrackControl::default()),
    }
}
