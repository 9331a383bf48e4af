//! AWS on tokio's clock, as far as a rollout calls it, behind the SDKs' own HTTP clients: requests and answers as on the wire.
//!
//! ECS as it behaves: tasks take their time, a rolling update waits for healthy successors, the circuit breaker gives up after three
//! failed tasks, answers lag behind changes, protected tasks are not stopped, and any call may be throttled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_ecs::config::{Credentials, Region};
use aws_smithy_runtime_api::client::http::{SharedHttpConnector, http_client_fn};
use serde_json::{Value, json};
use worker::clock::Clock;
use worker::control::Document;
use worker::evidence::{Failed, Report, State, Totals, Window};
use worker::queue::{Description, RedrivePolicy};
use worker::release::{Release, Track};

use self::wire::Wire;
use super::definition::Definition;
use crate::drive::Source;
use crate::fleet::View;
use crate::moment::Moment;

mod wire;

pub(crate) const STABLE: &str = "orders-stable";
pub(crate) const CANARY: &str = "orders-canary";
pub(crate) const PINNED: &str = "/orders/canary/stable-task-definition";
pub(crate) const CONTROL: &str = "/orders/canary/control";
/// Messages a second that each task finishes.
const RATE: u64 = 20;
const RUNNING_AFTER: Duration = Duration::from_secs(2);
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
const STOPPED_AFTER: Duration = Duration::from_secs(2);
const LATENCY: Duration = Duration::from_millis(15);

/// The cloud. Clones share it; it goes on when the tool dies.
#[derive(Clone, Debug)]
pub(crate) struct Fake(Arc<Mutex<World>>);

#[derive(Debug)]
pub(crate) struct World {
    clock: Clock,
    pub(crate) services: BTreeMap<String, Svc>,
    pub(crate) tasks: Vec<Task>,
    definitions: Vec<Value>,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) objects: BTreeMap<String, (Vec<u8>, u64)>,
    pub(crate) target: Option<Target>,
    pub(crate) alarms: Vec<String>,
    /// Free addresses of the subnets.
    pub(crate) subnets: BTreeMap<String, u32>,
    /// vCPUs of the account on Fargate: in use, and allowed; what CloudWatch does not know it leaves out.
    pub(crate) vcpus: Option<(f64, f64)>,
    /// Operations that the caller may not call.
    pub(crate) forbidden: BTreeSet<String>,
    /// Releases whose tasks do not start, by service.
    pub(crate) never_start: BTreeSet<(String, String)>,
    /// Releases whose tasks protect themselves.
    pub(crate) protects: BTreeSet<String>,
    /// Failures of the 20 messages a second of each task, by release.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Each so manieth call is throttled; 0 for none.
    pub(crate) throttled: u64,
    /// What may be asked of tasks; without it, anything.
    pub(crate) reads: Option<Bucket>,
    /// How long `DescribeServices` shows a service as it was.
    pub(crate) lag: Duration,
    calls: u64,
    next: u64,
    /// What was changed, in order.
    pub(crate) deeds: Vec<String>,
    /// What was published to CloudWatch, call by call: the series' names with their values.
    pub(crate) published: Vec<BTreeMap<String, f64>>,
    /// Calls to publish that were not taken.
    pub(crate) refused: u64,
    /// Whether CloudWatch takes nothing.
    pub(crate) takes_no_metrics: bool,
    /// Every operation that was called.
    pub(crate) called: BTreeSet<String>,
}

/// A token bucket of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    pub(crate) most: f64,
    pub(crate) per_second: f64,
    pub(crate) tokens: f64,
    pub(crate) filled: Moment,
    pub(crate) taken: u64,
    pub(crate) refused: u64,
}

