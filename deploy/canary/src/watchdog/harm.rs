//! What speaks against a release when nobody judges it: the application's alarms, and deployments that ECS gave up.

use std::fmt;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::StateValue;
use serde_json::Value;

use crate::aws::said;

/// What is known against a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Harm {
    /// On the canary service.
    pub canary: bool,
    /// On the stable service.
    pub stable: bool,
    /// Whether the build in which the tool ran has stopped: it will not come back by itself.
    pub build_stopped: bool,
    /// What, in words.
    pub words: Vec<String>,
}

impl Harm {
    /// Both together.
    #[must_use]
    pub fn and(&self, other: Self) -> Self {
        let mut words = self.words.clone();
        words.extend(other.words.into_iter().filter(|word| !self.words.contains(word)));
        Self {
            canary: self.canary || other.canary,
            stable: self.stable || other.stable,
            build_stopped: self.build_stopped || other.build_stopped,
            words,
        }
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.canary || self.stable
    }

    fn tell(&mut self, canary: bool, word: String) {
        if canary {
            self.canary = true;
        } else {
            self.stable = true;
        }
        self.words.push(word);
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words.join(", "))
    }
}

/// The alarms that speak of a track, without the application's name, and whether of the canary's.
const ALARMS: [(&str, bool); 3] = [
    ("canary-failing", true),
    ("stable-failing", false),
    ("stable-idle", false),
];

/// What an event says by itself: an alarm that calls, a build that has stopped, a deployment that ECS gave up. Anything else, the
/// clock's call among it, says nothing.
#[must_use]
pub fn of_event(event: &Value, app: &str, canary_service: &str) -> Harm {
    let mut harm = Harm::default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match event["source"].as_str() {
        Some("aws.cloudwatch") => {
            let alarm = text(&event["alarmData"]["alarmName"]);
            let raised = event["alarmData"]["state"]["value"] == "ALARM";
            for (name, canary) in ALARMS {
                if raised && alarm == format!("{app}-{name}") {
                    harm.tell(canary, format!("the alarm {alarm} is raised"));
                }
            }
        }
        Some("aws.codebuild") => harm.build_stopped = true,
        Some("aws.ecs") if event["detail"]["eventName"] == "SERVICE_DEPLOYMENT_FAILED" => {
            let resources = event["resources"].as_array().into_iter().flatten();
            for service in resources.filter_map(Value::as_str) {
                let name = service.rsplit('/').next().unwrap_or(service);
                let reason = text(&event["detail"]["reason"]);
                let canary = name == canary_service;
                harm.tell(
                    canary,
                    format!("ECS has given up a deployment of {name}: {reason}"),
                );
            }
        }
        _ => {}
    }
    harm
}

/// The application's alarms.
#[derive(Debug)]
pub(super) struct Alarms {
    client: Client,
    app: String,
}

impl Alarms {
    pub(super) fn new(config: &SdkConfig, app: &str) -> Self {
        Self {
            client: Client::new(config),
            app: app.to_owned(),
        }
    }

    /// Which are raised now.
    pub(super) async fn ask(&self) -> Result<Harm, String> {
        let names = ALARMS.iter().map(|(name, _)| format!("{}-{name}", self.app));
        let call = self
            .client
            .describe_alarms()
            .set_alarm_names(Some(names.collect()))
            .state_value(StateValue::Alarm);
        let answer = call
            .send()
            .await
            .map_err(|error| said!("DescribeAlarms", error))?;
        let raised = answer.metric_alarms.unwrap_or_default();
        let mut harm = Harm::default();
        for (name, canary) in ALARMS {
            let whole = format!("{}-{name}", self.app);
            if raised
                .iter()
                .any(|alarm| alarm.alarm_name.as_deref() == Some(&whole))
            {
                harm.tell(canary, format!("the alarm {whole} is raised"));
            }
        }
        Ok(harm)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_read_as_aws_sends_them() {
        let read = |event: Value| of_event(&event, "orders", "orders-canary");
        let alarm = |name: &str, state: &str| {
            json!({"source": "aws.cloudwatch", "alarmArn": format!("arn:aws:cloudwatch:us-east-1:1:alarm:{name}"),
                   "accountId": "1", "time": "2026-01-01T00:00:00.000+0000", "region": "us-east-1",
                   "alarmData": {"alarmName": name, "state": {"value": state, "reason": "1 datapoint"},
                                 "previousState": {"value": "OK"}}})
        };
        assert!(read(alarm("orders-canary-failing", "ALARM")).canary);
        assert!(read(alarm("orders-stable-idle", "ALARM")).stable);
        assert_eq!(read(alarm("orders-stable-idle", "OK")), Harm::default());
        assert_eq!(read(alarm("orders-oldest-message", "ALARM")), Harm::default());
        let build = json!({"source": "aws.codebuild", "detail-type": "CodeBuild Build State Change",
                           "detail": {"build-status": "STOPPED", "project-name": "orders-canary"}});
        assert!(read(build.clone()).build_stopped && !read(build).is_any());
        let deployment = |service: &str| {
            json!({"source": "aws.ecs", "detail-type": "ECS Deployment State Change",
                   "resources": [format!("arn:aws:ecs:us-east-1:1:service/orders/{service}")],
                   "detail": {"eventType": "ERROR", "eventName": "SERVICE_DEPLOYMENT_FAILED",
                              "deploymentId": "ecs-svc/1", "reason": "ECS deployment circuit breaker: task failed to start."}})
        };
        assert!(read(deployment("orders-canary")).canary);
        assert!(read(deployment("orders-stable")).stable);
        for other in [json!({"source": "schedule"}), json!({}), json!("x"), Value::Null] {
            assert_eq!(read(other), Harm::default());
        }
    }
}
