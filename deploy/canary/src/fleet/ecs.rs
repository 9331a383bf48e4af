//! A fleet on Amazon ECS: two services of one cluster, `APP-stable` and `APP-canary`.
//!
//! A release is a *revision* of the task definition, image by digest: the revision that was tested as canary is the one that
//! becomes stable, to the last setting. ECS runs the tasks and starts again those that end; this module says what each service is to
//! run and looks, every few seconds, at what became of it: tasks, why they stopped, and whether ECS gave a deployment up or took it
//! back by itself.
//!
//! ECS answers from copies that lag behind: what a look shows of a service that was just changed counts only once the deployment
//! that the change began is seen.

mod api;
mod definition;
#[cfg(test)]
pub(crate) mod fake;
mod parameters;
mod preflight;
mod release;
mod room;
mod scaling;
mod subnets;
mod tasks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use tokio::time::Instant;
use worker::clock::Clock;
use worker::control::Tracks;
use worker::release::Release;

use super::{Fleet, FleetError, Service, ServiceView, View};
use crate::moment::Moment;
use crate::rollout::{Count, Facts, Revision};
use api::{Cluster, RolloutState, ServiceState, pages};
use definition::Definition;
use tasks::Watch;

pub use parameters::Names;
use parameters::{Control, Parameters};
pub use release::Origin;
use scaling::Scaling;

/// How often ECS is asked, where [`READS`] allows it.
const LOOK: Duration = Duration::from_secs(3);
/// Calls of `ListTasks` and `DescribeTasks` a second: half of what ECS allows an account in a Region for long. The other half is for
/// everybody else there, another rollout among them.
///
/// Source: "Request throttling for the Amazon ECS API", cluster resource read actions: a bucket of 100, refilled by 20 a second.
const READS: f64 = 10.0;
/// How long ECS may go on showing a service as it was before a change.
const STALE: Duration = Duration::from_secs(60);

/// Where a fleet is, and how it is run.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Name of the application.
    pub app: String,
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the stable service.
    pub stable: String,
    /// Name of the canary service.
    pub canary: String,
    /// The parameters.
    pub names: Names,
    /// Name of the worker's container, where a task has several.
    pub container: String,
    /// The fewest canary tasks; more when its share needs more.
    pub tasks: u32,
    /// The port of the workers' admin endpoint, where this machine can reach the tasks.
    pub admin_port: Option<u16>,
    /// Names of alarms that may be in ALARM when a rollout begins.
    pub ignored_alarms: Vec<String>,
    /// A task definition as `RegisterTaskDefinition` takes it, for the first release.
    pub first: Option<serde_json::Value>,
    /// Whether Application Auto Scaling may move the stable service. Otherwise it is not asked.
    pub autoscaled: bool,
}

/// The fleet.
#[derive(Debug)]
pub struct Ecs {
    options: Options,
    clock: Clock,
    cluster: Cluster,
    parameters: Parameters,
    scaling: Option<Scaling>,
    checks: preflight::Clients,
    /// The largest share of the work that the canary service is to carry, in (0, 1).
    share: f64,
    /// The release that may lose its protection: the one that is rolled back, if it comes to that.
    on_trial: Option<Release>,
    wanted: BTreeMap<Service, Wanted>,
    watch: Watch,
    known: BTreeMap<String, Known>,
    looked: Option<Instant>,
    /// From one look to the next: the more tasks, the longer.
    pause: Duration,
    view: View,
    told: Vec<String>,
    /// What preflight has to tell, until the next look.
    noted: Vec<String>,
    /// Whether autoscaling is known to be held by this process.
    holds: bool,
    /// When this process began to look: older events are old news.
    since: Moment,
}

/// What a service was told.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    task_definition: Option<String>,
    count: Tasks,
    /// The deployment that the change began, until it was seen.
    deployment: Option<(String, Instant)>,
}

/// How many tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tasks {
    /// As autoscaling says.
    OwnNumber,
    /// As its share needs.
    Few,
    /// As many as the stable service.
    Full,
    None,
}

/// What is known of a task definition.
#[derive(Clone, Debug)]
struct Known {
    release: Option<Release>,
    has_health_check: bool,
}

impl Ecs {
    /// The fleet of `options`. Nothing is asked of AWS yet.
    #[must_use]
    pub fn new(config: &SdkConfig, options: Options, clock: Clock) -> Self {
        Self {
            cluster: Cluster::new(config, &options.cluster),
            parameters: Parameters::new(config, options.names.clone()),
            scaling: options
                .autoscaled
                .then(|| Scaling::new(config, &options.cluster, &options.stable)),
            checks: preflight::Clients::new(config),
            share: 0.0,
            on_trial: None,
            wanted: BTreeMap::new(),
            watch: Watch::default(),
            known: BTreeMap::new(),
            looked: None,
            pause: LOOK,
            view: View::default(),
            told: Vec::new(),
            noted: Vec::new(),
            holds: false,
            since: clock.now().into(),
            clock,
            options,
        }
    }

