//! `canary rollout` and `canary rollback`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::time::sleep;
use worker::release::Release;

use super::driving::{Errand, drive, drive_here, now};
use super::{ask, differences};
use crate::drive::{self, ClaimError, Driver, End, Manner};
use crate::journal::Journal;
use crate::place::{self, Journals, Processes};
use crate::rollout::{Ask, Kind, Revision};
use crate::settings::{Settings, checked_name};

/// Where the fleet is.
#[derive(Clone, Debug, Args)]
pub(super) struct Place {
    /// The settings of the fleet.
    #[arg(long, value_name = "FILE", default_value = "canary.toml")]
    pub(super) config: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kinds {
    /// Worker processes on this machine.
    Local,
    /// Services of Amazon ECS.
    Ecs,
}

/// Takes a release through its plan: canary, comparison, promotion, bake. Started again, it goes on where it was.
#[derive(Debug, Args)]
pub(super) struct Rollout {
    #[command(flatten)]
    place: Place,
    /// The plan.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// The release to roll out.
    #[arg(long, value_parser = release)]
    release: Release,
    /// What kind of fleet, to be sure: it must be that of the settings.
    #[arg(long, value_enum)]
    fleet: Option<Kinds>,
    /// On ECS: the release's image, REPOSITORY@sha256:DIGEST. The rest of the task definition is that of the stable release.
    #[arg(long, value_name = "IMAGE", conflicts_with = "task_definition")]
    image: Option<String>,
    /// On ECS: a task definition that is registered already, by ARN or as FAMILY:REVISION.
    #[arg(long, value_name = "ARN", conflicts_with = "set")]
    task_definition: Option<String>,
    /// A variable for the workers of this release; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    set: Vec<(String, String)>,
    /// An emergency: to all at once, without a comparison. The reason is written down.
    #[arg(long, value_name = "REASON")]
    skip_canary: Option<String>,
    /// Rolls back the rollout of another release that is under way, then begins.
    #[arg(long)]
    supersede: bool,
    #[command(flatten)]
    driving: Driving,
}

#[derive(Clone, Copy, Debug, Args)]
struct Driving {
    /// Goes on in place of a tool that has not been heard of for 30 s.
    #[arg(long)]
    take_over: bool,
    /// Ends with exit code 4 as soon as the rollout is held, instead of watching it until somebody decides.
    #[arg(long)]
    leave_when_held: bool,
}

/// Puts a release back that was stable before, at once, and sends back what the one it replaces has dead-lettered.
#[derive(Debug, Args)]
pub(super) struct Rollback {
    #[command(flatten)]
    place: Place,
    /// The release to go back to.
    #[arg(long, value_parser = release)]
    to: Release,
    /// Why; it is written down.
    #[arg(long, value_name = "REASON", default_value = "")]
    why: String,
    /// The plan that says whether and how fast dead letters go back; without it they do, at 50 a second.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    driving: Driving,
}

pub(super) fn release(text: &str) -> Result<Release, String> {
    Release::new(text).map_err(|error| error.to_string())
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    checked_name(name).map_err(|error| error.to_string())?;
    Ok((name.to_owned(), value.to_owned()))
}

/// What a rollback goes by when no plan is given: nothing of it but the redrive.
const NO_PLAN: &str =
    "schema = 1\nname = \"rollback\"\ndeadline = \"1h\"\n[[steps]]\nshare = \"10%\"\nleast_time = \"0s\"\n";

impl Rollout {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let settings = Settings::load(&self.place.config)?;
            self.is_of_kind(&settings)?;
            super::read_plan(&self.plan)?;
            let text = std::fs::read_to_string(&self.plan)
                .with_context(|| format!("cannot read the plan {}", self.plan.display()))?;
            let kind = match &self.skip_canary {
                None => Kind::Canary,
                Some(reason) if reason.trim().is_empty() => {
                    bail!("--skip-canary is empty; expected a reason: it is what people will read later")
                }
                Some(reason) => Kind::SkipCanary {
                    reason: reason.clone(),
                },
            };
            if self.supersede {
                supersede(&settings, &self.release, self.driving).await?;
            }
            let revision = self.revision(&settings).await?;
            let fresh = drive::fresh(kind, revision, &text, now());
            begin_anew(&settings, &fresh).await?;
            drive_here(Errand {
                manner: self.driving.manner(&settings),
                settings,
                fresh: Some(fresh),
                take_over: self.driving.take_over,
            })
            .await
        })
    }
}

