//! The calls to ECS: the only module that knows its SDK.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_ecs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecs::error::BoxError;
use aws_sdk_ecs::types::{
    DeploymentRolloutState, DesiredStatus, HealthStatus, LaunchType, TaskDefinitionField, TaskStopCode,
};
use serde_json::{Value, json};

use crate::aws::said;
use crate::moment::Moment;

/// ECS's most for one call of `ListTasks` and `DescribeTasks`.
const PAGE: usize = 100;
/// ECS's most for one call of `UpdateTaskProtection`.
const PROTECTED: usize = 10;
/// Pages of tasks that are read of one service: ECS allows 5,000 tasks a service, and twice as many run while a deployment replaces them.
const PAGES: usize = 120;

/// Requests that it takes to list so many tasks.
pub(super) fn pages(tasks: usize) -> usize {
    tasks.div_ceil(PAGE).max(1)
}

/// A service, as ECS describes it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ServiceState {
    /// `ACTIVE`, `DRAINING` or `INACTIVE`.
    pub(super) status: String,
    /// Tasks it is to have.
    pub(super) desired: u32,
    /// The ARN of what it is to run.
    pub(super) task_definition: String,
    /// Newest first.
    pub(super) deployments: Vec<Deployment>,
    /// The latest events, newest first.
    pub(super) events: Vec<Said>,
    /// Where its tasks run.
    pub(super) placement: Placement,
}

/// Where the tasks of a service run, and how they are replaced.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Placement {
    /// Each task has an address in one of them; none where tasks share their instance's.
    pub(super) subnets: Vec<String>,
    /// Who provides for the tasks; `FARGATE` where the launch type says so.
    pub(super) providers: Vec<Provider>,
    /// Tasks that there may be at most during a deployment, in percent.
    pub(super) most_percent: u32,
    /// Tasks that must be healthy during a deployment, in percent.
    pub(super) least_percent: u32,
}

/// A capacity provider's part in a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Provider {
    pub(super) name: String,
    /// Tasks that it gets first.
    pub(super) base: u32,
    pub(super) weight: u32,
}

/// A line that ECS has written about a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) id: String,
    pub(super) at: Moment,
    pub(super) text: String,
}

/// A deployment of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Deployment {
    pub(super) id: String,
    pub(super) primary: bool,
    pub(super) task_definition: String,
    pub(super) failed_tasks: u32,
    pub(super) state: RolloutState,
    /// What ECS says about the state.
    pub(super) reason: String,
}

/// How far a deployment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RolloutState {
    /// Under way.
    InProgress,
    /// Done.
    Completed,
    /// Given up by the circuit breaker.
    Failed,
    /// ECS does not say.
    #[default]
    Unknown,
}

/// A task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TaskState {
    pub(super) arn: String,
    pub(super) task_definition: String,
    /// `PROVISIONING` to `STOPPED`.
    pub(super) last_status: String,
    /// `RUNNING` or `STOPPED`.
    pub(super) desired_status: String,
    /// What its health check says; none without one, or before its first answer.
    pub(super) healthy: Option<bool>,
    pub(super) created: Moment,
    /// Its private address, once it has one.
    pub(super) address: Option<String>,
    /// Ports of the host by port of the container, where they are mapped.
    pub(super) ports: BTreeMap<u16, u16>,
    /// How it ended, if it has.
    pub(super) stopped: Option<Stopped>,
}

/// How a task ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stopped {
    /// Whether by itself: it did not start, or a container of its ended or was found unhealthy.
    pub(super) crashed: bool,
    pub(super) text: String,
}

/// One cluster.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    client: Client,
    name: String,
}

