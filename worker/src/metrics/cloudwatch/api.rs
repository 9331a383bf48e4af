//! `PutMetricData`.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::config::retry::RetryConfig;
use aws_sdk_cloudwatch::error::{DisplayErrorContext, ProvideErrorMetadata};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};

use super::{Datum, Dimensions, NAMESPACE, Sink, SinkError};

const TIMEOUT: Duration = Duration::from_secs(5);

/// CloudWatch's own API.
#[derive(Clone, Debug)]
pub struct PutMetricData(Client);

impl PutMetricData {
    /// With the region, credentials and HTTP client of `config`.
    #[must_use]
    pub fn new(config: &SdkConfig) -> Self {
        let config = Builder::from(config)
            .retry_config(RetryConfig::disabled()) // the next publication is the retry
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
            .build();
        Self(Client::from_conf(config))
    }
}

impl Sink for PutMetricData {
    /// A request takes 1,000 metrics; most data stand under two dimension sets.
    const BATCH: usize = 500;

    async fn put(&self, dimensions: &Dimensions, data: &[Datum]) -> Result<(), SinkError> {
        let metrics = data.iter().flat_map(|datum| metrics(dimensions, datum)).collect();
        let request = self
            .0
            .put_metric_data()
            .namespace(NAMESPACE)
            .set_metric_data(Some(metrics));
        let Err(error) = request.send().await else {
            return Ok(());
        };
        let text = DisplayErrorContext(&error).to_string();
        let refused = error.code().is_some_and(|code| {
            code.starts_with("InvalidParameter")
                || code.starts_with("InvalidFormat")
                || code == "ValidationError"
        });
        Err(if refused {
            SinkError::Refused(text)
        } else {
            SinkError::Later(text)
        })
    }
}

fn metrics(dimensions: &Dimensions, datum: &Datum) -> Vec<MetricDatum> {
    let metric = |set: Vec<(&'static str, String)>| {
        let set = set
            .into_iter()
            .map(|(name, value)| Dimension::builder().name(name).value(value).build());
        MetricDatum::builder()
            .metric_name(datum.name)
            .unit(StandardUnit::from(datum.unit))
            .timestamp(DateTime::from_secs(
                i64::try_from(datum.second).unwrap_or(i64::MAX),
            ))
            .storage_resolution(1)
            .set_dimensions(Some(set.collect()))
            .set_values(Some(datum.values.iter().map(|(value, _)| *value).collect()))
            .set_counts(Some(datum.values.iter().map(|(_, count)| *count).collect()))
            .build()
    };
    dimensions.of(datum).into_iter().map(metric).collect()
}
