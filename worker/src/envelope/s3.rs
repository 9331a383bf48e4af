//! Payloads in Amazon S3.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectError;

use super::pointer::Pointer;
use super::{PAYLOAD_MISSING, PAYLOAD_REFUSED, Payloads};
use crate::handler::{Outcome, Reason};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Until the answer begins; the attempt's deadline bounds the rest.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The objects of one account and region.
#[derive(Clone, Debug)]
pub struct S3(Client);

impl S3 {
    /// With the region, credentials and endpoint of `config`. The SDK tries twice; then the message waits in place.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT);
        // A name of its own for each bucket is more than an emulator's endpoint has.
        let path_style = config.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
        let config = aws_sdk_s3::config::Builder::from(config)
            .force_path_style(path_style)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts.build())
            .build();
        Self(Client::from_conf(config))
    }
}

impl Payloads for S3 {
    async fn fetch(&self, pointer: &Pointer, max: usize) -> Result<String, Outcome> {
        let request = self.0.get_object().bucket(&pointer.bucket).key(&pointer.key);
        let mut object = request.send().await.map_err(|error| outcome(pointer, &error))?;
        let refused = |bytes: u64| {
            let error =
                format!("{pointer}: {bytes} bytes or more; expected at most envelope.s3_max_bytes ({max})");
            Outcome::reject(PAYLOAD_REFUSED, error)
        };
        let length = object
            .content_length
            .and_then(|length| u64::try_from(length).ok());
        if let Some(length) = length.filter(|length| *length > max as u64) {
            return Err(refused(length));
        }
        let mut body = Vec::new();
        // The length is the server's word: what comes is counted as well. Bounded by `max`.
        while let Some(part) = object.body.next().await {
            let part = part.map_err(|error| Outcome::unavailable(format!("{pointer}: {error}")))?;
            if body.len() + part.len() > max {
                return Err(refused((body.len() + part.len()) as u64));
            }
            body.extend_from_slice(&part);
        }
        String::from_utf8(body)
            .map_err(|_| Outcome::reject(Reason::UNDECODABLE, format!("{pointer}: no UTF-8; expected text")))
    }
}

/// What a failed request makes of the attempt: a payload that is gone does not come back, all else may.
fn outcome<R>(pointer: &Pointer, error: &SdkError<GetObjectError, R>) -> Outcome
where
    R: std::fmt::Debug,
{
    let service = error.as_service_error();
    let code = service.and_then(ProvideErrorMetadata::code);
    if service.is_some_and(GetObjectError::is_no_such_key) || code == Some("NoSuchKey") {
        return Outcome::reject(PAYLOAD_MISSING, format!("{pointer}: there is no such object"));
    }
    // Access denied, too: a role that lacks a permission is not the message's fault.
    let text = match code {
        Some(code) => code.to_owned(),
        None => DisplayErrorContext(error).to_string(),
    };
    Outcome::unavailable(format!("{pointer}: {text}"))
}