impl Cluster {
    pub(super) fn new(config: &SdkConfig, name: impl Into<String>) -> Self {
        Self {
            client: Client::new(config),
            name: name.into(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The services called `names`; those that are not there are missing in the answer.
    pub(super) async fn services(&self, names: &[&str]) -> Result<BTreeMap<String, ServiceState>, String> {
        let call = self.client.describe_services().cluster(&self.name);
        let call = names.iter().fold(call, |call, name| call.services(*name));
        let answer = call
            .send()
            .await
            .map_err(|error| said!("DescribeServices", error))?;
        let named = answer.services.unwrap_or_default().into_iter();
        Ok(named
            .filter_map(|service| Some((service.service_name.clone()?, service_state(service))))
            .collect())
    }

    /// Gives a service what it is to run, and how many tasks; without a number, it keeps its own. The service as it is then.
    pub(super) async fn update(
        &self,
        service: &str,
        task_definition: Option<&str>,
        desired: Option<u32>,
    ) -> Result<ServiceState, String> {
        let call = self
            .client
            .update_service()
            .cluster(&self.name)
            .service(service)
            .set_task_definition(task_definition.map(str::to_owned))
            .set_desired_count(desired.map(|count| i32::try_from(count).unwrap_or(i32::MAX)));
        let answer = call.send().await.map_err(|error| said!("UpdateService", error))?;
        Ok(answer.service.map(service_state).unwrap_or_default())
    }

    /// The ARNs of a service's tasks that are to run; or (`stopped`) of those that are to end, or have within the last hour or so.
    pub(super) async fn tasks(&self, service: &str, stopped: bool) -> Result<Vec<String>, String> {
        let status = if stopped {
            DesiredStatus::Stopped
        } else {
            DesiredStatus::Running
        };
        let (mut arns, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = self
                .client
                .list_tasks()
                .cluster(&self.name)
                .service_name(service)
                .desired_status(status.clone())
                .set_next_token(next.take());
            let answer = call.send().await.map_err(|error| said!("ListTasks", error))?;
            arns.extend(answer.task_arns.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        Ok(arns)
    }

    /// The tasks called `arns`, in batches; those that ECS has forgotten are missing.
    pub(super) async fn described(&self, arns: &[String]) -> Result<Vec<TaskState>, String> {
        let mut tasks = Vec::new();
        for some in arns.chunks(PAGE) {
            let call = self.client.describe_tasks().cluster(&self.name);
            let call = call.set_tasks(Some(some.to_vec()));
            let answer = call.send().await.map_err(|error| said!("DescribeTasks", error))?;
            tasks.extend(answer.tasks.unwrap_or_default().into_iter().map(task_state));
        }
        Ok(tasks)
    }

    /// Lifts the protection of tasks against scale-in and deployments. Tasks that are gone need none.
    pub(super) async fn unprotect(&self, arns: &[String]) -> Result<(), String> {
        for some in arns.chunks(PROTECTED) {
            let call = self
                .client
                .update_task_protection()
                .cluster(&self.name)
                .set_tasks(Some(some.to_vec()))
                .protection_enabled(false);
            call.send()
                .await
                .map_err(|error| said!("UpdateTaskProtection", error))?;
        }
        Ok(())
    }

    /// A task definition as ECS describes it, with all its fields: also those that this version's SDK does not know.
    pub(super) async fn definition(&self, arn: &str) -> Result<Value, String> {
        let body = Body::default();
        let call = self
            .client
            .describe_task_definition()
            .task_definition(arn)
            .include(TaskDefinitionField::Tags)
            .customize()
            .interceptor(body.clone());
        call.send()
            .await
            .map_err(|error| said!("DescribeTaskDefinition", error))?;
        let mut answer = body.json()?;
        let mut definition = answer["taskDefinition"].take();
        if let (Some(fields), Some(tags)) = (definition.as_object_mut(), answer["tags"].as_array())
            && !tags.is_empty()
        {
            fields.insert("tags".to_owned(), json!(tags));
        }
        Ok(definition)
    }

    /// Registers a task definition, given as the body of `RegisterTaskDefinition`; its ARN.
    pub(super) async fn register(&self, definition: &Value) -> Result<String, String> {
        let text = definition.to_string();
        let call = self
            .client
            .register_task_definition()
            // What the SDK must see before it lets a call go; the body below says the same and the rest.
            .family(definition["family"].as_str().unwrap_or_default())
            .set_container_definitions(Some(Vec::new()))
            .customize()
            .mutate_request(move |request| {
                request
                    .headers_mut()
                    .insert("content-length", text.len().to_string());
                *request.body_mut() = text.clone().into();
            });
        let answer = call
            .send()
            .await
            .map_err(|error| said!("RegisterTaskDefinition", error))?;
        let arn = answer
            .task_definition
            .and_then(|definition| definition.task_definition_arn);
        arn.ok_or_else(|| "RegisterTaskDefinition: the answer names no ARN".to_owned())
    }
}

fn moment(time: Option<aws_sdk_ecs::primitives::DateTime>) -> Moment {
    Moment::from(time.map_or(0.0, |time| time.as_secs_f64()))
}

fn count(number: i32) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

fn placement(service: &aws_sdk_ecs::types::Service) -> Placement {
    let network = service.network_configuration.as_ref();
    let network = network.and_then(|network| network.awsvpc_configuration.as_ref());
    let strategy = service.capacity_provider_strategy.as_deref().unwrap_or_default();
    let mut providers: Vec<Provider> = strategy
        .iter()
        .map(|item| Provider {
            name: item.capacity_provider.clone(),
            base: count(item.base),
            weight: count(item.weight),
        })
        .collect();
    if providers.is_empty() && service.launch_type == Some(LaunchType::Fargate) {
        providers.push(Provider {
            name: "FARGATE".to_owned(),
            base: 0,
            weight: 1,
        });
    }
    let deployment = service.deployment_configuration.as_ref();
    let percent = |value: Option<i32>, otherwise| value.map_or(otherwise, count);
    Placement {
        subnets: network.map_or_else(Vec::new, |network| network.subnets.clone()),
        providers,
        // ECS's own defaults of a service.
        most_percent: percent(deployment.and_then(|deployment| deployment.maximum_percent), 200),
        least_percent: percent(
            deployment.and_then(|deployment| deployment.minimum_healthy_percent),
            100,
        ),
    }
}

fn service_state(service: aws_sdk_ecs::types::Service) -> ServiceState {
    let placement = placement(&service);
    let deployments = service.deployments.unwrap_or_default().into_iter();
    let events = service.events.unwrap_or_default().into_iter();
    ServiceState {
        placement,
        status: service.status.unwrap_or_default(),
        desired: count(service.desired_count),
        task_definition: service.task_definition.unwrap_or_default(),
        deployments: deployments
            .map(|deployment| Deployment {
                primary: deployment.status.as_deref() == Some("PRIMARY"),
                id: deployment.id.unwrap_or_default(),
                task_definition: deployment.task_definition.unwrap_or_default(),
                failed_tasks: count(deployment.failed_tasks),
                state: match deployment.rollout_state {
                    Some(DeploymentRolloutState::Completed) => RolloutState::Completed,
                    Some(DeploymentRolloutState::Failed) => RolloutState::Failed,
                    Some(DeploymentRolloutState::InProgress) => RolloutState::InProgress,
                    _ => RolloutState::Unknown,
                },
                reason: deployment.rollout_state_reason.unwrap_or_default(),
            })
            .collect(),
        events: events
            .map(|event| Said {
                id: event.id.unwrap_or_default(),
                at: moment(event.created_at),
                text: event.message.unwrap_or_default(),
            })
            .collect(),
    }
}

fn task_state(task: aws_sdk_ecs::types::Task) -> TaskState {
    let stopped = (task.last_status.as_deref() == Some("STOPPED")).then(|| stopped(&task));
    let address = address(&task);
    let containers = task.containers.as_deref().unwrap_or_default().iter();
    let bindings = containers.flat_map(|container| container.network_bindings.as_deref().unwrap_or_default());
    let port = |number: Option<i32>| number.and_then(|number| u16::try_from(number).ok());
    let ports = bindings
        .filter_map(|binding| Some((port(binding.container_port)?, port(binding.host_port)?)))
        .collect();
    TaskState {
        address,
        ports,
        arn: task.task_arn.unwrap_or_default(),
        task_definition: task.task_definition_arn.unwrap_or_default(),
        last_status: task.last_status.unwrap_or_default(),
        desired_status: task.desired_status.unwrap_or_default(),
        healthy: match task.health_status {
            Some(HealthStatus::Healthy) => Some(true),
            Some(HealthStatus::Unhealthy) => Some(false),
            _ => None,
        },
        created: moment(task.created_at),
        stopped,
    }
}

/// The address in the VPC: of the task's network interface, as its attachment or its containers name it.
fn address(task: &aws_sdk_ecs::types::Task) -> Option<String> {
    let details = task.attachments.as_deref().unwrap_or_default().iter();
    let of_interface = details
        .flat_map(|attachment| attachment.details.as_deref().unwrap_or_default())
        .find(|pair| pair.name.as_deref() == Some("privateIPv4Address"))
        .and_then(|pair| pair.value.clone());
    let containers = task.containers.as_deref().unwrap_or_default().iter();
    let interfaces =
        containers.flat_map(|container| container.network_interfaces.as_deref().unwrap_or_default());
    of_interface.or_else(|| {
        interfaces
            .filter_map(|interface| interface.private_ipv4_address.clone())
            .next()
    })
}

fn stopped(task: &aws_sdk_ecs::types::Task) -> Stopped {
    let reason = task.stopped_reason.clone().unwrap_or_default();
    let containers = task.containers.as_deref().unwrap_or_default().iter();
    let of_containers = containers.filter_map(|container| {
        let name = container.name.as_deref().unwrap_or("?");
        match (container.exit_code, container.reason.as_deref()) {
            (_, Some(why)) => Some(format!("{name}: {why}")),
            (Some(code), None) if code != 0 => Some(format!("{name} ended with exit code {code}")),
            _ => None,
        }
    });
    let mut parts: Vec<String> = std::iter::once(reason.clone())
        .filter(|reason| !reason.is_empty())
        .collect();
    parts.extend(of_containers.filter(|part| !reason.contains(part.as_str())));
    let crashed = match &task.stop_code {
        Some(TaskStopCode::TaskFailedToStart | TaskStopCode::EssentialContainerExited) => true,
        // The scheduler stops what its health check fails; everything else it stops because it was told to.
        Some(TaskStopCode::ServiceSchedulerInitiated) => reason.contains("failed container health checks"),
        _ => false,
    };
    let text = if parts.is_empty() {
        "ECS gives no reason".to_owned()
    } else {
        parts.join("; ")
    };
    Stopped { crashed, text }
}

/// Keeps the body of an answer.
#[derive(Clone, Debug, Default)]
struct Body(Arc<Mutex<Option<Vec<u8>>>>);

impl Body {
    fn json(&self) -> Result<Value, String> {
        let kept = self.0.lock().ok().and_then(|mut body| body.take());
        let body = kept.ok_or("DescribeTaskDefinition: the answer is empty")?;
        serde_json::from_slice(&body).map_err(|error| format!("DescribeTaskDefinition: {error}"))
    }
}

impl Intercept for Body {
    fn name(&self) -> &'static str {
        "Body"
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().and_then(|response| response.body().bytes());
        if let (Some(body), Ok(mut kept)) = (body, self.0.lock()) {
            *kept = Some(body.to_vec());
        }
        Ok(())
    }
}
