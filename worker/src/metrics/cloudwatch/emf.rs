//! The embedded metric format: data as log lines, which CloudWatch Logs turns into metrics.
//!
//! For large fleets: no requests of their own, no permission but that of the log driver.
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write;

use serde_json::{Map, Value, json};

use super::{Datum, Dimensions, NAMESPACE, Sink, SinkError};

/// Writes one line a datum to standard output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines;

/// A datum as a line.
#[must_use]
pub fn line(dimensions: &Dimensions, datum: &Datum) -> String {
    let sets = dimensions.of(datum);
    let names: Vec<Vec<_>> = sets
        .iter()
        .map(|set| set.iter().map(|(name, _)| *name).collect())
        .collect();
    let mut root: Map<String, Value> = sets
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    root.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": datum.second.saturating_mul(1000),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": names,
                "Metrics": [{"Name": datum.name, "Unit": datum.unit, "StorageResolution": 1}],
            }],
        }),
    );
    let value = match datum.values.as_slice() {
        [(value, count)] if count.to_bits() == 1_f64.to_bits() => json!(value),
        values => {
            let all = || values.iter().map(|(value, _)| *value);
            json!({
                "Values": all().collect::<Vec<_>>(),
                "Counts": values.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
                "Count": values.iter().map(|(_, count)| *count).sum::<f64>(),
                "Sum": values.iter().map(|(value, count)| value * count).sum::<f64>(),
                "Min": all().fold(f64::INFINITY, f64::min),
                "Max": all().fold(0.0, f64::max),
            })
        }
    };
    root.insert(datum.name.to_owned(), value);
    Value::Object(root).to_string()
}

impl Sink for Lines {
    const BATCH: usize = 1000;

    async fn put(&self, dimensions: &Dimensions, data: &[Datum]) -> Result<(), SinkError> {
        let text: String = data.iter().map(|datum| line(dimensions, datum) + "\n").collect();
        // A reader that does not read must not hold up a worker thread.
        let written = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            // Half of it may have been written: again would be twice.
            Ok(Err(error)) => Err(SinkError::Refused(format!("standard output: {error}"))),
            Err(error) => Err(SinkError::Refused(error.to_string())),
        }
    }
}