    /// The largest share that the canary service is to carry: its tasks are as many as that needs.
    pub fn set_share(&mut self, share: f64) {
        self.share = share.clamp(0.0, 0.9);
    }

    /// The release whose tasks may be stopped although they have protected themselves: the one on trial.
    pub fn set_on_trial(&mut self, release: Option<Release>) {
        self.on_trial = release;
    }

    fn name(&self, service: Service) -> &str {
        match service {
            Service::Stable => &self.options.stable,
            Service::Canary => &self.options.canary,
        }
    }

    async fn states(&self) -> Result<BTreeMap<Service, ServiceState>, String> {
        let names = [self.options.stable.as_str(), self.options.canary.as_str()];
        let mut found = self.cluster.services(&names).await?;
        let mut states = BTreeMap::new();
        for service in Service::ALL {
            let name = self.name(service);
            let state = found.remove(name).filter(|state| state.status == "ACTIVE");
            let state = state.ok_or_else(|| {
                format!(
                    "the cluster {} has no active service {name}; expected one, see deploy/README.md",
                    self.cluster.name()
                )
            })?;
            states.insert(service, state);
        }
        Ok(states)
    }

    async fn definition(&self, arn: &str) -> Result<Definition, String> {
        Definition::read(self.cluster.definition(arn).await?, &self.options.container)
    }

    async fn known(&mut self, arn: &str) -> Result<Known, String> {
        if let Some(known) = self.known.get(arn) {
            return Ok(known.clone());
        }
        let definition = self.definition(arn).await?;
        let known = Known {
            release: definition.release().ok(),
            has_health_check: definition.has_health_check(),
        };
        self.known.insert(arn.to_owned(), known.clone());
        Ok(known)
    }

