//! What the SDK's errors mean to the worker.

use aws_sdk_sqs::error::{BuildError, DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::queue::{ErrorKind, QueueError};

/// What the SDK says, before any request, when it was told no region.
const NO_REGION: [&str; 2] = ["missing signing region", "Missing Region"];

/// What it says of an endpoint that is no URL; the endpoint follows.
const BAD_ENDPOINT: &str = "failed to apply endpoint `";

/// What it says when none of its places has credentials; a list of them follows.
const NO_CREDENTIALS: &str = "no credentials found in chain";

/// The kind for an error code of SQS and the text beside it.
///
/// A handle that has expired, or that a later receive made worthless, has no code of its own: SQS calls it an invalid
/// value of a parameter, and only the text says of which.
pub(super) fn kind_of(code: &str, text: Option<&str>) -> Option<ErrorKind> {
    let invalid = matches!(
        short(code),
        "InvalidParameterValue" | "InvalidParameterValueException"
    );
    if invalid && text.is_some_and(|text| text.contains("parameter ReceiptHandle")) {
        return Some(ErrorKind::Receipt);
    }
    kind_of_code(code)
}

fn short(code: &str) -> &str {
    code.rsplit(['.', '#']).next().unwrap_or(code)
}

/// The kind for an error code of SQS, as the JSON protocol or the older query protocol spells it.
fn kind_of_code(code: &str) -> Option<ErrorKind> {
    let code = short(code);
    Some(match code {
        "RequestThrottled"
        | "ThrottlingException"
        | "Throttling"
        | "KmsThrottled"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown" => ErrorKind::Throttled,
        "InternalError" | "InternalFailure" | "ServiceUnavailable" | "InternalServerError" => {
            ErrorKind::Server
        }
        "OverLimit" => ErrorKind::OverLimit,
        "AccessDenied"
        | "AccessDeniedException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "InvalidSecurity"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignature"
        | "OptInRequired"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired"
        | "KmsAccessDenied"
        | "KmsDisabled"
        | "KmsInvalidState"
        | "KmsNotFound"
        | "KmsOptInRequired"
        | "KmsInvalidKeyUsage" => ErrorKind::Denied,
        "QueueDoesNotExist" | "NonExistentQueue" | "QueueDeletedRecently" => ErrorKind::NoQueue,
        "ReceiptHandleIsInvalid" | "MessageNotInflight" => ErrorKind::Receipt,
        _ => return None,
    })
}

/// An error of a whole call.
pub(super) fn queue_error<E, R>(error: SdkError<E, R>) -> QueueError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + StatusCode,
{
    match &error {
        SdkError::TimeoutError(_) => timed_out(),
        SdkError::DispatchFailure(failure) => {
            let detail = failure.as_connector_error().map_or_else(
                || DisplayErrorContext(&error).to_string(),
                |connector| chain(connector),
            );
            if failure.is_timeout() {
                return QueueError::new(ErrorKind::Timeout, detail);
            }
            // All else is transport, a connection that breaks before its answer included, which the SDK calls `other` as well.
            before_any_request(&detail).unwrap_or_else(|| QueueError::new(ErrorKind::Network, detail))
        }
        SdkError::ResponseError(_) => QueueError::new(ErrorKind::Answer, chain(&error)),
        SdkError::ServiceError(service) => {
            let (code, text) = (service.err().code(), service.err().message());
            let by_code = code.and_then(|code| kind_of(code, text));
            let kind = by_code.unwrap_or_else(|| kind_of_status(service.raw().status_code()));
            let code = code.unwrap_or("no error code");
            let text = text.map_or_else(String::new, |text| format!(": {}", line(text)));
            QueueError::new(
                kind,
                format!("{code}{text} (HTTP {})", service.raw().status_code()),
            )
        }
        // Construction failures come before any request: a region or credentials that cannot be had.
        SdkError::ConstructionFailure(_) | _ => {
            let detail = chain(&error);
            before_any_request(&detail).unwrap_or_else(|| QueueError::new(ErrorKind::Invalid, detail))
        }
    }
}

/// The status of a raw answer; a trait, so that tests need no HTTP.
pub(super) trait StatusCode {
    fn status_code(&self) -> u16;
}

impl StatusCode for aws_sdk_sqs::config::http::HttpResponse {
    fn status_code(&self) -> u16 {
        self.status().as_u16()
    }
}

fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        429 => ErrorKind::Throttled,
        401 | 403 => ErrorKind::Denied,
        400..500 => ErrorKind::Invalid,
        500.. => ErrorKind::Server,
        _ => ErrorKind::Answer,
    }
}

