//! What is looked at before a rollout begins. Nothing is changed.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{AlarmType, StateValue};
use worker::queue::{Description, Queue};
use worker::release::Release;
use worker::sqs::Sqs;

use super::api::{RolloutState, ServiceState};
use super::definition::{Definition, is_pinned};
use super::{Ecs, arn};
use crate::aws::said;
use crate::fleet::Service;
use crate::rollout::{Definition as Runs, Facts, Revision};

/// How long SQS may take to describe a queue.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pages of alarms that are read: 100 each.
const PAGES: usize = 20;

/// What the checks ask besides ECS.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) config: SdkConfig,
    pub(super) cloudwatch: Client,
    queues: Queues,
}

/// Who describes queues.
#[derive(Debug)]
enum Queues {
    Sqs(Sqs),
    /// The worker's adapter brings its own HTTP client, which knows no simulated AWS.
    #[cfg(test)]
    Simulated,
}

impl Queues {
    async fn describe(&self, url: &str) -> Result<Description, String> {
        match self {
            Self::Sqs(sqs) => sqs
                .queue(url)
                .description()
                .await
                .map_err(|error| error.to_string()),
            #[cfg(test)]
            Self::Simulated => Ok(super::fake::queue(url)),
        }
    }
}

impl Clients {
    pub(super) fn new(config: &SdkConfig) -> Self {
        Self {
            config: config.clone(),
            cloudwatch: Client::new(config),
            queues: Queues::Sqs(Sqs::new(config, PATIENCE)),
        }
    }

    #[cfg(test)]
    pub(super) fn simulated(config: &SdkConfig) -> Self {
        Self {
            queues: Queues::Simulated,
            ..Self::new(config)
        }
    }
}

impl Ecs {
    pub(super) async fn preflight(&mut self, candidate: &Revision) -> Result<Facts, String> {
        let states = self.states().await?;
        let (stable, canary) = (&states[&Service::Stable], &states[&Service::Canary]);
        self.at_rest(stable, canary)?;
        let recorded = self.parameters.stable().await?;
        if let Some(recorded) = recorded.as_ref().filter(|arn| **arn != stable.task_definition) {
            return Err(format!(
                "the parameter {} says {recorded}, and {} runs {}: after a failed stack update, or a release by hand. \
                 Put the right one in both (deploy/README.md), then try again",
                self.parameters.names.stable, self.options.stable, stable.task_definition
            ));
        }
        let after = self.definition(arn(candidate).map_err(|error| error.0)?).await?;
        let before = if recorded.is_none() && stable.desired == 0 {
            None
        } else {
            Some(self.definition(&stable.task_definition).await?)
        };
        let mut wrong = definitions(&self.parameters.names.control, candidate, &after, before.as_ref());
        wrong.extend(self.alarms().await?);
        wrong.extend(self.queues(&after).await);
        let room = self.room(&states, &after).await;
        self.noted.extend(room.notes);
        if !wrong.is_empty() {
            wrong.extend(room.wrong);
            return Err(wrong.join("; "));
        }
        let baseline = before.as_ref().map(revision).transpose()?;
        Ok(Facts {
            baseline,
            lacks: room.wrong,
        })
    }

    /// Nobody else may be at work on the services.
    fn at_rest(&self, stable: &ServiceState, canary: &ServiceState) -> Result<(), String> {
        for (name, state) in [(&self.options.stable, stable), (&self.options.canary, canary)] {
            let under_way = state
                .deployments
                .iter()
                .any(|deployment| deployment.primary && deployment.state == RolloutState::InProgress);
            if under_way && state.desired > 0 || state.deployments.len() > 1 {
                return Err(format!(
                    "{name} is being deployed by somebody else; expected a steady service: `aws ecs wait services-stable` waits for it"
                ));
            }
        }
        if canary.desired > 0 {
            return Err(format!(
                "{} is to have {} tasks, and no rollout is under way; expected 0: somebody else tries a release, or a rollout was \
                 left behind. `aws ecs update-service --cluster {} --service {} --desired-count 0` ends it",
                self.options.canary, canary.desired, self.options.cluster, self.options.canary
            ));
        }
        Ok(())
    }

    /// The application's alarms that are in ALARM: in such a state the release would be judged by another's fault.
    async fn alarms(&self) -> Result<Vec<String>, String> {
        let (mut alarms, mut next) = (Vec::new(), None);
        for _ in 0..PAGES {
            let call = self
                .checks
                .cloudwatch
                .describe_alarms()
                .alarm_name_prefix(format!("{}-", self.options.app))
                .alarm_types(AlarmType::MetricAlarm)
                .state_value(StateValue::Alarm)
                .set_next_token(next.take());
            let answer = call
                .send()
                .await
                .map_err(|error| said!("DescribeAlarms", error))?;
            alarms.extend(answer.metric_alarms.unwrap_or_default());
            next = answer.next_token;
            if next.is_none() {
                break;
            }
        }
        let names = alarms.into_iter().filter_map(|alarm| alarm.alarm_name);
        let names: Vec<String> = names
            .filter(|name| !self.options.ignored_alarms.contains(name))
            .collect();
        Ok(names
            .iter()
            .map(|name| {
                format!("the alarm {name} is in ALARM; expected OK, or its name in fleet.ignored_alarms")
            })
            .collect())
    }

