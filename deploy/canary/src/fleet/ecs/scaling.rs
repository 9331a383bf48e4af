//! Autoscaling of the stable service during a rollout: out as ever, in not at all.
//!
//! The canary takes work off the stable service, which autoscaling would answer by taking tasks away: those that must carry
//! everything again when the canary is rolled back. How it was before is written into the control document before anything is changed,
//! and put back at the end: by the tool, by the one that is started after it, or by the watchdog.

use aws_config::SdkConfig;
use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::types::{
    ScalableDimension, ScalableTarget, ServiceNamespace, SuspendedState,
};
use serde::{Deserialize, Serialize};

use crate::aws::said;

/// How autoscaling was before it was held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The fewest tasks.
    pub(crate) min: u32,
    /// Whether somebody else had suspended scale-in.
    pub(crate) suspended: bool,
}

/// Autoscaling of one service.
#[derive(Clone, Debug)]
pub(crate) struct Scaling {
    client: Client,
    resource: String,
}

impl Scaling {
    pub(crate) fn new(config: &SdkConfig, cluster: &str, service: &str) -> Self {
        Self {
            client: Client::new(config),
            resource: format!("service/{cluster}/{service}"),
        }
    }

    async fn target(&self) -> Result<Option<ScalableTarget>, String> {
        let call = self
            .client
            .describe_scalable_targets()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_ids(&self.resource)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount);
        let answer = call
            .send()
            .await
            .map_err(|error| said!("DescribeScalableTargets", error))?;
        Ok(answer.scalable_targets.unwrap_or_default().into_iter().next())
    }

    /// How it is; none where nothing scales the service.
    pub(crate) async fn now(&self) -> Result<Option<Held>, String> {
        Ok(self.target().await?.map(|target| Held {
            min: u32::try_from(target.min_capacity).unwrap_or(0),
            suspended: suspended(&target).dynamic_scaling_in_suspended.unwrap_or(false),
        }))
    }

    /// Suspends scale-in and keeps at least `tasks` tasks, one in any case: what the canary hands over must find somebody.
    pub(crate) async fn hold(&self, tasks: u32) -> Result<(), String> {
        self.set(
            |min| min.max(i32::try_from(tasks.max(1)).unwrap_or(i32::MAX)),
            true,
        )
        .await
    }

    /// As it was.
    pub(crate) async fn restore(&self, held: Held) -> Result<(), String> {
        let min = i32::try_from(held.min).unwrap_or(i32::MAX);
        self.set(|_| min, held.suspended).await
    }

    async fn set(&self, min: impl Fn(i32) -> i32, in_suspended: bool) -> Result<(), String> {
        let Some(target) = self.target().await? else {
            return Ok(());
        };
        let before = suspended(&target);
        let (least, most) = (target.min_capacity, target.max_capacity);
        let wanted = min(least).min(most);
        if least == wanted && before.dynamic_scaling_in_suspended.unwrap_or(false) == in_suspended {
            return Ok(());
        }
        let state = SuspendedState::builder()
            .dynamic_scaling_in_suspended(in_suspended)
            .set_dynamic_scaling_out_suspended(before.dynamic_scaling_out_suspended)
            .set_scheduled_scaling_suspended(before.scheduled_scaling_suspended)
            .build();
        let call = self
            .client
            .register_scalable_target()
            .service_namespace(ServiceNamespace::Ecs)
            .resource_id(&self.resource)
            .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
            .min_capacity(wanted)
            .suspended_state(state);
        call.send()
            .await
            .map_err(|error| said!("RegisterScalableTarget", error))?;
        Ok(())
    }
}

fn suspended(target: &ScalableTarget) -> SuspendedState {
    target
        .suspended_state
        .clone()
        .unwrap_or_else(|| SuspendedState::builder().build())
}
