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
use worker::queue::{Description, RedrivePolicy};
use worker::release::Release;

use self::wire::Wire;
use super::definition::Definition;
use crate::moment::Moment;

mod calls;
mod deployments;
mod evidence;
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
