//! Who may drive: one tool at a time.

use nix::sys::signal::kill;
use nix::unistd::Pid;
use worker::release::Release;

use crate::journal::{Journal, Owner, Store, StoreError, Version};
use crate::moment::Moment;
use crate::rollout::{Happening, Kind, Revision};

use super::DEAD_AFTER;

/// The right to drive a rollout.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The journal, with this tool as owner.
    pub journal: Journal,
    /// What it was written as.
    pub version: Version,
    /// This tool's id.
    pub owner: String,
    /// Whether the rollout began with this claim.
    pub begun: bool,
}

/// Why a rollout may not be driven.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Another tool does.
    #[error(
        "the rollout of {release} is driven by {owner}, last heard of {seconds} s ago; see `canary status`{hint}",
        hint = if *.dead { ". It does not answer: `canary rollout` or `canary abort` goes on in its place with --take-over" } else { "" }
    )]
    Owned {
        /// Of what.
        release: Release,
        /// Who.
        owner: Owner,
        /// When it last wrote.
        seconds: u64,
        /// Whether that is long enough to take it for dead.
        dead: bool,
    },
    /// A rollout of another release is under way.
    #[error(
        "a rollout of {under_way} is under way ({owner}); `canary abort` takes that release back, `canary rollout --supersede` does so and goes \
         on with {wanted}. A rollback is neither aborted nor superseded: wait for its end, `canary status` says what it waits for"
    )]
    OtherRelease {
        /// What is under way.
        under_way: Release,
        /// What was asked for.
        wanted: Release,
        /// By whom.
        owner: String,
    },
    /// The same release is being rolled out with another configuration.
    #[error(
        "a rollout of {release} with another command or environment is under way: one release is one configuration, and this one has \
         received messages. `canary abort` ends it, or give what differs another release name"
    )]
    OtherConfiguration {
        /// Which.
        release: Release,
    },
    /// There is nothing to go on with.
    #[error("no rollout is under way")]
    Nothing,
    /// The journal cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A random id.
pub(super) fn random_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// This process as an owner.
#[must_use]
pub fn me(now: Moment) -> Owner {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned());
    Owner {
        id: random_id(),
        host,
        pid: std::process::id(),
        heartbeat: now,
    }
}

/// Whether the owner is surely gone: a process of this machine that is not there any more.
fn is_gone(owner: &Owner, me: &Owner) -> bool {
    let here = owner.host == me.host;
    let pid = i32::try_from(owner.pid).ok();
    here && owner.pid != me.pid && pid.is_none_or(|pid| kill(Pid::from_raw(pid), None).is_err())
}

/// Whether somebody drives a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// Nobody: it was left, or whoever drove it is surely gone.
    Nobody,
    /// Somebody does.
    Alive,
    /// Somebody of whom nothing was heard for [`DEAD_AFTER`], and who may be cut off and alive.
    Silent {
        /// Since the last sign of life.
        seconds: u64,
    },
}

/// Whether `owner` drives at `now`, as far as can be told from here.
#[must_use]
pub fn driver(owner: Option<&Owner>, now: Moment) -> Driver {
    let Some(owner) = owner else {
        return Driver::Nobody;
    };
    let silence = now.since(owner.heartbeat);
    if is_gone(owner, &me(now)) {
        Driver::Nobody
    } else if silence >= DEAD_AFTER {
        Driver::Silent {
            seconds: silence.as_secs(),
        }
    } else {
        Driver::Alive
    }
}

/// Claims the rollout that `fresh` would begin: goes on with the one under way if it is the same, or begins it.
///
/// With no `fresh`, whatever is under way. A dead owner is followed at once if it is surely dead, and by `take_over` if it has not been
/// heard of for [`DEAD_AFTER`]. Of two tools that claim at once, one gets [`StoreError::Conflict`].
///
/// # Errors
/// [`ClaimError`]; nothing was changed then.
pub async fn claim(
    store: &impl Store,
    fresh: Option<Journal>,
    me: Owner,
    take_over: bool,
) -> Result<Claim, ClaimError> {
    let now = me.heartbeat;
    let read = store.read().await?;
    // One that has ended and still has an owner was cut off just before it was put away.
    let unfinished = |journal: &Journal| {
        let same = fresh
            .as_ref()
            .is_none_or(|fresh| is_the_same(journal, &fresh.state.candidate, &fresh.state.kind).is_ok());
        journal.state.outcome().is_none() || journal.owner.is_some() && same
    };
    let under_way = read.as_ref().filter(|(journal, _)| unfinished(journal));
    let Some((journal, version)) = under_way else {
        let mut journal = fresh.ok_or(ClaimError::Nothing)?;
        if let Some((before, _)) = &read {
            // The tool that ended it may have died before this.
            let owner = None;
            store
                .archive(&Journal {
                    owner,
                    ..before.clone()
                })
                .await?;
        }
        let owner = me.id.clone();
        journal.owner = Some(me);
        let version = store
            .write(&journal, read.as_ref().map(|(_, version)| version))
            .await?;
        return Ok(Claim {
            journal,
            version,
            owner,
            begun: true,
        });
    };
    let state = &journal.state;
    if let Some(fresh) = &fresh {
        is_the_same(journal, &fresh.state.candidate, &fresh.state.kind)?;
    }
    let mut journal = journal.clone();
    if let Some(owner) = &journal.owner {
        let silence = now.since(owner.heartbeat);
        let dead = silence >= DEAD_AFTER;
        if !(is_gone(owner, &me) || dead && take_over) {
            return Err(ClaimError::Owned {
                release: state.candidate.release.clone(),
                owner: owner.clone(),
                seconds: silence.as_secs(),
                dead,
            });
        }
        let happening = Happening::TakenOver {
            by: me.to_string(),
            from: owner.to_string(),
        };
        journal.tell(now, [happening]);
    }
    let owner = me.id.clone();
    journal.owner = Some(me);
    let version = store.write(&journal, Some(version)).await?;
    Ok(Claim {
        journal,
        version,
        owner,
        begun: false,
    })
}

fn is_the_same(journal: &Journal, wanted: &Revision, kind: &Kind) -> Result<(), ClaimError> {
    let under_way = &journal.state.candidate;
    let same_kind = std::mem::discriminant(kind) == std::mem::discriminant(&journal.state.kind);
    if under_way.release != wanted.release || !same_kind {
        let owner = journal.owner.as_ref();
        return Err(ClaimError::OtherRelease {
            under_way: under_way.release.clone(),
            wanted: wanted.release.clone(),
            owner: owner.map_or_else(|| "nobody drives it now".to_owned(), ToString::to_string),
        });
    }
    if under_way != wanted {
        return Err(ClaimError::OtherConfiguration {
            release: wanted.release.clone(),
        });
    }
    Ok(())
}
