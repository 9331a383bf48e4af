//! The journal as an object of S3: every write is conditional on the ETag that was last read, so that of two writers one fails.
//!
//! In a versioned bucket the versions are the audit trail. A write that is tried again after its answer was lost finds its own
//! object in the way; the store looks whether it is its own before it says so.
//!
//! Source: "Conditional writes" in the S3 user guide: `If-None-Match: *` for the first, `If-Match` for the others; 412 when the
//! condition does not hold, 409 when two writes meet.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use tokio::time::sleep;

use super::{Journal, Store, StoreError, Version};
use crate::aws::said;

/// Tries of a write that meets another at S3 itself.
const MEETINGS: usize = 5;

/// The most journals that are read for a history.
const HISTORY: usize = 500;

/// Journals in a bucket: the current one, and `history/` beside it for the rollouts before.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    key: String,
}

/// An address that is no place for a journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no place for a journal; expected s3://BUCKET/FOLDER/journal.json")]
pub struct InvalidPlace(String);

impl S3Store {
    /// The store at `place`, `s3://BUCKET/FOLDER/NAME`.
    ///
    /// # Errors
    /// [`InvalidPlace`] when it is no such address.
    pub fn new(config: &SdkConfig, place: &str) -> Result<Self, InvalidPlace> {
        let invalid = || InvalidPlace(place.to_owned());
        let rest = place.strip_prefix("s3://").ok_or_else(invalid)?;
        let (bucket, key) = rest.split_once('/').ok_or_else(invalid)?;
        let folder_and_name = key.rsplit_once('/').filter(|(folder, name)| {
            !folder.is_empty() && !name.is_empty() && !key.starts_with('/') && !key.contains("//")
        });
        if bucket.is_empty() || folder_and_name.is_none() {
            return Err(invalid());
        }
        let config = Builder::from(config)
            // By path where an endpoint is set: an emulator has no name for each bucket.
            .force_path_style(config.endpoint_url().is_some())
            // TLS guards a few kilobytes; a trailing checksum only keeps older S3-like services out.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .build();
        Ok(Self {
            client: Client::from_conf(config),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }

    /// Where it is, as `s3://BUCKET/FOLDER/NAME`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.key)
    }

    fn folder(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    fn lost(&self, key: &str, text: String) -> StoreError {
        StoreError::Unreachable(format!("s3://{}/{key}: {text}", self.bucket))
    }

    async fn get(&self, key: &str) -> Result<Option<(Vec<u8>, Version)>, StoreError> {
        let call = self.client.get_object().bucket(&self.bucket).key(key);
        let answer = match call.send().await {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(self.lost(key, said!("GetObject", error))),
        };
        let version = answer.e_tag.clone().map(Version);
        let version =
            version.ok_or_else(|| self.lost(key, "GetObject: the answer has no ETag".to_owned()))?;
        let body = answer.body.collect().await;
        let body = body.map_err(|error| self.lost(key, format!("GetObject: {error}")))?;
        Ok(Some((body.to_vec(), version)))
    }

    /// One conditional write; none when the condition did not hold.
    async fn put(
        &self,
        key: &str,
        text: &[u8],
        expected: Option<&Version>,
    ) -> Result<Option<Version>, StoreError> {
        for _ in 0..MEETINGS {
            let call = self
                .client
                .put_object()
                .bucket(&self.bucket)
                .key(key)
                .content_type("application/json")
                .body(ByteStream::from(text.to_vec()));
            let call = match expected {
                Some(version) => call.if_match(&version.0),
                None => call.if_none_match("*"),
            };
            let error = match call.send().await {
                Ok(answer) => {
                    let version = answer.e_tag.map(Version);
                    return version
                        .map(Some)
                        .ok_or_else(|| self.lost(key, "PutObject: the answer has no ETag".to_owned()));
                }
                Err(error) => error,
            };
            match status(&error) {
                Some(409) => sleep(Duration::from_millis(50 + fastrand::u64(..100))).await,
                // The object is gone altogether: it is not what was read.
                Some(412 | 404) if error.code() != Some("NoSuchBucket") => return Ok(None),
                _ => return Err(self.lost(key, said!("PutObject", error))),
            }
        }
        Ok(None)
    }

    fn archive_key(&self, journal: &Journal) -> String {
        let name = super::file_name(&journal.rollout);
        format!("{}/history/{name}.json", self.folder())
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// A version is an ETag, and how often the journal had been written by then.
fn numbered(journal: &Journal, etag: &Version) -> Version {
    Version(format!("{} {}", journal.writes, etag.0))
}

fn etag_and_number(version: &Version) -> (Version, u64) {
    let (number, etag) = version.0.split_once(' ').unwrap_or(("", &version.0));
    (Version(etag.to_owned()), number.parse().unwrap_or(0))
}

fn text(journal: &Journal) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(journal).map_err(|error| StoreError::Broken(error.to_string()))
}

impl Store for S3Store {
    async fn read(&self) -> Result<Option<(Journal, Version)>, StoreError> {
        let Some((text, version)) = self.get(&self.key).await? else {
            return Ok(None);
        };
        let journal = Journal::read(&text).map_err(|error| match error {
            StoreError::Broken(text) => StoreError::Broken(format!("{}: {text}", self.place())),
            other @ (StoreError::Conflict | StoreError::Unreachable(_)) => other,
        })?;
        let version = numbered(&journal, &version);
        Ok(Some((journal, version)))
    }

    async fn write(&self, journal: &Journal, expected: Option<&Version>) -> Result<Version, StoreError> {
        let before = expected.map(etag_and_number);
        let mut journal = journal.clone();
        // Never the same text twice, and so never the same ETag: a version that is gone does not come back.
        journal.writes = before.as_ref().map_or(0, |(_, number)| *number) + 1;
        let text = text(&journal)?;
        let etag = before.map(|(etag, _)| etag);
        if let Some(etag) = self.put(&self.key, &text, etag.as_ref()).await? {
            return Ok(numbered(&journal, &etag));
        }
        match self.get(&self.key).await? {
            Some((there, etag)) if there == text => Ok(numbered(&journal, &etag)),
            Some(_) | None => Err(StoreError::Conflict),
        }
    }

    async fn archive(&self, journal: &Journal) -> Result<(), StoreError> {
        let (key, text) = (self.archive_key(journal), text(journal)?);
        // What is there already is this rollout's end, put there by a tool that died just after.
        self.put(&key, &text, None).await.map(|_| ())
    }

    async fn history(&self) -> Result<Vec<Journal>, StoreError> {
        let prefix = format!("{}/history/", self.folder());
        let (mut keys, mut next) = (Vec::new(), None);
        loop {
            let call = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(&prefix)
                .set_continuation_token(next.take());
            let answer = call
                .send()
                .await
                .map_err(|error| self.lost(&prefix, said!("ListObjectsV2", error)))?;
            keys.extend(
                answer
                    .contents
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|object| object.key),
            );
            next = answer.next_continuation_token;
            // Names begin with the time: the end of the list is the latest.
            if next.is_none() {
                break;
            }
        }
        let latest = keys.split_off(keys.len().saturating_sub(HISTORY));
        let mut journals = Vec::new();
        for key in latest {
            if let Some((text, _)) = self.get(&key).await? {
                let journal = Journal::read(&text);
                journals.push(journal.map_err(|error| StoreError::Broken(format!("{key}: {error}")))?);
            }
        }
        journals.sort_by_key(|journal| journal.state.began);
        Ok(journals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_bucket_a_folder_and_a_name() {
        let config = SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .build();
        let store = S3Store::new(&config, "s3://bucket/orders/journal.json").unwrap();
        assert_eq!((store.bucket.as_str(), store.folder()), ("bucket", "orders"));
        for place in [
            "",
            "bucket/orders/journal.json",
            "s3://bucket",
            "s3://bucket/journal.json",
            "s3:///orders/journal.json",
            "s3://bucket/orders/",
            "s3://bucket//journal.json",
        ] {
            let error = S3Store::new(&config, place).unwrap_err().to_string();
            assert!(error.contains("s3://BUCKET/FOLDER/journal.json"), "{error}");
        }
    }
}