/// Ends a rollout of the same release that nobody drives, and that is to go on with other settings or another plan than it was begun
/// with, as long as nothing was received: whoever corrects a mistake needs no `abort` for it.
async fn begin_anew(settings: &Settings, fresh: &Journal) -> anyhow::Result<()> {
    let store = Journals::open(settings).await?;
    let Some(journal) = store.under_way().await? else {
        return Ok(());
    };
    let (begun, wanted) = (&journal.state, &fresh.state);
    let nobody = drive::driver(journal.owner.as_ref(), now()) == Driver::Nobody;
    let same = begun.candidate.release == wanted.candidate.release
        && std::mem::discriminant(&begun.kind) == std::mem::discriminant(&wanted.kind);
    if !(nobody && same) {
        return Ok(());
    }
    let settings_differ = differences::of_revisions(&begun.candidate, &wanted.candidate);
    if !begun.is_untouched() {
        // The claim says the rest.
        settings_differ
            .iter()
            .for_each(|keys| eprintln!("other than when the rollout began: {keys}"));
        return Ok(());
    }
    let differ = settings_differ.or_else(|| {
        let keys = differences::of_plans(&journal.plan, &fresh.plan)?;
        Some(format!("the plan ({keys})"))
    });
    let Some(differ) = differ else {
        return Ok(());
    };
    let why = format!("it begins anew: other than before is {differ}");
    eprintln!("{}: {why}; nothing was received yet", begun.candidate.release);
    let ask = Ask::Abort { by: ask::who(), why };
    ask::put(&store, &ask).await?;
    let errand = Errand {
        settings: settings.clone(),
        fresh: None,
        take_over: false,
        manner: Manner {
            pace: place::pace(settings),
            ..Manner::default()
        },
    };
    match drive(errand).await?.end {
        End::Over(_) => Ok(()),
        End::Held | End::Stopped => bail!("stopped before it could begin anew"),
    }
}

impl Rollout {
    fn is_of_kind(&self, settings: &Settings) -> anyhow::Result<()> {
        let wanted = match self.fleet {
            None => return Ok(()),
            Some(Kinds::Local) => "local",
            Some(Kinds::Ecs) => "ecs",
        };
        if settings.kind() != wanted {
            bail!(
                "--fleet is {wanted}, and {} says kind = {:?}; expected the same",
                self.place.config.display(),
                settings.kind()
            );
        }
        Ok(())
    }

    /// What is to be rolled out.
    async fn revision(&self, settings: &Settings) -> anyhow::Result<Revision> {
        #[cfg(feature = "ecs")]
        if settings.ecs.is_some() {
            return self.on_ecs(settings).await;
        }
        if self.image.is_some() || self.task_definition.is_some() {
            bail!(
                "--image and --task-definition are for fleets on ECS; the settings say what a local worker is"
            );
        }
        Ok(settings.revision(self.release.clone(), &self.set))
    }

