//! Bounds what an answer may bring: the SDK reads every body to its end before it looks at it.

use aws_sdk_sqs::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

/// The largest answer, in bytes: ten messages of 1 MiB whose every character is escaped as six.
pub(super) const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Ends answers that are larger than any answer of SQS can be.
#[derive(Debug)]
pub(super) struct AnswerLimit;

impl Intercept for AnswerLimit {
    fn name(&self) -> &'static str {
        "AnswerLimit"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let promised = response.headers().get("content-length");
        let promised: Option<usize> = promised.and_then(|length| length.parse().ok());
        // HTTP keeps an answer to the length it promises: SQS's own answers, which do, cost nothing here.
        if promised.is_none_or(|length| length > MAX_ANSWER_BYTES) {
            let body = response.take_body();
            *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER_BYTES));
        }
        Ok(())
    }
}
