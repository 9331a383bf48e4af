//! SNS, by its [query protocol](crate::query).

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};

use super::http::Client;
use super::{Note, Undelivered};
use crate::query::{Place, form, headers};

/// SNS's longest subject, in characters.
const LONGEST_SUBJECT: usize = 100;

/// The version of SNS's API.
const VERSION: &str = "2010-03-31";

/// A topic to publish to.
#[derive(Debug)]
pub(super) struct Topic {
    client: Client,
    config: SdkConfig,
    place: Place,
    arn: String,
    uri: Uri,
}

/// The region of a topic's ARN.
pub(super) fn region(arn: &str) -> Result<&str, String> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", partition, "sns", region, account, name]
            if [partition, region, account, name]
                .iter()
                .all(|part| !part.is_empty()) =>
        {
            Ok(region)
        }
        _ => Err(format!(
            "{arn:?}: expected the ARN of a topic, as arn:aws:sns:eu-west-1:123456789012:releases"
        )),
    }
}

impl Topic {
    /// With the credentials and the endpoint of the environment.
    pub(super) async fn new(arn: &str) -> Result<Self, Undelivered> {
        let lasting = |error: String| Undelivered::new(error, false);
        let region = region(arn).map_err(lasting)?.to_owned();
        let http = HttpBuilder::new()
            .tls_provider(tls::Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .load()
            .await;
        let place = Place::new("sns", &region, &config);
        let uri: Uri = place
            .url
            .parse()
            .map_err(|error| lasting(format!("endpoint {}: {error}", place.url)))?;
        Ok(Self {
            client: Client::new()?,
            config,
            place,
            arn: arn.to_owned(),
            uri,
        })
    }

    pub(super) async fn send(&self, note: &Note) -> Result<(), Undelivered> {
        let message =
            serde_json::to_string(note).map_err(|error| Undelivered::new(error.to_string(), false))?;
        let fields = [
            ("TopicArn", self.arn.as_str()),
            ("Subject", &subject(&note.line())),
            ("Message", &message),
        ];
        self.call("Publish", &fields).await
    }

    async fn call(&self, action: &str, fields: &[(&str, &str)]) -> Result<(), Undelivered> {
        let form = form(action, VERSION, fields.iter().copied());
        let signed = headers(&self.config, &self.place, &form).await;
        let signed = signed.map_err(|error| Undelivered::new(error.to_string(), error.passes))?;
        let header = |(name, value): (String, String)| -> Result<_, Undelivered> {
            let lasting =
                |error: &dyn std::fmt::Display| Undelivered::new(format!("cannot be signed: {error}"), false);
            let name: HeaderName = name.parse().map_err(|error| lasting(&error))?;
            let value = HeaderValue::from_str(&value).map_err(|error| lasting(&error))?;
            Ok((name, value))
        };
        let headers: Vec<_> = signed.into_iter().map(header).collect::<Result<_, _>>()?;
        self.client.post(self.uri.clone(), headers, form).await
    }
}

/// A subject as SNS takes it: ASCII without control characters, not too long.
fn subject(text: &str) -> String {
    let ascii = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(LONGEST_SUBJECT).map(ascii).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_topic_is_a_topic() {
        assert_eq!(
            region("arn:aws:sns:eu-west-1:123456789012:releases"),
            Ok("eu-west-1")
        );
        for arn in [
            "",
            "releases",
            "arn:aws:sqs:eu-west-1:1:releases",
            "arn:aws:sns::1:releases",
            "arn:aws:sns:r:1:t:sub",
        ] {
            assert!(
                region(arn).unwrap_err().contains("expected the ARN of a topic"),
                "{arn}"
            );
        }
    }

    #[test]
    fn subjects_are_what_sns_takes() {
        let subject = subject(&format!("ü\n{}", "x".repeat(200)));
        assert!(subject.starts_with("??x") && subject.len() == LONGEST_SUBJECT);
    }
}