    #[cfg(feature = "ecs")]
    async fn on_ecs(&self, settings: &Settings) -> anyhow::Result<Revision> {
        use crate::fleet::ecs::Origin;
        let origin = match (&self.image, &self.task_definition) {
            (Some(image), _) => Origin::Image(image.clone(), self.set.iter().cloned().collect()),
            (None, Some(name)) => Origin::TaskDefinition(name.clone()),
            (None, None) => {
                bail!(
                    "on ECS a release is an image or a task definition; expected --image or --task-definition"
                )
            }
        };
        let under_way = Journals::open(settings).await?.under_way().await?;
        if let Some(journal) = &under_way
            && journal.state.candidate.release != self.release
        {
            // Before a revision is registered that nobody will run.
            let owner = journal.owner.as_ref();
            return Err(ClaimError::OtherRelease {
                under_way: journal.state.candidate.release.clone(),
                wanted: self.release.clone(),
                owner: owner.map_or_else(|| "nobody drives it now".to_owned(), ToString::to_string),
            }
            .into());
        }
        let Processes::Ecs(fleet) = Processes::open(settings).await? else {
            bail!("the settings name no fleet on ECS");
        };
        let made = fleet.revision(&self.release, &origin, under_way.as_ref()).await;
        made.map_err(anyhow::Error::msg)
    }
}

impl Driving {
    fn manner(self, settings: &Settings) -> Manner {
        Manner {
            leave_when_held: self.leave_when_held,
            pace: place::pace(settings),
        }
    }
}

/// Rolls back what another release has under way: asks its owner, or does it in place of a dead one.
async fn supersede(settings: &Settings, release: &Release, driving: Driving) -> anyhow::Result<()> {
    let store = Journals::open(settings).await?;
    let other = |journal: &Journal| journal.state.candidate.release != *release;
    let Some(journal) = store.under_way().await?.filter(other) else {
        return Ok(());
    };
    ask::reachable(&journal, driving.take_over)?;
    if let Kind::Restore { .. } = journal.state.kind {
        bail!(
            "refused: {} is being put back, and what it leaves was bad: a rollback is not superseded. After its end roll out {release}; \
             where nobody drives it, `{}` goes on with it",
            journal.state.candidate.release,
            journal.state.goes_on()
        );
    }
    let ask = Ask::Supersede {
        release: release.clone(),
    };
    ask::put(&store, &ask).await?;
    eprintln!(
        "{} is rolled back to make room for {release}",
        journal.state.candidate.release
    );
    // Bounded by the rollback itself, which the owner drives; in place of a dead one it is driven from here.
    loop {
        let errand = Errand {
            settings: settings.clone(),
            fresh: None,
            take_over: driving.take_over,
            manner: Manner {
                pace: place::pace(settings),
                ..Manner::default()
            },
        };
        match drive_here(errand).await {
            Ok(_) => return Ok(()),
            Err(error) => match error.downcast_ref::<ClaimError>() {
                Some(ClaimError::Nothing) => return Ok(()),
                Some(ClaimError::Owned { dead: false, .. }) => sleep(Duration::from_millis(500)).await,
                Some(_) | None => return Err(error),
            },
        }
    }
}

impl Rollback {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        super::block_on(async {
            let settings = Settings::load(&self.place.config)?;
            let store = Journals::open(&settings).await?;
            if let Some(journal) = &store.under_way().await?
                && journal
                    .state
                    .baseline
                    .as_ref()
                    .is_some_and(|baseline| baseline.release == self.to)
                && !matches!(journal.state.kind, Kind::Restore { .. })
            {
                return ask::abort(&settings, &self.why, self.driving.take_over).await;
            }
            let fleet = Processes::open(&settings).await?;
            let known = fleet.known(&self.to, &store).await?;
            let revision = known.with_context(|| {
                format!(
                    "{} has never been stable here; expected a release that `canary history` names",
                    self.to
                )
            })?;
            let text = match &self.plan {
                None => NO_PLAN.to_owned(),
                Some(plan) => {
                    super::read_plan(plan)?;
                    std::fs::read_to_string(plan)?
                }
            };
            let kind = Kind::Restore {
                reason: self.why.clone(),
            };
            let fresh = drive::fresh(kind, revision, &text, now());
            drop(fleet);
            drive_here(Errand {
                manner: self.driving.manner(&settings),
                settings,
                fresh: Some(fresh),
                take_over: self.driving.take_over,
            })
            .await
        })
    }
}
