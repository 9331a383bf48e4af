//! AWS on tokio's clock, as far as a rollout calls it, behind the SDKs' own HTTP clients: requests and answers as on the wire.
//!
//! ECS as it behaves: tasks take their time, a rolling update waits for healthy successors, the circuit breaker gives up after three
//! failed tasks, answers lag behind changes, protected tasks are not stopped, and any call may be throttled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_ecs::config::{Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Map, Value, json};
use worker::clock::Clock;
use worker::control::Document;
use worker::evidence::{Failed, Report, State, Totals, Window};
use worker::queue::{Description, RedrivePolicy};
use worker::release::{Release, Track};

use super::definition::Definition;
use crate::drive::Source;
use crate::fleet::View;
use crate::moment::Moment;

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
    /// Releases whose tasks do not start, by service.
    pub(crate) never_start: BTreeSet<(String, String)>,
    /// Releases whose tasks protect themselves.
    pub(crate) protects: BTreeSet<String>,
    /// Failures of the 20 messages a second of each task, by release.
    pub(crate) failures: BTreeMap<String, u64>,
    /// Each so manieth call is throttled; 0 for none.
    pub(crate) throttled: u64,
    /// How long `DescribeServices` shows a service as it was.
    pub(crate) lag: Duration,
    calls: u64,
    next: u64,
    /// What was changed, in order.
    pub(crate) deeds: Vec<String>,
    /// Every operation that was called.
    pub(crate) called: BTreeSet<String>,
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
            never_start: BTreeSet::new(),
            protects: BTreeSet::new(),
            failures: BTreeMap::new(),
            throttled: 0,
            lag: Duration::ZERO,
            calls: 0,
            next: 1,
            deeds: Vec::new(),
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
               "taskDefinition": service.task_definition, "deployments": deployments, "events": []})
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

    fn list_tasks(&self, input: &Value) -> Value {
        let ends = input["desiredStatus"] == "STOPPED";
        let tasks = self.tasks.iter();
        let listed =
            tasks.filter(|task| task.service == input["serviceName"] && task.stopping.is_some() == ends);
        json!({"taskArns": listed.map(|task| &task.arn).collect::<Vec<_>>()})
    }

    fn named<'a>(&'a self, input: &'a Value) -> impl Iterator<Item = &'a Task> {
        let wanted = input["tasks"].as_array().unwrap();
        self.tasks
            .iter()
            .filter(move |task| wanted.iter().any(|arn| *arn == json!(task.arn)))
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

    // ---- The others -----------------------------------------------------------------------------------------------------

    fn autoscaling(&mut self, operation: &str, input: &Value) -> Value {
        if operation == "RegisterScalableTarget" {
            let target = self.target.as_mut().unwrap();
            target.min = input["MinCapacity"].as_i64().unwrap_or(target.min);
            target.max = input["MaxCapacity"].as_i64().unwrap_or(target.max);
            let state = &input["SuspendedState"]["DynamicScalingInSuspended"];
            target.in_suspended = state.as_bool().unwrap_or(target.in_suspended);
            return json!({});
        }
        let targets = self.target.iter().map(|target| {
            json!({"ServiceNamespace": "ecs", "ResourceId": input["ResourceIds"][0], "ScalableDimension": "ecs:service:DesiredCount",
                   "MinCapacity": target.min, "MaxCapacity": target.max, "RoleARN": "arn", "CreationTime": 1.0,
                   "SuspendedState": {"DynamicScalingInSuspended": target.in_suspended}})
        });
        json!({"ScalableTargets": targets.collect::<Vec<_>>()})
    }

    fn ssm(&mut self, operation: &str, input: &Value) -> Result<Value, &'static str> {
        let name = input["Name"].as_str().unwrap();
        if operation == "PutParameter" {
            let value = input["Value"].as_str().unwrap().to_owned();
            assert!(value.len() <= 4096, "a standard parameter holds 4 KiB");
            if name == PINNED {
                let release = if value == "none" {
                    value.clone()
                } else {
                    self.release(&value)
                };
                self.deeds.push(format!("pinned {release}"));
            }
            self.parameters.insert(name.to_owned(), value);
            return Ok(json!({"Version": 2, "Tier": "Standard"}));
        }
        match self.parameters.get(name) {
            Some(value) => Ok(json!({"Parameter": {"Name": name, "Value": value, "Type": "String"}})),
            None => Err("ParameterNotFound"),
        }
    }

    fn s3(&mut self, request: &HttpRequest) -> HttpResponse {
        let path = request.uri().split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split_once('/').map_or("", |(_, path)| path);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
        if request.method() == "GET" && query.contains("list-type=2") {
            let keys = self.objects.keys().filter(|key| key.contains("/history/"));
            let contents: String = keys
                .map(|key| format!("<Contents><Key>{key}</Key></Contents>"))
                .collect();
            return answer(200, format!("<ListBucketResult>{contents}</ListBucketResult>"));
        }
        let there = self
            .objects
            .get(&key)
            .map(|(_, version)| format!("\"{version}\""));
        if request.method() == "GET" {
            return match self.objects.get(&key) {
                Some((text, _)) => with_etag(text.clone(), &there.unwrap_or_default()),
                None => answer(
                    404,
                    "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".to_owned(),
                ),
            };
        }
        let header = |name: &str| request.headers().get(name).map(str::to_owned);
        let holds = match (header("if-match"), header("if-none-match")) {
            (Some(etag), _) => there == Some(etag),
            (None, Some(_)) => there.is_none(),
            (None, None) => panic!("an unconditional write"),
        };
        if !holds {
            return answer(
                412,
                "<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>".to_owned(),
            );
        }
        let version = self.id();
        self.objects
            .insert(key, (request.body().bytes().unwrap().to_vec(), version));
        with_etag(Vec::new(), &format!("\"{version}\""))
    }

    fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
        self.tick();
        self.calls += 1;
        let target = request
            .headers()
            .get("x-amz-target")
            .unwrap_or_default()
            .to_owned();
        let (service, operation) = target.split_once('.').unwrap_or(("", ""));
        let throttles = self.throttled > 0 && self.calls.is_multiple_of(self.throttled);
        if throttles && !operation.is_empty() {
            return error("ThrottlingException");
        }
        let input = request
            .body()
            .bytes()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or(Value::Null);
        if !operation.is_empty() {
            self.called.insert(operation.to_owned());
        }
        let output = match service {
            "AmazonEC2ContainerServiceV20141113" => Ok(self.ecs(operation, &input)),
            "AnyScaleFrontendService" => Ok(self.autoscaling(operation, &input)),
            "AmazonSSM" => self.ssm(operation, &input),
            _ if request.uri().contains("GraniteServiceVersion20100801") => return self.alarms(),
            _ => return self.s3(request),
        };
        match output {
            Ok(output) => answer(200, output.to_string()),
            Err(code) => error(code),
        }
    }

    fn alarms(&self) -> HttpResponse {
        let alarms: Vec<Value> = self
            .alarms
            .iter()
            .map(|name| json!({ "AlarmName": name }))
            .collect();
        let mut body = Vec::new();
        cbor(&json!({ "MetricAlarms": alarms }), &mut body);
        let mut response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body));
        response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
        response.headers_mut().insert("content-type", "application/cbor");
        response
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

