//! The watchdog as a Lambda function, and as a command: what its environment says.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use worker::clock::Clock;

use super::{Outcome, Watchdog, of_event};
use crate::discretion::Discretion;
use crate::fleet::ecs::{Names, Options};
use crate::journal::S3Store;
use crate::moment::Moment;
use crate::notify::{Note, Notifier, Stage, Subscriber, Target};

/// Lambda sets it; where it is, the function serves events until it is stopped.
pub const RUNTIME: &str = "AWS_LAMBDA_RUNTIME_API";
/// What a wrong environment is called at Lambda.
const INVALID: &str = "Runtime.InvalidEnvironment";
/// How long people, and Lambda, may take to be told.
const TELL: Duration = Duration::from_secs(10);

/// What the environment says.
#[derive(Clone, Debug, PartialEq)]
pub struct Environment {
    /// The fleet.
    pub options: Options,
    /// The journal's place.
    pub journal: String,
    /// Whom to tell.
    pub topic: Option<String>,
}

impl Environment {
    /// Reads the variables that `deploy/cloudformation/release-safety.yaml` sets.
    ///
    /// # Errors
    /// Which one is missing or wrong.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Self> {
        let needed = |name: &str, example: &str| {
            variable(name)
                .filter(|value| !value.is_empty())
                .with_context(|| format!("{name} is not set; expected a value, as {example}"))
        };
        let parameter = |name: &str, example: &str| {
            let value = needed(name, example)?;
            match value.strip_prefix("ssm:") {
                Some(parameter) if parameter.starts_with('/') => Ok(parameter.to_owned()),
                _ => bail!("{name} is {value:?}; expected {example}"),
            }
        };
        let app = needed("CANARY_APP", "orders")?;
        let options = Options {
            cluster: needed("CANARY_CLUSTER", "orders")?,
            stable: format!("{app}-stable"),
            canary: format!("{app}-canary"),
            names: Names {
                control: parameter("CANARY_CONTROL", "ssm:/orders/canary/control")?,
                stable: parameter(
                    "CANARY_STABLE_TASK_DEFINITION",
                    "ssm:/orders/canary/stable-task-definition",
                )?,
            },
            container: "worker".to_owned(),
            tasks: 1,
            admin_port: None,
            ignored_alarms: Vec::new(),
            first: None,
            autoscaled: variable("CANARY_AUTOSCALING").as_deref() != Some("false"),
            app,
        };
        let topic = variable("CANARY_NOTIFY").filter(|topic| !topic.is_empty());
        if let Some(topic) = &topic {
            Target::sns(topic).map_err(|error| anyhow::anyhow!("CANARY_NOTIFY: {error}"))?;
        }
        Ok(Self {
            options,
            journal: needed("CANARY_JOURNAL", "s3://BUCKET/orders/journal.json")?,
            topic,
        })
    }
}

/// Looks once, and tells people what is news.
///
/// # Errors
/// When AWS refuses or cannot be reached.
pub async fn once(environment: &Environment, event: &Value) -> anyhow::Result<Outcome> {
    let config = crate::aws::from_environment().await;
    let store = S3Store::new(&config, &environment.journal)?;
    let options = environment.options.clone();
    let called = of_event(event, &options.app, &options.canary);
    let mut watchdog = Watchdog::new(&config, options, store, Clock::System);
    let outcome = watchdog.look(&called).await?;
    if let (Some(text), Some(topic)) = (&outcome.note, &environment.topic) {
        let now = Moment::from(Clock::System.now());
        let rollout = outcome.rollout.clone().unwrap_or_default();
        let subscriber = Subscriber {
            target: Target::sns(topic).map_err(anyhow::Error::msg)?,
            discretion: Discretion::Bounded,
        };
        let (notifier, bell) = Notifier::start(vec![subscriber]);
        bell.tell(&Note {
            schema: 1,
            id: format!("{rollout}-watchdog-{}", now.millis()),
            at: now,
            stage: Stage::Held,
            rollout,
            release: environment.options.app.clone(),
            baseline: None,
            text: text.clone(),
        });
        drop(bell);
        notifier.close(TELL).await;
    }
    Ok(outcome)
}

/// Serves events as a Lambda function, until Lambda stops it.
///
/// # Errors
/// When the environment is wrong, or Lambda's own endpoint cannot be reached.
pub async fn serve(environment: Environment) -> anyhow::Result<()> {
    let handler = service_fn(|event: LambdaEvent<Value>| {
        let environment = environment.clone();
        async move {
            let outcome = once(&environment, &event.payload).await;
            let outcome = outcome.map_err(|error| format!("{error:#}"))?;
            let line = json!({"app": environment.options.app, "outcome": outcome});
            println!("{line}");
            Ok::<Value, lambda_runtime::Error>(line)
        }
    });
    lambda_runtime::run(handler)
        .await
        .map_err(|error| anyhow::anyhow!("{error}"))
}

/// Tells Lambda that the function cannot start, and why: it shows that to whoever called, where an exit alone would only be a status.
///
/// Source: "Initialization error" in the Lambda developer guide's "Using the Lambda runtime API for custom runtimes".
pub async fn refuse(runtime: &str, error: &anyhow::Error) {
    let body = json!({"errorType": INVALID, "errorMessage": format!("{error:#}"), "stackTrace": []});
    let request = Request::post(format!("http://{runtime}/2018-06-01/runtime/init/error"))
        .header("content-type", "application/json")
        .header("lambda-runtime-function-error-type", INVALID)
        .body(Full::new(Bytes::from(body.to_string())));
    let Ok(request) = request else { return };
    let client = Client::builder(TokioExecutor::new()).build_http();
    // The error itself goes to the log and ends the process in any case; nobody is left to be told of another one.
    let _ = tokio::time::timeout(TELL, client.request(request)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "CANARY_APP" | "CANARY_CLUSTER" => "orders",
            "CANARY_JOURNAL" => "s3://b/orders/journal.json",
            "CANARY_CONTROL" => "ssm:/orders/canary/control",
            "CANARY_STABLE_TASK_DEFINITION" => "ssm:/orders/canary/stable-task-definition",
            "CANARY_NOTIFY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_templates_variables_are_understood_and_wrong_ones_named() {
        let environment = Environment::read(variables).unwrap();
        assert_eq!(environment.options.names, Names::of("orders"));
        assert_eq!(environment.options.canary, "orders-canary");
        assert_eq!(environment.topic, None);
        for (name, value, expected) in [
            ("CANARY_APP", "", "CANARY_APP is not set"),
            ("CANARY_CONTROL", "/orders", "CANARY_CONTROL is \"/orders\""),
            ("CANARY_NOTIFY", "somebody", "CANARY_NOTIFY"),
        ] {
            let wrong = |asked: &str| {
                if asked == name {
                    Some(value.to_owned())
                } else {
                    variables(asked)
                }
            };
            let error = format!("{:#}", Environment::read(wrong).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