impl Bucket {
    /// Whether there was a token for a request.
    fn take(&mut self, now: Moment) -> bool {
        let grown = now.since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + grown).min(self.most);
        self.filled = now;
        let is_there = self.tokens >= 1.0;
        if is_there {
            self.tokens -= 1.0;
            self.taken += 1;
        } else {
            self.refused += 1;
        }
        is_there
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Svc {
    pub(crate) desired: u32,
    pub(crate) task_definition: String,
    pub(crate) deployments: Vec<Dep>,
    rollback: bool,
    before: Vec<(Moment, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Dep {
    id: String,
    task_definition: String,
    failed: u32,
    state: &'static str,
    reason: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Task {
    arn: String,
    pub(crate) service: String,
    pub(crate) release: String,
    task_definition: String,
    created: Moment,
    stopping: Option<Moment>,
    stopped: Option<(&'static str, String)>,
    pub(crate) protected: bool,
}

impl Task {
    pub(crate) fn is_live(&self) -> bool {
        self.stopping.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) in_suspended: bool,
}

fn number(value: u64) -> f64 {
    value as f64
}

impl Fake {
    /// The example application: stable runs `release` in three tasks, autoscaled from 2 to 20.
    pub(crate) fn new(clock: Clock, release: &str) -> Self {
        let mut world = World {
            clock,
            services: BTreeMap::new(),
            tasks: Vec::new(),
            definitions: Vec::new(),
            parameters: BTreeMap::new(),
            objects: BTreeMap::new(),
            target: Some(Target {
                min: 2,
                max: 20,
                in_suspended: false,
            }),
            alarms: Vec::new(),
            subnets: BTreeMap::from(["subnet-a", "subnet-b"].map(|name| (name.to_owned(), 100))),
            vcpus: Some((10.0, 100.0)),
            forbidden: BTreeSet::new(),
            never_start: BTreeSet::new(),
            protects: BTreeSet::new(),
            failures: BTreeMap::new(),
            throttled: 0,
            reads: None,
            lag: Duration::ZERO,
            calls: 0,
            next: 1,
            deeds: Vec::new(),
            published: Vec::new(),
            refused: 0,
            takes_no_metrics: false,
            called: BTreeSet::new(),
        };
        let example = serde_json::from_str(include_str!("../../../../task-definitions/worker.json")).unwrap();
        let example = Definition::read(example, "worker").unwrap();
        let image = format!("r/orders-worker@sha256:{}", "0".repeat(64));
        let input = example.of_release(&Release::new(release).unwrap(), &image, &BTreeMap::new());
        let arn = world.register(input.unwrap());
        world.parameters.insert(PINNED.to_owned(), arn.clone());
        for (name, desired) in [(STABLE, 3), (CANARY, 0)] {
            let service = Svc {
                desired,
                task_definition: arn.clone(),
                deployments: vec![Dep {
                    id: format!("ecs-svc/{name}"),
                    task_definition: arn.clone(),
                    failed: 0,
                    state: "COMPLETED",
                    reason: String::new(),
                }],
                rollback: name == STABLE,
                before: Vec::new(),
            };
            world.services.insert(name.to_owned(), service);
        }
        world.tick();
        for task in &mut world.tasks {
            task.created = Moment::from_millis(0);
        }
        world.deeds.clear();
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut world = self.0.lock().unwrap();
        world.tick();
        change(&mut world)
    }

    /// What the SDKs are given.
    pub(crate) async fn config(&self) -> SdkConfig {
        let connector = SharedHttpConnector::new(Wire(self.clone()));
        let timeouts = aws_config::timeout::TimeoutConfig::builder()
            .operation_timeout(Duration::from_secs(90))
            .build();
        aws_config::defaults(aws_config::BehaviorVersion::latest())
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .credentials_provider(Credentials::new("test", "test", None, None, "fake"))
            .region(Region::new("us-east-1"))
            .endpoint_url("http://aws.invalid")
            .retry_config(crate::aws::retries())
            .timeout_config(timeouts)
            .load()
            .await
    }

    /// Who runs what, and what is written down: what must be the same however often the tool was killed.
    pub(crate) fn end_state(&self) -> Vec<String> {
        self.change(|world| {
            let live = world.tasks.iter().filter(|task| task.stopping.is_none());
            let mut state: Vec<String> = live
                .map(|task| format!("{} runs {}", task.service, task.release))
                .collect();
            state.sort();
            let pinned = &world.parameters[PINNED];
            state.push(format!("pinned {}", world.release(pinned)));
            let control: Value = serde_json::from_str(&world.parameters[CONTROL]).unwrap();
            state.push(format!(
                "tracks {} scaling {}",
                control["tracks"], control["scaling"]
            ));
            state.push(format!("{:?}", world.target));
            state
        })
    }
}

impl World {
    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn register(&mut self, mut input: Value) -> String {
        let revision = self.definitions.len() + 1;
        let arn = format!("arn:aws:ecs:us-east-1:111122223333:task-definition/orders-worker:{revision}");
        input["taskDefinitionArn"] = json!(arn);
        input["revision"] = json!(revision);
        input["status"] = json!("ACTIVE");
        self.definitions.push(input);
        self.deeds.push(format!("registered {}", self.release(&arn)));
        arn
    }

    fn described(&self, arn: &str) -> &Value {
        let found = self
            .definitions
            .iter()
            .find(|known| known["taskDefinitionArn"] == arn);
        found.unwrap_or(&Value::Null)
    }

    pub(crate) fn release(&self, arn: &str) -> String {
        let read = Definition::read(self.described(arn).clone(), "worker");
        read.map_or("?".to_owned(), |definition| {
            definition.release().unwrap().to_string()
        })
    }

    /// What has happened until now.
    fn tick(&mut self) {
        let now = self.now();
        for task in &mut self.tasks {
            if task.stopped.is_none() && task.stopping.is_some_and(|at| now.since(at) >= STOPPED_AFTER) {
                task.stopped = Some((
                    "ServiceSchedulerInitiated",
                    "Scaling activity initiated by deployment".to_owned(),
                ));
            }
        }
        for name in [STABLE, CANARY] {
            self.fail(name, now);
            self.reconcile(name, now);
        }
    }

    /// Tasks that do not start, and the circuit breaker.
    fn fail(&mut self, name: &str, now: Moment) {
        let Some(service) = self.services.get_mut(name) else {
            return;
        };
        let primary = &mut service.deployments[0];
        for task in &mut self.tasks {
            let bad = self
                .never_start
                .contains(&(name.to_owned(), task.release.clone()));
            if bad
                && task.service == name
                && task.stopping.is_none()
                && now.since(task.created) >= RUNNING_AFTER
            {
                task.stopping = Some(now);
                task.stopped = Some((
                    "TaskFailedToStart",
                    "CannotPullContainerError: no such image".to_owned(),
                ));
                primary.failed += u32::from(task.task_definition == primary.task_definition);
            }
        }
        if primary.failed < 3 || primary.state == "FAILED" {
            return;
        }
        primary.state = "FAILED";
        primary.reason = "ECS deployment circuit breaker: tasks failed to start.".to_owned();
        let last = service
            .deployments
            .iter()
            .skip(1)
            .find(|before| before.state == "COMPLETED")
            .cloned();
        if let (true, Some(last)) = (service.rollback, last) {
            service.task_definition.clone_from(&last.task_definition);
            service.deployments.retain(|before| before.id != last.id);
            service.deployments.insert(
                0,
                Dep {
                    state: "IN_PROGRESS",
                    ..last
                },
            );
        }
    }

    fn reconcile(&mut self, name: &str, now: Moment) {
        let Some(service) = self.services.get(name).cloned() else {
            return;
        };
        let primary = &service.deployments[0];
        let live = |task: &Task| task.service == name && task.stopping.is_none();
        let new = |task: &Task| live(task) && task.task_definition == primary.task_definition;
        let count = self.tasks.iter().filter(|task| new(task)).count();
        let wanted = service.desired as usize;
        if primary.state != "FAILED" {
            for _ in count..wanted {
                let release = self.release(&primary.task_definition);
                let arn = format!(
                    "arn:aws:ecs:us-east-1:111122223333:task/orders/{:032x}",
                    self.id()
                );
                self.tasks.push(Task {
                    arn,
                    service: name.to_owned(),
                    protected: self.protects.contains(&release),
                    release,
                    task_definition: primary.task_definition.clone(),
                    created: now,
                    stopping: None,
                    stopped: None,
                });
            }
        }
        let healthy = self
            .tasks
            .iter()
            .filter(|task| new(task) && now.since(task.created) >= HEALTHY_AFTER)
            .count();
        let old_may_stay = if service.rollback {
            wanted.saturating_sub(healthy)
        } else {
            0
        };
        let (mut old_kept, mut new_kept) = (0, 0);
        for task in self.tasks.iter_mut().filter(|task| live(task)) {
            let (kept, may) = if task.task_definition == primary.task_definition {
                (&mut new_kept, wanted)
            } else {
                (&mut old_kept, old_may_stay)
            };
            if *kept < may || task.protected {
                *kept += 1;
            } else {
                task.stopping = Some(now);
            }
        }
        let whole = healthy >= wanted && old_kept == 0;
        if let Some(service) = self
            .services
            .get_mut(name)
            .filter(|_| whole && primary.state != "FAILED")
        {
            service.deployments.truncate(1);
            service.deployments[0].state = "COMPLETED";
        }
    }

    // ---- ECS ----------------------------------------------------------------------------------------------------------

    fn service(&self, name: &str) -> Value {
        let service = &self.services[name];
        let deployments: Vec<Value> = service
            .deployments
            .iter()
            .enumerate()
            .map(|(index, deployment)| {
                json!({"id": deployment.id, "status": if index == 0 { "PRIMARY" } else { "ACTIVE" },
                       "taskDefinition": deployment.task_definition, "failedTasks": deployment.failed,
                       "rolloutState": deployment.state, "rolloutStateReason": deployment.reason,
                       "desiredCount": service.desired, "runningCount": 0, "pendingCount": 0})
            })
            .collect();
        json!({"serviceName": name, "status": "ACTIVE", "desiredCount": service.desired, "runningCount": 0, "pendingCount": 0,
               "taskDefinition": service.task_definition, "deployments": deployments, "events": [],
               "launchType": "FARGATE", "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a", "subnet-b"]}},
               "deploymentConfiguration": {"maximumPercent": 200, "minimumHealthyPercent": 100}})
    }

    fn lagging(&self, name: &str) -> Value {
        let now = self.now();
        let mut before = self.services[name].before.iter();
        before
            .find(|(changed, _)| now.since(*changed) < self.lag)
            .map_or_else(|| self.service(name), |(_, before)| before.clone())
    }

    fn update_service(&mut self, input: &Value) -> Value {
        let (now, id) = (self.now(), self.id());
        let name = input["service"].as_str().unwrap().to_owned();
        let before = self.service(&name);
        let release = input["taskDefinition"].as_str().map(|arn| self.release(arn));
        let service = self.services.get_mut(&name).unwrap();
        service.before.push((now, before));
        if let Some(desired) = input["desiredCount"].as_u64() {
            service.desired = u32::try_from(desired).unwrap();
        }
        if let Some(arn) = input["taskDefinition"]
            .as_str()
            .filter(|arn| **arn != service.task_definition)
        {
            service.task_definition = arn.to_owned();
            service.deployments.insert(
                0,
                Dep {
                    id: format!("ecs-svc/{id}"),
                    task_definition: arn.to_owned(),
                    failed: 0,
                    state: "IN_PROGRESS",
                    reason: String::new(),
                },
            );
        }
        let desired = service.desired;
        self.deeds.push(match release {
            Some(release) => format!("{name} runs {release} × {desired}"),
            None => format!("{name} × {desired}"),
        });
        self.tick();
        json!({"service": self.service(&name)})
    }

    fn describe_task(&self, task: &Task) -> Value {
        let age = self.now().since(task.created);
        let status = match (&task.stopped, task.stopping) {
            (Some(_), _) => "STOPPED",
            (None, Some(_)) => "STOPPING",
            _ if age >= RUNNING_AFTER => "RUNNING",
            _ => "PENDING",
        };
        let healthy = if age >= HEALTHY_AFTER {
            "HEALTHY"
        } else {
            "UNKNOWN"
        };
        let mut described = json!({
            "taskArn": task.arn, "taskDefinitionArn": task.task_definition, "lastStatus": status, "healthStatus": healthy,
            "desiredStatus": if task.stopping.is_some() { "STOPPED" } else { "RUNNING" },
            "createdAt": number(task.created.millis()) / 1000.0, "containers": [{"name": "worker"}]});
        if let Some((code, reason)) = &task.stopped {
            described["stopCode"] = json!(code);
            described["stoppedReason"] = json!(reason);
        }
        described
    }

    /// A page of a hundred; the token is where the next one begins.
    fn list_tasks(&self, input: &Value) -> Value {
        let ends = input["desiredStatus"] == "STOPPED";
        let tasks = self.tasks.iter();
        let listed: Vec<&String> = tasks
            .filter(|task| task.service == input["serviceName"] && task.stopping.is_some() == ends)
            .map(|task| &task.arn)
            .collect();
        let from = input["nextToken"]
            .as_str()
            .map_or(0, |token| token.parse().unwrap());
        let to = listed.len().min(from + 100);
        let mut page = json!({"taskArns": listed[from..to]});
        if to < listed.len() {
            page["nextToken"] = json!(to.to_string());
        }
        page
    }

    fn named<'a>(&'a self, input: &'a Value) -> impl Iterator<Item = &'a Task> {
        let wanted = input["tasks"].as_array().unwrap();
        assert!(wanted.len() <= 100, "ECS takes a hundred at once");
        let wanted: BTreeSet<&str> = wanted.iter().filter_map(Value::as_str).collect();
        self.tasks
            .iter()
            .filter(move |task| wanted.contains(task.arn.as_str()))
    }

    fn ecs(&mut self, operation: &str, input: &Value) -> Value {
        match operation {
            "DescribeServices" => {
                let names = input["services"].as_array().unwrap().iter();
                let known = names
                    .filter_map(Value::as_str)
                    .filter(|name| self.services.contains_key(*name));
                json!({"services": known.map(|name| self.lagging(name)).collect::<Vec<_>>(), "failures": []})
            }
            "UpdateService" => self.update_service(input),
            "ListTasks" => self.list_tasks(input),
            "DescribeTasks" => {
                json!({"tasks": self.named(input).map(|task| self.describe_task(task)).collect::<Vec<_>>()})
            }
            "UpdateTaskProtection" => {
                let arns: Vec<String> = self.named(input).map(|task| task.arn.clone()).collect();
                assert!(arns.len() <= 10, "ECS takes ten at once");
                for task in self.tasks.iter_mut().filter(|task| arns.contains(&task.arn)) {
                    task.protected = false;
                }
                json!({"protectedTasks": [], "failures": []})
            }
            "DescribeTaskDefinition" => {
                let described = self.described(input["taskDefinition"].as_str().unwrap()).clone();
                json!({"taskDefinition": described, "tags": [{"key": "app", "value": "orders"}]})
            }
            "RegisterTaskDefinition" => {
                let arn = self.register(input.clone());
                json!({"taskDefinition": self.described(&arn)})
            }
            other => panic!("ECS knows no {other} here"),
        }
    }

    fn report(&self, task: &Task, since: u64) -> Report {
        let now = self.now();
        let control = self
            .parameters
            .get(CONTROL)
            .and_then(|text| Document::parse(text).ok());
        let canary = control.and_then(|document| document.tracks.canary);
        let shut = task.service == CANARY && canary.is_none_or(|canary| canary.paused);
        let failed = self.failures.get(&task.release).copied().unwrap_or(0);
        let from = since.max(task.created.second() + HEALTHY_AFTER.as_secs());
        let windows = (from..=now.second()).filter(|_| !shut).map(|start| Window {
            start,
            started: RATE,
            done: RATE - failed,
            failed: Failed {
                retry: failed,
                ..Failed::default()
            },
            ..Window::default()
        });
        Report {
            schema: 1,
            release: Release::new(&task.release).unwrap(),
            track: if task.service == CANARY {
                Track::Canary
            } else {
                Track::Stable
            },
            service: Some(task.service.clone()),
            process: task.arn.clone(),
            started_at: task.created.into(),
            now: now.into(),
            deadline_seconds: 30.0,
            state: State {
                polling: true,
                paused: shut,
                ..State::default()
            },
            windows: windows.collect(),
            totals: Totals::default(),
        }
    }
}

impl Source for Fake {
    async fn ask(&self, view: &View, since: u64) -> Vec<(String, Result<Report, String>)> {
        let processes = view.stable.processes.iter().chain(&view.canary.processes);
        let named: BTreeSet<&str> = processes.map(|process| process.name.as_str()).collect();
        self.change(|world| {
            let now = world.now();
            let at_work = world
                .tasks
                .iter()
                .filter(|task| task.stopped.is_none() && now.since(task.created) >= HEALTHY_AFTER);
            at_work
                .filter_map(|task| {
                    let name = task.arn.rsplit('/').next()?;
                    named
                        .contains(name)
                        .then(|| (name.to_owned(), Ok(world.report(task, since))))
                })
                .collect()
        })
    }
}

/// A queue, as the worker's adapter describes it.
pub(super) fn queue(url: &str) -> Description {
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:111122223333:{name}");
    let name = url.rsplit('/').next().unwrap();
    Description {
        arn: arn(name),
        fifo: false,
        visibility_timeout: Duration::from_secs(30),
        max_message_bytes: 1 << 20,
        retention: Duration::from_secs(14 * 24 * 3600),
        redrive: (!name.ends_with("-dlq")).then(|| RedrivePolicy {
            target_arn: arn("orders-dlq"),
            max_receive_count: 5,
        }),
        visible: 0,
    }
}
