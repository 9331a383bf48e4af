//! Where a rollout takes place: on this machine or on AWS, with the journal, the fleet and the counts that belong there.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use worker::clock::Clock;
use worker::control::Tracks;
use worker::evidence::Report;
use worker::release::Release;

use crate::drive::{Observer, Pace, Scrape, Source};
use crate::fleet::local::Local;
use crate::fleet::{Fleet, FleetError, Service, View};
use crate::journal::{FileStore, Journal, Store, StoreError, Version};
use crate::rollout::{Count, Facts, Revision, State};
use crate::settings::Settings;

#[cfg(feature = "ecs")]
use crate::{
    evidence::cloudwatch::CloudWatch,
    fleet::ecs::Ecs,
    journal::S3Store,
    plan::Plan,
    settings::{Counting, Metrics, OnEcs},
};

/// Where journals are kept.
#[derive(Clone, Debug)]
pub enum Journals {
    /// In a directory of this machine.
    File(FileStore),
    /// In a bucket.
    #[cfg(feature = "ecs")]
    S3(S3Store),
}

/// The processes.
#[derive(Debug)]
pub enum Processes {
    /// Of this machine.
    Local(Box<Local>),
    /// Tasks of Amazon ECS.
    #[cfg(feature = "ecs")]
    Ecs(Box<Ecs>),
}

/// Who counts.
#[derive(Debug)]
pub enum Counts {
    /// The processes themselves, asked over HTTP.
    Scrape(Scrape),
    /// CloudWatch.
    #[cfg(feature = "ecs")]
    CloudWatch(Box<CloudWatch>),
}

impl Journals {
    /// Those of `settings`.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        #[cfg(feature = "ecs")]
        if let Some(ecs) = &settings.ecs {
            let config = crate::aws::from_environment().await;
            return Ok(Self::S3(S3Store::new(&config, &ecs.journal)?));
        }
        let directory = &settings.directory;
        let store = FileStore::open(directory);
        Ok(Self::File(store.with_context(|| {
            format!("cannot use {}", directory.display())
        })?))
    }

    /// The rollout under way, if there is one.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn under_way(&self) -> Result<Option<Journal>, StoreError> {
        let read = self.read().await?.map(|(journal, _)| journal);
        Ok(read.filter(|journal| journal.state.outcome().is_none()))
    }
}

impl fmt::Display for Journals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(store) => write!(formatter, "{}", store.path().display()),
            #[cfg(feature = "ecs")]
            Self::S3(store) => formatter.write_str(&store.place()),
        }
    }
}

impl Store for Journals {
    async fn read(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        match self {
            Self::File(store) => store.read().await,
            #[cfg(feature = "ecs")]
            Self::S3(store) => store.read().await,
        }
    }

    async fn write(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        match self {
            Self::File(store) => store.write(journal, expected).await,
            #[cfg(feature = "ecs")]
            Self::S3(store) => store.write(journal, expected).await,
        }
    }

    async fn archive(&self, journal: &Journal) -> Result<(), StoreError> {
        match self {
            Self::File(store) => store.archive(journal).await,
            #[cfg(feature = "ecs")]
            Self::S3(store) => store.archive(journal).await,
        }
    }

    async fn history(&self) -> Result<Vec<Journal>, StoreError> {
        match self {
            Self::File(store) => store.history().await,
            #[cfg(feature = "ecs")]
            Self::S3(store) => store.history().await,
        }
    }
}

/// How often things are done there.
#[must_use]
pub fn pace(settings: &Settings) -> Pace {
    #[cfg(feature = "ecs")]
    if settings.ecs.is_some() {
        return Pace::REMOTE;
    }
    let _ = settings;
    Pace::default()
}

/// The publisher of a rollout's metrics, where there is one.
#[derive(Debug, Default)]
pub struct Published(#[cfg(feature = "ecs")] Option<crate::cloudwatch::Publisher>);

impl Published {
    /// Waits until it is done, for at most `limit`.
    pub async fn close(self, limit: Duration) {
        #[cfg(feature = "ecs")]
        if let Some(publisher) = self.0 {
            publisher.close(limit).await;
        }
        #[cfg(not(feature = "ecs"))]
        let _ = limit;
    }
}

/// Starts to publish how the rollout stands, where the settings say so: what it needs is put among `observers`.
pub async fn publish(settings: &Settings, observers: &mut Vec<Box<dyn Observer>>) -> Published {
    #[cfg(feature = "ecs")]
    if let Some(ecs) = &settings.ecs
        && ecs.metrics == Metrics::CloudWatch
    {
        let config = crate::aws::from_environment().await;
        let (publisher, meter) = crate::cloudwatch::Publisher::start(&config, &ecs.options.app);
        observers.push(Box::new(meter));
        return Published(Some(publisher));
    }
    let _ = (settings, observers);
    Published::default()
}

impl Processes {
    /// Those of `settings`, as they are.
    ///
    /// # Errors
    /// When the record of a local fleet cannot be read.
    pub async fn open(settings: &Settings) -> anyhow::Result<Self> {
        #[cfg(feature = "ecs")]
        if let Some(ecs) = &settings.ecs {
            let config = crate::aws::from_environment().await;
            let fleet = Ecs::new(&config, ecs.options.clone(), Clock::System);
            return Ok(Self::Ecs(Box::new(fleet)));
        }
        let local = Local::open(settings.options(), Clock::System)?;
        Ok(Self::Local(Box::new(local)))
    }

    /// Prepares them for the rollout that `journal` tells of.
    pub fn prepare(&mut self, state: &State, plan: &crate::plan::Plan) {
        match self {
            Self::Local(fleet) => {
                let _ = plan;
                fleet.set_kind(state.kind.clone());
            }
            #[cfg(feature = "ecs")]
            Self::Ecs(fleet) => {
                use crate::rollout::Kind;

                let shares = plan.steps.iter().map(|step| step.share);
                // What goes to all at once has no canary that there must be room for.
                let share = match state.kind {
                    Kind::Canary => shares.fold(plan.bake.share, f64::max),
                    Kind::SkipCanary { .. } | Kind::Restore { .. } => 0.0,
                };
                fleet.set_share(share);
                fleet.set_on_trial(state.abandoned().cloned());
            }
        }
    }

    /// A revision that was stable before.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn known(
        &self,
        release: &Release,
        journals: &Journals,
    ) -> Result<Option<Revision>, StoreError> {
        match self {
            Self::Local(local) => Ok(local.known(release).cloned()),
            #[cfg(feature = "ecs")]
            Self::Ecs(_) => {
                let mut journals = journals.history().await?.into_iter().rev();
                Ok(journals.find_map(|journal| was_stable(&journal.state, release)))
            }
        }
    }
}

