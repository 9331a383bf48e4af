//! Whether and how the process publishes its evidence.

use std::sync::Arc;

use aws_config::SdkConfig;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::config::{CloudWatchSink, Settings};
use crate::control::Directives;
use crate::metrics::cloudwatch::{Dimensions, Publisher, Subject, emf};
use crate::preflight::Queues;

/// Starts what `settings` ask for. The task ends within 2 s after `stop`.
pub(super) fn start(
    settings: &Settings,
    queues: &Queues,
    admin: &Admin,
    directives: &Directives,
    config: &SdkConfig,
    stop: &CancellationToken,
) -> Option<JoinHandle<()>> {
    let (evidence, reflexes) = admin.evidence.clone()?;
    let healths: Vec<_> = admin
        .consumers
        .iter()
        .map(|(_, health)| Arc::clone(health))
        .collect();
    let dimensions = Dimensions {
        service: settings
            .service
            .clone()
            .unwrap_or_else(|| queues.main.1.name().to_owned()),
        identity: Arc::clone(&admin.identity),
    };
    let subject = Subject {
        evidence,
        state: Box::new(move || {
            let held = healths.iter().map(|health| health.held()).sum();
            (reflexes.state(), held)
        }),
        directives: directives.clone(),
        interval: settings.cloudwatch.interval,
    };
    match settings.cloudwatch.sink {
        CloudWatchSink::Off => None,
        CloudWatchSink::Emf => Some(tokio::spawn(
            Publisher::new(emf::Lines, dimensions, subject).run(stop.clone()),
        )),
        #[cfg(feature = "cloudwatch")]
        CloudWatchSink::Api => {
            let api = crate::metrics::cloudwatch::api::PutMetricData::new(config);
            Some(tokio::spawn(
                Publisher::new(api, dimensions, subject).run(stop.clone()),
            ))
        }
        #[cfg(not(feature = "cloudwatch"))]
        CloudWatchSink::Api => {
            let _ = config;
            tracing::warn!("cloudwatch.sink: api is not part of this build; nothing is published");
            None
        }
    }
}
