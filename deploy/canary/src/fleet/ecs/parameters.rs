//! Two parameters of Systems Manager: the control document that workers read, and which revision is stable.

use aws_config::SdkConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::error::ProvideErrorMetadata;
use aws_sdk_ssm::types::ParameterType;
use serde::{Deserialize, Serialize};
use worker::control::{Document, Tracks};

use super::scaling::Held;
use crate::aws::said;
use crate::moment::Moment;

/// What the parameter of the stable revision says before the first release.
pub(super) const NONE: &str = "none";

/// Where the parameters are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of the control document.
    pub control: String,
    /// Of the stable revision.
    pub stable: String,
}

impl Names {
    /// Those of the application `app`: `/APP/canary/control` and `/APP/canary/stable-task-definition`.
    #[must_use]
    pub fn of(app: &str) -> Self {
        Self {
            control: format!("/{app}/canary/control"),
            stable: format!("/{app}/canary/stable-task-definition"),
        }
    }
}

/// The control document, with what the tool itself must not forget: workers ignore the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Control {
    #[serde(flatten)]
    pub(crate) document: Document,
    /// How autoscaling was before the rollout; there while it is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scaling: Option<Held>,
}

/// The parameters, read and written.
#[derive(Clone, Debug)]
pub(crate) struct Parameters {
    client: Client,
    pub(crate) names: Names,
}

impl Parameters {
    pub(crate) fn new(config: &SdkConfig, names: Names) -> Self {
        Self {
            client: Client::new(config),
            names,
        }
    }

    async fn get(&self, name: &str) -> Result<Option<String>, String> {
        match self.client.get_parameter().name(name).send().await {
            Ok(answer) => Ok(answer.parameter.and_then(|parameter| parameter.value)),
            Err(error) if error.code() == Some("ParameterNotFound") => Ok(None),
            Err(error) => Err(format!("{name}: {}", said!("GetParameter", error))),
        }
    }

    async fn put(&self, name: &str, value: &str) -> Result<(), String> {
        let call = self
            .client
            .put_parameter()
            .name(name)
            .value(value)
            .r#type(ParameterType::String)
            .overwrite(true);
        call.send()
            .await
            .map_err(|error| format!("{name}: {}", said!("PutParameter", error)))?;
        Ok(())
    }

    /// The ARN of the stable revision; none before the first release.
    pub(crate) async fn stable(&self) -> Result<Option<String>, String> {
        let value = self.get(&self.names.stable).await?;
        Ok(value.filter(|value| value != NONE && !value.is_empty()))
    }

    /// Writes the stable revision down, if it is not there yet.
    pub(crate) async fn set_stable(&self, arn: Option<&str>) -> Result<(), String> {
        let wanted = arn.unwrap_or(NONE);
        if self.get(&self.names.stable).await?.as_deref() == Some(wanted) {
            return Ok(());
        }
        self.put(&self.names.stable, wanted).await
    }

    /// The control document; none where there is none, or none that can be understood.
    pub(crate) async fn control(&self) -> Result<Option<Control>, String> {
        let text = self.get(&self.names.control).await?;
        // What a person has broken is written anew: there is nobody to whom it says anything.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Writes the control document with a higher epoch than `before` had.
    pub(crate) async fn set_control(
        &self,
        before: Option<&Control>,
        tracks: &Tracks,
        scaling: Option<Held>,
        now: Moment,
    ) -> Result<Control, String> {
        let epoch = before.map_or(0, |control| control.document.epoch);
        let control = Control {
            document: Document {
                schema: worker::control::document::SCHEMA,
                // Milliseconds, so that a parameter that was deleted does not make later documents look old.
                epoch: now.millis().max(epoch.saturating_add(1)),
                tracks: tracks.clone(),
            },
            scaling,
        };
        let text = serde_json::to_string(&control).map_err(|error| error.to_string())?;
        self.put(&self.names.control, &text).await?;
        Ok(control)
    }
}