    /// Tasks of the canary service that its share needs beside so many stable ones.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share below 0.9 of at most 5,000 tasks"
    )]
    fn few(&self, stable: u32) -> u32 {
        let needed = f64::from(stable) * self.share / (1.0 - self.share);
        // A share of 10 % beside 9 tasks is 1 task, not 2 for the sake of rounding.
        ((needed - 1e-9).ceil() as u32).max(self.options.tasks)
    }

    fn number(&self, count: Tasks, stable: u32) -> Option<u32> {
        match count {
            Tasks::OwnNumber => None,
            Tasks::Few => Some(self.few(stable)),
            Tasks::Full => Some(stable.max(1).max(self.options.tasks)),
            Tasks::None => Some(0),
        }
    }

    /// Makes `service` be as it is wanted, if it is not.
    async fn apply(&mut self, service: Service) -> Result<(), String> {
        let states = self.states().await?;
        let Some(wanted) = self.wanted.get(&service).cloned() else {
            return Ok(());
        };
        let state = &states[&service];
        let number = self.number(wanted.count, states[&Service::Stable].desired);
        let moves = wanted
            .task_definition
            .as_deref()
            .is_some_and(|arn| arn != state.task_definition);
        let counts = number.is_some_and(|number| number != state.desired);
        if !moves && !counts {
            return Ok(());
        }
        if moves || number == Some(0) {
            self.unprotect(service).await?;
        }
        let task_definition = wanted.task_definition.as_deref().filter(|_| moves);
        let after = self
            .cluster
            .update(self.name(service), task_definition, number.filter(|_| counts))
            .await?;
        let begun = after.deployments.iter().find(|deployment| deployment.primary);
        let begun = begun.map(|deployment| (deployment.id.clone(), Instant::now()));
        if let Some(wanted) = self.wanted.get_mut(&service) {
            wanted.deployment = begun.filter(|_| moves).or(wanted.deployment.take());
        }
        self.looked = None;
        Ok(())
    }

    /// Lifts the protection of what is on trial: tasks that are never idle would hold up a rollback for hours.
    ///
    /// What the good release has in hand keeps its protection; ECS waits for it.
    async fn unprotect(&mut self, service: Service) -> Result<(), String> {
        let name = self.name(service).to_owned();
        let mut arns = Vec::new();
        let running = self.cluster.tasks(&name, false).await?;
        for task in self.cluster.described(&running).await? {
            let release = self.known(&task.task_definition).await?.release;
            if service == Service::Canary || release.is_some() && release == self.on_trial {
                arns.push(task.arn);
            }
        }
        self.cluster.unprotect(&arns).await
    }

    async fn tell(&mut self, service: Service, wanted: Wanted) -> Result<(), FleetError> {
        let same = self.wanted.get(&service).is_some_and(|before| {
            before.task_definition == wanted.task_definition && before.count == wanted.count
        });
        if !same {
            self.wanted.insert(service, wanted);
        }
        self.apply(service).await.map_err(FleetError)
    }

    async fn look(&mut self) -> Result<View, String> {
        let states = self.states().await?;
        let (mut started, mut ended, mut notes) = (Vec::new(), Vec::new(), std::mem::take(&mut self.noted));
        let mut views = BTreeMap::new();
        let mut reads = 0;
        for service in Service::ALL {
            let name = self.name(service).to_owned();
            let mut arns = self.cluster.tasks(&name, false).await?;
            let over = self.cluster.tasks(&name, true).await?;
            reads += pages(arns.len()) + pages(over.len());
            arns.extend(self.watch.unknown(over));
            reads += pages(arns.len());
            // Asked for one after the other: a task that moved in between is in both lists.
            let described = self.cluster.described(&arns).await?.into_iter();
            let tasks: BTreeMap<_, _> = described.map(|task| (task.arn.clone(), task)).collect();
            for task in tasks.values() {
                self.known(&task.task_definition).await?;
            }
            let state = &states[&service];
            let release = self.known(&state.task_definition).await?.release;
            let change = self
                .watch
                .look(service, &tasks, &self.known, self.options.admin_port);
            started.extend(change.started);
            ended.extend(change.ended);
            notes.extend(tasks::trouble(state, self.since));
            let view = ServiceView {
                release: release.filter(|_| state.desired > 0 || self.is_wanted(service)),
                desired: state.desired,
                processes: change.processes,
                broken: self.broken(service, state),
                said: None,
            };
            views.insert(service, self.settled(service, state, view));
        }
        self.pause = LOOK.max(Duration::from_secs_f64(reads as f64 / READS));
        self.keep_share(&states).await?;
        notes.retain(|note| !self.told.contains(note));
        self.told.extend(notes.iter().cloned());
        Ok(View {
            stable: views.remove(&Service::Stable).unwrap_or_default(),
            canary: views.remove(&Service::Canary).unwrap_or_default(),
            started,
            ended,
            notes,
        })
    }

    /// Whether a service that has no task is to run something all the same: autoscaling may take the stable one to zero.
    fn is_wanted(&self, service: Service) -> bool {
        let stops = self
            .wanted
            .get(&service)
            .is_some_and(|wanted| wanted.count == Tasks::None);
        service == Service::Stable && !stops
    }

    /// A view in which a change is not to be seen yet says that the service is on its way.
    fn settled(&mut self, service: Service, state: &ServiceState, view: ServiceView) -> ServiceView {
        let Some(wanted) = self.wanted.get_mut(&service) else {
            return view;
        };
        let Some((deployment, since)) = &wanted.deployment else {
            return view;
        };
        let seen = state.deployments.iter().any(|found| found.id == *deployment);
        if seen || since.elapsed() >= STALE {
            wanted.deployment = None;
            return view;
        }
        ServiceView {
            release: None,
            desired: view.desired.max(1),
            broken: None,
            ..view
        }
    }

    /// Why a service will not come to run what it was told: ECS has given the deployment up, or gone back by itself.
    fn broken(&self, service: Service, state: &ServiceState) -> Option<String> {
        let wanted = self.wanted.get(&service)?;
        let arn = wanted.task_definition.as_deref()?;
        let name = self.name(service);
        let failed = state
            .deployments
            .iter()
            .find(|deployment| deployment.task_definition == arn && deployment.state == RolloutState::Failed);
        let reason = failed.map_or_else(String::new, |deployment| {
            format!(
                ": {} ({} tasks failed)",
                deployment.reason, deployment.failed_tasks
            )
        });
        if wanted.count == Tasks::None {
            return None;
        }
        if state.task_definition != arn {
            let now = state.task_definition.rsplit('/').next().unwrap_or_default();
            let then = arn.rsplit('/').next().unwrap_or_default();
            return Some(format!(
                "{name} was told to run {then} and runs {now} again: ECS has rolled it back, or somebody else has changed it{reason}"
            ));
        }
        failed.map(|_| format!("ECS has given up the deployment of {name}{reason}"))
    }

    /// While autoscaling moves the stable service, the canary service follows: otherwise its share would shrink or starve.
    async fn keep_share(&mut self, states: &BTreeMap<Service, ServiceState>) -> Result<(), String> {
        let Some(wanted) = self.wanted.get(&Service::Canary) else {
            return Ok(());
        };
        let moving = matches!(wanted.count, Tasks::Few | Tasks::Full);
        let number = self.number(wanted.count, states[&Service::Stable].desired);
        if moving && wanted.deployment.is_none() && number != Some(states[&Service::Canary].desired) {
            self.apply(Service::Canary).await?;
        }
        Ok(())
    }

    async fn write_control(&mut self, tracks: &Tracks) -> Result<(), String> {
        let before = self.parameters.control().await?;
        let now = self.clock.now().into();
        let held = before.as_ref().and_then(|control| control.scaling);
        if tracks.canary.is_none() {
            return self.let_go(before.as_ref(), tracks).await;
        }
        let held = match (held, &self.scaling) {
            (Some(held), _) => Some(held),
            (None, Some(scaling)) => scaling.now().await?,
            (None, None) => None,
        };
        // Written down first: who comes next must know how it was.
        self.parameters
            .set_control(before.as_ref(), tracks, held, now)
            .await?;
        if let (Some(_), Some(scaling), false) = (held, &self.scaling, self.holds) {
            let stable = self.states().await?[&Service::Stable].desired;
            scaling.hold(stable).await?;
            self.holds = true;
        }
        Ok(())
    }

    /// Says what the tracks may do while nobody drives the rollout: autoscaling is let go, and held again when somebody does.
    pub(crate) async fn release_control(&mut self, tracks: &Tracks) -> Result<(), FleetError> {
        let before = self.parameters.control().await.map_err(FleetError)?;
        self.let_go(before.as_ref(), tracks).await.map_err(FleetError)
    }

    /// Writes the control document, puts autoscaling back, and only then forgets how it was.
    async fn let_go(&mut self, before: Option<&Control>, tracks: &Tracks) -> Result<(), String> {
        let now = self.clock.now().into();
        let held = before.and_then(|control| control.scaling);
        let written = self.parameters.set_control(before, tracks, held, now).await?;
        if let (Some(held), Some(scaling)) = (held, &self.scaling) {
            scaling.restore(held).await?;
            let written = Some(&written);
            self.parameters.set_control(written, tracks, None, now).await?;
        }
        self.holds = false;
        Ok(())
    }

    /// Whether a service is told to run `revision`, and no task of another runs on it.
    pub(crate) async fn runs(&self, service: Service, revision: &Revision) -> Result<bool, FleetError> {
        let wanted = arn(revision)?;
        let all = async {
            let states = self.states().await?;
            let arns = self.cluster.tasks(self.name(service), false).await?;
            let tasks = self.cluster.described(&arns).await?;
            let only = tasks.iter().all(|task| task.task_definition == wanted);
            Ok::<_, String>(states[&service].task_definition == wanted && only)
        };
        all.await.map_err(FleetError)
    }
}

