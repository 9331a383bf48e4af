//! Where requests go: what the SDK has found of it, told in errors.

use std::sync::{Arc, OnceLock};

use aws_sdk_sqs::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_sqs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_sqs::error::BoxError;

/// Notes the address of the first request: it may come from a variable, a profile, or the region.
#[derive(Clone, Debug, Default)]
pub(super) struct Contacted(Arc<OnceLock<String>>);

impl Contacted {
    /// Scheme, host and port, once there was a request.
    pub(super) fn address(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

impl Intercept for Contacted {
    fn name(&self) -> &'static str {
        "Contacted"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if self.0.get().is_none() {
            let mut parts = context.request().uri().splitn(4, '/');
            if let (Some(scheme), Some(_), Some(host)) = (parts.next(), parts.next(), parts.next()) {
                // Another request may have been quicker: it went to the same address.
                let _ = self.0.set(format!("{scheme}//{host}"));
            }
        }
        Ok(())
    }
}
