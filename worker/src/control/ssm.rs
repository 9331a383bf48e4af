//! The control document from a parameter of AWS Systems Manager.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::Builder;
use aws_sdk_ssm::config::retry::RetryConfig;
use aws_sdk_ssm::error::{DisplayErrorContext, ProvideErrorMetadata};

use super::source::{ReadError, Source};

const TIMEOUT: Duration = Duration::from_secs(4);

/// One parameter.
#[derive(Clone, Debug)]
pub struct Parameter {
    client: Client,
    name: String,
}

impl Parameter {
    /// The parameter called `name`, with the region, credentials and HTTP client of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig, name: impl Into<String>) -> Self {
        let config = Builder::from(config)
            .retry_config(RetryConfig::disabled()) // the next read is the retry
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
            .build();
        Self {
            client: Client::from_conf(config),
            name: name.into(),
        }
    }
}

impl Source for Parameter {
    async fn read(&self) -> Result<Option<String>, ReadError> {
        let answer = self.client.get_parameter().name(&self.name).send().await;
        let error = match answer {
            Ok(answer) => return Ok(answer.parameter.and_then(|parameter| parameter.value)),
            Err(error) => error,
        };
        match error.code() {
            Some("ParameterNotFound" | "ParameterVersionNotFound") => Ok(None),
            Some("ThrottlingException" | "TooManyUpdates" | "RequestLimitExceeded") => {
                Err(ReadError::Throttled(format!("parameter {}", self.name)))
            }
            _ => Err(ReadError::Failed(format!(
                "parameter {}: {}",
                self.name,
                DisplayErrorContext(&error)
            ))),
        }
    }
}