    async fn queues(&self, after: &Definition) -> Vec<String> {
        let environment = after.environment();
        let mut found = BTreeMap::new();
        let mut wrong = Vec::new();
        for variable in [QUEUE, DEAD, HANDOVER] {
            let Some(url) = environment.get(variable).filter(|url| !url.is_empty()) else {
                continue;
            };
            match self.checks.queues.describe(url).await {
                Ok(description) => {
                    found.insert(variable, description);
                }
                Err(error) => wrong.push(format!("{variable}: {url}: {error}")),
            }
        }
        if wrong.is_empty() {
            wrong = misfits(&found);
        }
        wrong
    }
}

const QUEUE: &str = "WORKER__QUEUE__URL";
const DEAD: &str = "WORKER__DLQ__URL";
const HANDOVER: &str = "WORKER__HANDOVER__URL";
const CONTROL: &str = "WORKER__CONTROL__SOURCE";
const SINK: &str = "WORKER__CLOUDWATCH__SINK";

/// What is stable, as a revision.
fn revision(definition: &Definition) -> Result<Revision, String> {
    Ok(Revision {
        release: definition.release()?,
        definition: Runs::Ecs {
            task_definition: definition.arn().to_owned(),
            image: definition.image().to_owned(),
            set: BTreeMap::new(),
            environment: definition.environment(),
        },
    })
}

/// What does not fit in the two task definitions.
fn definitions(
    control: &str,
    candidate: &Revision,
    after: &Definition,
    before: Option<&Definition>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let release = &candidate.release;
    match after.release() {
        Ok(named) if named != *release => wrong.push(format!(
            "{} says that it is release {named}; expected {release}",
            after.name()
        )),
        Ok(_) => {}
        Err(error) => wrong.push(error),
    }
    if !after.is_active() {
        wrong.push(format!(
            "{} is not ACTIVE; expected a revision that can be run",
            after.name()
        ));
    }
    if !is_pinned(after.image()) {
        wrong.push(format!(
            "the image of {} is {:?}; expected one by digest, REPOSITORY@sha256:DIGEST",
            after.name(),
            after.image()
        ));
    }
    let environment = after.environment();
    let source = environment.get(CONTROL).map_or("", String::as_str);
    if source != format!("ssm:{control}") {
        wrong.push(format!(
            "{CONTROL} of {} is {source:?}; expected \"ssm:{control}\", or the canary hears nobody",
            after.name()
        ));
    }
    if !environment.contains_key(QUEUE) {
        wrong.push(format!(
            "{} has no {QUEUE}; expected the URL of the queue",
            after.name()
        ));
    }
    if let Some(before) = before {
        wrong.extend(pair(release, before, after));
    }
    let both = before.into_iter().chain([after]);
    wrong.extend(both.filter_map(silent));
    wrong
}

/// What does not fit between what runs and what is to run.
fn pair(release: &Release, before: &Definition, after: &Definition) -> Vec<String> {
    let mut wrong = Vec::new();
    let environment = after.environment();
    match before.release() {
        Ok(named) if named == *release => wrong.push(format!(
            "stable runs release {release} already ({}); expected another name: one release is one configuration",
            before.name()
        )),
        Ok(_) => {}
        Err(error) => wrong.push(error),
    }
    let earlier = before.environment();
    for variable in [QUEUE, DEAD] {
        if earlier.get(variable) != environment.get(variable) {
            wrong.push(format!(
                "{variable} is {:?} in {} and {:?} in {}; expected the same: two releases are compared on one queue",
                earlier.get(variable).map_or("", String::as_str),
                before.name(),
                environment.get(variable).map_or("", String::as_str),
                after.name()
            ));
        }
    }
    let handed_over = environment.get(HANDOVER).filter(|url| !url.is_empty());
    if handed_over.is_some() && earlier.get(HANDOVER) != handed_over {
        wrong.push(format!(
            "{} does not poll the handover queue of {}; expected {HANDOVER} to be the same in both, or what the canary fails waits for ever",
            before.name(),
            after.name()
        ));
    }
    wrong
}

/// Why nothing would be known of a definition's work, if that is so.
fn silent(definition: &Definition) -> Option<String> {
    let sink = definition.environment().get(SINK).cloned().unwrap_or_default();
    let known = ["api", "emf"].contains(&sink.as_str());
    (!known).then(|| {
        format!(
            "{SINK} of {} is {sink:?}; expected api or emf: without it nothing is known of its work",
            definition.name()
        )
    })
}

