//! Evidence is the facts, and CloudWatch has the evidence.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, tls};
use worker::evidence::{Report, Window};

use crate::localstack::{Queues, REGION, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

const COUNT: usize = 1000;

#[tokio::test]
async fn the_sums_by_release_and_second_are_the_evidence_which_is_the_facts() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let service = format!("svc-{:016x}", fastrand::u64(..));
    let mut variables = settings(&queues);
    variables.insert("WORKER__RELEASE", service.replace("svc", "r"));
    variables.insert("WORKER__SERVICE", service.clone());
    variables.insert("WORKER__CLOUDWATCH__SINK", "api".to_owned());
    variables.insert("WORKER__CLOUDWATCH__INTERVAL", "1s".to_owned());
    variables.insert("WORKER__RETRY__BASE", "1ms".to_owned());
    let mut worker = Worker::start(&variables);
    let fault = |number: usize| match number % 100 {
        0..5 => Some("reject"),
        5..8 => Some("retry"),
        _ => None,
    };
    let bodies: Vec<_> = (0..COUNT).map(|number| order(number, fault(number))).collect();
    queues.send(&bodies).await;
    queues.drained(PATIENCE).await;
    let text = worker::admin::ask(worker.admin().await, "/evidence", PATIENCE)
        .await
        .unwrap();
    let report: Report = serde_json::from_str(&text).unwrap();
    worker.stop().await;

    // The facts: retried messages failed on their first delivery, whatever became of them later.
    let all = Window::sum(&report.windows);
    assert_eq!(
        (all.started, all.done, all.failed.reject, all.failed.retry),
        (1000, 920, 50, 30)
    );
    assert_eq!((all.open, all.lost, all.failed.total()), (0, 0, 80));
    assert_eq!((all.receives.s, all.receives.f), (1000, 80));
    assert_eq!((report.totals.started, report.totals.failed), (1000, 80));

    let client = client(queues.endpoint);
    let release = report.release.as_str();
    let track = report.track.as_str();
    let of = |count: &dyn Fn(&Window) -> u64| -> BTreeMap<u64, u64> {
        report
            .windows
            .iter()
            .map(|window| (window.start, count(window)))
            .filter(|(_, count)| *count > 0)
            .collect()
    };
    let expected = [
        ("Started", of(&|window| window.started)),
        ("Done", of(&|window| window.done)),
        ("Failed", of(&|window| window.failed.total())),
        ("ReceiveSizesSquared", of(&|window| window.receives.ss)),
    ];
    for (name, counts) in expected {
        for (dimension, value) in [("Release", release), ("Track", track)] {
            let sums = sums(&client, name, &service, (dimension, value), &report).await;
            if name == "ReceiveSizesSquared" && dimension == "Track" {
                assert!(sums.is_empty());
            } else {
                assert_eq!(sums, counts, "{name} by {dimension}");
            }
        }
    }
    queues.delete().await;
}

/// The sums of a metric by second, those that are 0 left out.
async fn sums(
    client: &Client,
    name: &str,
    service: &str,
    (by, value): (&str, &str),
    report: &Report,
) -> BTreeMap<u64, u64> {
    let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
    let seconds = |second: u64| DateTime::from_secs(i64::try_from(second).unwrap());
    let (first, last) = (report.windows[0].start, report.windows.last().unwrap().start);
    let answer = client
        .get_metric_statistics()
        .namespace("QueueWorker")
        .metric_name(name)
        .dimensions(dimension("Service", service))
        .dimensions(dimension(by, value))
        .start_time(seconds(first))
        .end_time(seconds(last + 1))
        .period(1)
        .statistics(Statistic::Sum)
        .send()
        .await
        .unwrap();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "sums of counts"
    )]
    let point = |point: &aws_sdk_cloudwatch::types::Datapoint| {
        let second = u64::try_from(point.timestamp.unwrap().secs()).unwrap();
        (second, point.sum.unwrap().round() as u64)
    };
    answer
        .datapoints
        .unwrap_or_default()
        .iter()
        .map(point)
        .filter(|(_, sum)| *sum > 0)
        .collect()
}

fn client(endpoint: &str) -> Client {
    let http = Builder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let config = aws_sdk_cloudwatch::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .http_client(http)
        .timeout_config(
            aws_sdk_cloudwatch::config::timeout::TimeoutConfig::builder()
                .operation_timeout(Duration::from_secs(30))
                .build(),
        )
        .build();
    Client::from_conf(config)
}