fn answer(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

fn with_etag(body: Vec<u8>, etag: &str) -> HttpResponse {
    let mut response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body));
    response.headers_mut().insert("etag", etag.to_owned());
    response
}

fn error(code: &'static str) -> HttpResponse {
    answer(
        400,
        json!({"__type": code, "message": "as the test wants it"}).to_string(),
    )
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

/// CloudWatch's answers: only what is needed of RFC 8949.
fn cbor(value: &Value, into: &mut Vec<u8>) {
    fn head(major: u8, length: usize, into: &mut Vec<u8>) {
        into.push(major << 5 | 26);
        into.extend(u32::try_from(length).unwrap().to_be_bytes());
    }
    fn map(fields: &Map<String, Value>, into: &mut Vec<u8>) {
        head(5, fields.len(), into);
        for (name, value) in fields {
            cbor(&Value::String(name.clone()), into);
            cbor(value, into);
        }
    }
    match value {
        Value::Object(fields) => map(fields, into),
        Value::Array(items) => {
            head(4, items.len(), into);
            items.iter().for_each(|item| cbor(item, into));
        }
        Value::String(text) => {
            head(3, text.len(), into);
            into.extend(text.as_bytes());
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => panic!("{value} is not needed"),
    }
}

/// What the SDKs take for their HTTP connection.
struct Wire(Fake);

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let fake = self.0.clone();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(LATENCY).await;
            let answer = fake.0.lock().unwrap().answer(&request);
            Ok(answer)
        })
    }
}