/// What does not fit between the queues.
fn misfits(found: &BTreeMap<&str, Description>) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(main) = found.get(QUEUE) else {
        return wrong;
    };
    if main.fifo {
        wrong.push(format!(
            "{} is a FIFO queue, whose order ties releases together; expected a standard queue. Release by a rolling update",
            main.name()
        ));
    }
    let dead = found.get(DEAD).map(|queue| queue.arn.as_str());
    for (variable, queue) in found.iter().filter(|(variable, _)| **variable != DEAD) {
        let Some(policy) = &queue.redrive else {
            wrong.push(format!(
                "{variable}: {} has no redrive policy; expected one: a message that crashes its worker comes back for ever",
                queue.name()
            ));
            continue;
        };
        if dead.is_some_and(|dead| dead != policy.target_arn) {
            wrong.push(format!(
                "{variable}: the redrive policy of {} names {}; expected {}, the {DEAD}",
                queue.name(),
                policy.target_arn,
                dead.unwrap_or_default()
            ));
        }
        if policy.max_receive_count < 2 {
            wrong.push(format!(
                "{variable}: maxReceiveCount of {} is {}; expected 2 at least, better 5: a single crash of a canary would dead-letter",
                queue.name(),
                policy.max_receive_count
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use worker::queue::RedrivePolicy;

    fn definition(release: &str, change: &[(&str, &str)]) -> Definition {
        let mut input: serde_json::Value =
            serde_json::from_str(include_str!("../../../../task-definitions/worker.json")).unwrap();
        input["taskDefinitionArn"] =
            json!(format!("arn:aws:ecs:r:1:task-definition/orders-worker:{release}"));
        let definition = Definition::read(input.clone(), "worker").unwrap();
        let mut environment = definition.environment();
        environment.insert("WORKER__RELEASE".to_owned(), release.to_owned());
        for (name, value) in change {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let pairs = environment
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}));
        input["containerDefinitions"][0]["environment"] = pairs.collect();
        Definition::read(input, "worker").unwrap()
    }

    fn faults(after: &[(&str, &str)], before: &[(&str, &str)]) -> Vec<String> {
        let candidate = revision(&definition("2", &[])).unwrap();
        definitions(
            "/orders/canary/control",
            &candidate,
            &definition("2", after),
            Some(&definition("1", before)),
        )
    }

    #[test]
    fn task_definitions_that_do_not_fit_are_named_with_the_variable() {
        assert_eq!(faults(&[], &[]), [""; 0]);
        let cases: [(&[_], &[_], &str); 6] = [
            (&[("WORKER__RELEASE", "3")], &[], "release 3; expected 2"),
            (&[], &[("WORKER__RELEASE", "2")], "stable runs release 2 already"),
            (&[(CONTROL, "file:x")], &[], CONTROL),
            (&[(QUEUE, "https://sqs/other")], &[], QUEUE),
            (&[], &[(HANDOVER, "")], "does not poll the handover queue"),
            (&[], &[(SINK, "off")], SINK),
        ];
        for (after, before, expected) in cases {
            let faults = faults(after, before);
            assert!(
                faults.len() == 1 && faults[0].contains(expected),
                "{expected}: {faults:?}"
            );
        }
    }

    #[test]
    fn queues_that_lose_messages_are_named() {
        let queue = |name: &str, target: Option<(&str, u32)>| Description {
            arn: format!("arn:aws:sqs:r:1:{name}"),
            fifo: false,
            visibility_timeout: Duration::from_secs(30),
            max_message_bytes: 1 << 20,
            retention: Duration::from_secs(3600),
            redrive: target.map(|(target, max_receive_count)| RedrivePolicy {
                target_arn: format!("arn:aws:sqs:r:1:{target}"),
                max_receive_count,
            }),
            visible: 0,
        };
        let good = || {
            BTreeMap::from([
                (QUEUE, queue("orders", Some(("dlq", 5)))),
                (HANDOVER, queue("handover", Some(("dlq", 5)))),
                (DEAD, queue("dlq", None)),
            ])
        };
        assert_eq!(misfits(&good()), [""; 0]);
        for (variable, bad, expected) in [
            (QUEUE, queue("orders", None), "no redrive policy"),
            (QUEUE, queue("orders", Some(("dlq", 1))), "maxReceiveCount"),
            (
                HANDOVER,
                queue("handover", Some(("other", 5))),
                "names arn:aws:sqs:r:1:other",
            ),
            (
                QUEUE,
                Description {
                    fifo: true,
                    ..queue("orders.fifo", Some(("dlq", 5)))
                },
                "FIFO",
            ),
        ] {
            let mut queues = good();
            queues.insert(variable, bad);
            let faults = misfits(&queues);
            assert!(faults.len() == 1 && faults[0].contains(expected), "{faults:?}");
        }
    }
}