/// The revision of `release`, if the rollout of `state` says that it was stable.
#[cfg(feature = "ecs")]
fn was_stable(state: &State, release: &Release) -> Option<Revision> {
    use crate::rollout::Outcome;
    let promoted = matches!(state.outcome(), Some(Outcome::Promoted | Outcome::Restored));
    let candidate = Some(&state.candidate).filter(|_| promoted);
    let mut stable = candidate.into_iter().chain(&state.baseline);
    stable.find(|revision| revision.release == *release).cloned()
}

/// Passes a call on to whichever fleet it is.
macro_rules! pass {
    ($self:ident, $fleet:ident => $call:expr) => {
        match $self {
            Processes::Local($fleet) => $call,
            #[cfg(feature = "ecs")]
            Processes::Ecs($fleet) => $call,
        }
    };
}

impl Fleet for Processes {
    async fn check(&mut self, candidate: &Revision) -> Result<Facts, String> {
        pass!(self, fleet => fleet.check(candidate).await)
    }

    async fn observe(&mut self) -> Result<View, FleetError> {
        pass!(self, fleet => fleet.observe().await)
    }

    async fn run(&mut self, service: Service, revision: &Revision, count: Count) -> Result<(), FleetError> {
        pass!(self, fleet => fleet.run(service, revision, count).await)
    }

    async fn stop(&mut self, service: Service) -> Result<(), FleetError> {
        pass!(self, fleet => fleet.stop(service).await)
    }

    async fn control(&mut self, tracks: &Tracks) -> Result<(), FleetError> {
        pass!(self, fleet => fleet.control(tracks).await)
    }

    async fn record(&mut self, revision: Option<&Revision>) -> Result<(), FleetError> {
        pass!(self, fleet => fleet.record(revision).await)
    }
}

impl Counts {
    /// Those of `settings`, for the rollout of `state` by `plan`.
    ///
    /// # Errors
    /// When the workers' deadline is no time.
    pub async fn open(settings: &Settings, state: &State, plan: &crate::plan::Plan) -> anyhow::Result<Self> {
        #[cfg(feature = "ecs")]
        if let Some(ecs) = &settings.ecs
            && ecs.counting == Counting::CloudWatch
        {
            let counts = from_cloudwatch(ecs, state, plan).await?;
            return Ok(Self::CloudWatch(Box::new(counts)));
        }
        let _ = (settings, state, plan);
        Ok(Self::Scrape(Scrape))
    }
}

#[cfg(feature = "ecs")]
async fn from_cloudwatch(ecs: &OnEcs, state: &State, plan: &Plan) -> anyhow::Result<CloudWatch> {
    use std::collections::BTreeMap;

    use crate::judge::rules::Kind;

    /// The worker's own, unless it is set.
    const DEADLINE: Duration = Duration::from_secs(30);
    let set = state
        .candidate
        .definition
        .environment()
        .get("WORKER__HANDLER__DEADLINE");
    let deadline = match set {
        None => DEADLINE,
        Some(text) => humantime::parse_duration(text).with_context(|| {
            format!(
                "WORKER__HANDLER__DEADLINE of {} is {text:?}, expected a time, as 30s",
                state.candidate.release
            )
        })?,
    };
    let signals = plan.rules.signals.iter().filter_map(|signal| match &signal.kind {
        Kind::Quality { question } => Some(question.clone()),
        Kind::Failures | Kind::Slow { .. } => None,
    });
    let names = BTreeMap::from([
        (Service::Stable, ecs.options.stable.clone()),
        (Service::Canary, ecs.options.canary.clone()),
    ]);
    let config = crate::aws::from_environment().await;
    Ok(CloudWatch::new(
        &config,
        names,
        deadline,
        signals.collect(),
        Clock::System,
    ))
}

impl Source for Counts {
    async fn ask(&self, view: &View, since: u64) -> Vec<(String, Result<Report, String>)> {
        match self {
            Self::Scrape(scrape) => scrape.ask(view, since).await,
            #[cfg(feature = "ecs")]
            Self::CloudWatch(counts) => counts.ask(view, since).await,
        }
    }

    fn is_by_process(&self) -> bool {
        match self {
            Self::Scrape(scrape) => scrape.is_by_process(),
            #[cfg(feature = "ecs")]
            Self::CloudWatch(counts) => counts.is_by_process(),
        }
    }
}
