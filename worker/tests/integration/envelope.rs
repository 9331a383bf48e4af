//! Envelopes of SNS, and bodies in S3 (with the feature `s3`).

use crate::localstack::{Queues, Shape, order};
use crate::process::{PATIENCE, Worker, settings};

#[tokio::test]
async fn what_sns_wrapped_is_handled_and_dead_lettered_as_it_came() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let wrapped = |message: String| {
        serde_json::json!({
            "Type": "Notification", "MessageId": "22b80b92", "TopicArn": "arn:aws:sns:us-east-1:000000000000:orders",
            "Message": message, "Timestamp": "2026-11-25T10:00:00Z",
        })
        .to_string()
    };
    let rejected = wrapped(order(2, Some("reject")));
    queues
        .send(&[wrapped(order(1, None)), rejected.clone(), order(3, None)])
        .await;
    let mut variables = settings(&queues);
    variables.insert("WORKER__ENVELOPE__SNS", "true".to_owned());
    let mut worker = Worker::start(&variables);
    queues.drained(PATIENCE).await;
    let metrics = worker.metrics().await;
    assert_eq!(metrics.sum("worker_attempts_total", &[("outcome", "done")]), 2.0);
    worker.stop().await;
    let dead = queues.take_all(&queues.dead_letter).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(
        dead[0].body.as_deref(),
        Some(rejected.as_str()),
        "the copy has its envelope"
    );
    queues.delete().await;
}

#[cfg(feature = "s3")]
mod payloads {
    use aws_sdk_s3::Client;
    use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
    use aws_sdk_s3::primitives::ByteStream;
    use serde_json::Value;

    use super::*;
    use crate::localstack::{REGION, text};

    fn s3(endpoint: &str) -> Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .force_path_style(true)
            .region(Region::new(REGION))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .http_client(crate::localstack::http())
            .build();
        Client::from_conf(config)
    }

    /// Sends a pointer to `key`.
    async fn point(queues: &Queues, bucket: &str, key: &str) {
        let class = "software.amazon.payloadoffloading.PayloadS3Pointer";
        let body = serde_json::json!([class, {"s3BucketName": bucket, "s3Key": key}]).to_string();
        let request = queues
            .client
            .send_message()
            .queue_url(&queues.main)
            .message_body(body);
        request
            .message_attributes("ExtendedPayloadSize", text("100"))
            .send()
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn bodies_in_s3_are_fetched_and_what_cannot_be_is_told_apart() {
        let Some(queues) = Queues::create(Shape::default()).await else {
            return;
        };
        let client = s3(queues.endpoint);
        let bucket = format!("payloads-{:016x}", fastrand::u64(..));
        client.create_bucket().bucket(&bucket).send().await.unwrap();
        let put = async |key: &str, body: Vec<u8>| {
            let request = client.put_object().bucket(&bucket).key(key);
            request.body(ByteStream::from(body)).send().await.unwrap();
        };
        put("good/1 ä", order(1, None).into_bytes()).await;
        put("large", vec![b' '; 10_001]).await;
        put("binary", vec![0xff; 10]).await;
        for key in ["good/1 ä", "gone", "large", "binary"] {
            point(&queues, &bucket, key).await;
        }
        point(&queues, "somebody-elses", "secret").await;
        let mut variables = settings(&queues);
        variables.insert("WORKER__ENVELOPE__S3_BUCKETS", format!("others, {bucket}"));
        variables.insert("WORKER__ENVELOPE__S3_MAX_BYTES", "10000".to_owned());
        let mut worker = Worker::start(&variables);
        queues.drained(PATIENCE).await;
        let metrics = worker.metrics().await;
        let rejected = |reason| {
            metrics.sum(
                "worker_attempts_total",
                &[("outcome", "reject"), ("reason", reason)],
            )
        };
        assert_eq!(metrics.sum("worker_attempts_total", &[("outcome", "done")]), 1.0);
        let told = ["payload_missing", "payload_refused", "undecodable"].map(rejected);
        assert_eq!(told, [1.0, 2.0, 1.0]);
        worker.stop().await;
        for message in queues.take_all(&queues.dead_letter).await {
            assert!(message.body.unwrap().contains("PayloadS3Pointer"));
            let story = message.message_attributes.unwrap()["worker.failure"]
                .string_value
                .clone();
            let story: Value = serde_json::from_str(&story.unwrap()).unwrap();
            assert!(story["error"].as_str().unwrap().starts_with("s3://"), "{story}");
        }
        queues.delete().await;
    }

    #[tokio::test]
    async fn a_bucket_that_is_not_there_is_not_the_messages_fault() {
        let Some(queues) = Queues::create(Shape::default()).await else {
            return;
        };
        let bucket = format!("missing-{:016x}", fastrand::u64(..));
        point(&queues, &bucket, "key").await;
        let mut variables = settings(&queues);
        variables.insert("WORKER__ENVELOPE__S3_BUCKETS", bucket);
        let mut worker = Worker::start(&variables);
        worker.tells("attempt failed", 1).await;
        let told = &worker.told("attempt failed")[0];
        assert_eq!(told["outcome"], "unavailable");
        assert!(told["error"].as_str().unwrap().contains("NoSuchBucket"), "{told}");
        worker.stop().await;
        queues.delete().await;
    }
}
