//! How AWS is called: region, credentials, retries, and what its errors are called.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, tls};

/// How long one try of a call may take.
const TRY: Duration = Duration::from_secs(10);
/// How long a call may take with all its tries.
const CALL: Duration = Duration::from_secs(90);
/// Tries of a call: throttling, and answers of 500 and more, are common on a busy account.
const TRIES: u32 = 8;

/// Region, credentials and endpoint as the AWS SDKs find them: environment, profile, container, instance.
///
/// Calls are tried up to 8 times with growing, jittered pauses, in 90 s at most; what AWS refuses for good is not tried again.
pub async fn from_environment() -> SdkConfig {
    let http = HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(TRY)
        .operation_timeout(CALL)
        .build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .retry_config(retries())
        .timeout_config(timeouts)
        .load()
        .await
}

/// How calls are tried again.
pub(crate) fn retries() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(TRIES)
        .with_initial_backoff(Duration::from_millis(500))
        .with_max_backoff(Duration::from_secs(10))
}

/// What AWS said to a call, in a line: `UpdateService: ServiceNotFoundException: …`.
macro_rules! said {
    ($call:expr, $error:expr) => {{
        let error = $error;
        let (code, message) = {
            use aws_sdk_ecs::error::ProvideErrorMetadata as _;
            (
                error.code().map(str::to_owned),
                error.message().map(str::to_owned),
            )
        };
        match (code, message) {
            (Some(code), Some(message)) => format!("{}: {code}: {message}", $call),
            (Some(code), None) => format!("{}: {code}", $call),
            (None, _) => format!("{}: {}", $call, aws_sdk_ecs::error::DisplayErrorContext(&error)),
        }
    }};
}
pub(crate) use said;