/// The ARN of a revision that runs on ECS.
fn arn(revision: &Revision) -> Result<&str, FleetError> {
    match &revision.definition {
        crate::rollout::Definition::Ecs { task_definition, .. } => Ok(task_definition),
        crate::rollout::Definition::Local { .. } => Err(FleetError(format!(
            "{} is a revision of a local fleet, and this fleet is on ECS",
            revision.release
        ))),
    }
}

impl Fleet for Ecs {
    async fn check(&mut self, candidate: &Revision) -> Result<Facts, String> {
        self.preflight(candidate).await
    }

    async fn observe(&mut self) -> Result<View, FleetError> {
        if self.looked.is_some_and(|looked| looked.elapsed() < self.pause) {
            // What came and went was told once.
            return Ok(View {
                started: Vec::new(),
                ended: Vec::new(),
                notes: Vec::new(),
                ..self.view.clone()
            });
        }
        let view = self.look().await.map_err(FleetError)?;
        self.view = view.clone();
        self.looked = Some(Instant::now());
        Ok(view)
    }

    async fn run(&mut self, service: Service, revision: &Revision, count: Count) -> Result<(), FleetError> {
        let wanted = Wanted {
            task_definition: Some(arn(revision)?.to_owned()),
            count: match (service, count) {
                (Service::Stable, _) => Tasks::OwnNumber,
                (Service::Canary, Count::Few) => Tasks::Few,
                (Service::Canary, Count::Full) => Tasks::Full,
            },
            deployment: None,
        };
        self.tell(service, wanted).await
    }

    async fn stop(&mut self, service: Service) -> Result<(), FleetError> {
        let wanted = Wanted {
            task_definition: None,
            count: Tasks::None,
            deployment: None,
        };
        self.tell(service, wanted).await
    }

    async fn control(&mut self, tracks: &Tracks) -> Result<(), FleetError> {
        self.write_control(tracks).await.map_err(FleetError)
    }

    async fn record(&mut self, revision: Option<&Revision>) -> Result<(), FleetError> {
        let arn = revision.map(arn).transpose()?;
        self.parameters.set_stable(arn).await.map_err(FleetError)
    }
}
