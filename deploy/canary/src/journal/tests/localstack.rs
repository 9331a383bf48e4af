//! The journal on a real S3 API: LocalStack's, with its own idea of conditions on writes.

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, Credentials, SharedCredentialsProvider};
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use aws_smithy_http_client::Builder as HttpBuilder;
use aws_smithy_http_client::tls::{self, rustls_provider::CryptoMode};

use super::super::S3Store;
use super::{conforms, one_wins};

#[path = "../../../../../localstack/tests/endpoint.rs"]
mod endpoint;

/// A store in a bucket of its own, versioned as `release-safety.yaml` makes it; none where LocalStack cannot run.
async fn store() -> Option<(S3Store, Client, String)> {
    let http = HttpBuilder::new()
        .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
        .build_https();
    let credentials = Credentials::new("test", "test", None, None, "tests");
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint::endpoint()?)
        .region(Region::new("us-east-1"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .retry_config(crate::aws::retries())
        .http_client(http)
        .build();
    let client = Client::from_conf(Builder::from(&config).force_path_style(true).build());
    let bucket = format!("journal-{:016x}", fastrand::u64(..));
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    let versioned = VersioningConfiguration::builder()
        .status(BucketVersioningStatus::Enabled)
        .build();
    let call = client.put_bucket_versioning().bucket(&bucket);
    call.versioning_configuration(versioned).send().await.unwrap();
    let store = S3Store::new(&config, &format!("s3://{bucket}/orders/journal.json")).unwrap();
    Some((store, client, bucket))
}

#[tokio::test]
async fn the_store_on_s3_conforms() {
    let Some((store, client, bucket)) = store().await else {
        return;
    };
    conforms(&store).await;
    // A tool of which a rollout was lost finds its version gone, not free to be written.
    let (journal, version) = super::Store::read(&store).await.unwrap().unwrap();
    let gone = client.delete_object().bucket(&bucket).key("orders/journal.json");
    gone.send().await.unwrap();
    let refused = super::Store::write(&store, &journal, Some(&version)).await;
    assert!(matches!(refused, Err(super::StoreError::Conflict)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_writers_on_s3_at_once_one_wins_and_the_versions_are_the_trail() {
    const ROUNDS: usize = 20;
    let Some((store, client, bucket)) = store().await else {
        return;
    };
    one_wins(store, ROUNDS).await;
    let versions = client
        .list_object_versions()
        .bucket(&bucket)
        .send()
        .await
        .unwrap();
    assert_eq!(
        versions.versions().len(),
        ROUNDS,
        "each write that won, and no other"
    );
}