/// What keeps the SDK from asking at all: no region, an endpoint that is none, no credentials.
fn before_any_request(detail: &str) -> Option<QueueError> {
    if NO_REGION.iter().any(|text| detail.contains(text)) {
        let text = "no region; expected one, as AWS_REGION or in the profile";
        return Some(QueueError::new(ErrorKind::Denied, text));
    }
    if let Some((_, rest)) = detail.split_once(BAD_ENDPOINT) {
        let endpoint = rest.split('`').next().unwrap_or_default();
        let expected =
            "expected a URL with scheme and host, as AWS_ENDPOINT_URL or endpoint_url of the profile";
        return Some(QueueError::new(
            ErrorKind::Invalid,
            format!("the endpoint is {endpoint:?}; {expected}"),
        ));
    }
    if !detail.contains("credential") && !detail.contains("identity") {
        return None;
    }
    let why = if detail.contains(NO_CREDENTIALS) {
        String::new()
    } else {
        format!("; {detail}")
    };
    Some(QueueError::new(
        ErrorKind::Denied,
        format!(
            "no credentials; looked for AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, AWS_WEB_IDENTITY_TOKEN_FILE, \
             the container's role and the instance's{why}"
        ),
    ))
}

/// An error and its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = line(&error.to_string());
    let mut source = error.source();
    // Chains of errors end; this one is bounded all the same.
    for _ in 0..8 {
        let Some(error) = source else { break };
        let next = line(&error.to_string());
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn timed_out() -> QueueError {
    QueueError::new(ErrorKind::Timeout, "no answer within the timeout")
}

pub(super) fn incomplete(field: &str) -> QueueError {
    QueueError::new(ErrorKind::Answer, format!("the answer lacks {field}"))
}

pub(super) fn unbuildable(error: BuildError) -> QueueError {
    QueueError::new(ErrorKind::Invalid, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_protocols_are_known() {
        for (code, kind) in [
            ("AWS.SimpleQueueService.NonExistentQueue", ErrorKind::NoQueue),
            ("com.amazonaws.sqs#QueueDoesNotExist", ErrorKind::NoQueue),
            ("ReceiptHandleIsInvalid", ErrorKind::Receipt),
            ("AWS.SimpleQueueService.MessageNotInflight", ErrorKind::Receipt),
            ("RequestThrottled", ErrorKind::Throttled),
            ("KmsThrottled", ErrorKind::Throttled),
            ("InvalidClientTokenId", ErrorKind::Denied),
            ("OverLimit", ErrorKind::OverLimit),
        ] {
            assert_eq!(kind_of_code(code), Some(kind), "{code}");
        }
        assert_eq!(kind_of_code("InvalidParameterValue"), None);
    }

    #[test]
    fn a_worthless_handle_is_told_from_other_invalid_values() {
        let handle =
            "Value AQEB for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.";
        let time = "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout is beyond the limit.";
        for code in [
            "InvalidParameterValue",
            "com.amazon.coral.service#InvalidParameterValueException",
        ] {
            assert_eq!(kind_of(code, Some(handle)), Some(ErrorKind::Receipt));
            assert_eq!(kind_of(code, Some(time)), None);
            assert_eq!(kind_of(code, None), None);
        }
    }

    #[test]
    fn what_keeps_the_sdk_from_asking_is_told_in_one_sentence() {
        let told = |detail| before_any_request(detail).map(|error| error.to_string());
        let chain = "other: the credential provider was not enabled: no credentials found in chain. Attempted: Environment: …";
        let text = told(chain).unwrap();
        assert!(
            text.starts_with("denied: no credentials; looked for AWS_ACCESS_KEY_ID and "),
            "{text}"
        );
        assert!(text.ends_with("and the instance's"), "{text}");
        let text = told("other: an error occurred while loading credentials: request forbidden").unwrap();
        assert!(
            text.ends_with(
                "the instance's; other: an error occurred while loading credentials: request forbidden"
            ),
            "{text}"
        );
        let text = told(
            "other: failed to apply endpoint `nonsense` to request `Request { .. }`: endpoint must contain scheme",
        );
        assert!(
            text.unwrap()
                .starts_with("invalid: the endpoint is \"nonsense\"; expected a URL")
        );
        assert!(
            told("other: Invalid Configuration: Missing Region")
                .unwrap()
                .starts_with("denied: no region; expected")
        );
        assert_eq!(told("io error: client error (Connect): Connection refused"), None);
    }

    #[test]
    fn unknown_codes_are_judged_by_their_status() {
        for (status, kind) in [
            (400, ErrorKind::Invalid),
            (403, ErrorKind::Denied),
            (429, ErrorKind::Throttled),
            (503, ErrorKind::Server),
            (302, ErrorKind::Answer),
        ] {
            assert_eq!(kind_of_status(status), kind);
        }
    }
}
