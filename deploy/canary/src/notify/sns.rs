//! SNS, by its query protocol: one action does not carry a whole SDK. Signed by AWS's own library.

use std::time::SystemTime;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder as HttpBuilder, tls};
use hyper::Uri;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};

use super::http::Client;
use super::{Note, Undelivered};

/// SNS's longest subject, in characters.
const LONGEST_SUBJECT: usize = 100;

const FORM: &str = "application/x-www-form-urlencoded";

/// A topic to publish to.
#[derive(Debug)]
pub(super) struct Topic {
    client: Client,
    config: SdkConfig,
    region: String,
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
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let endpoint = std::env::var("AWS_ENDPOINT_URL_SNS")
            .ok()
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| format!("https://sns.{region}.amazonaws.com{suffix}"));
        let uri = format!("{}/", endpoint.trim_end_matches('/'));
        let uri = uri
            .parse()
            .map_err(|error| lasting(format!("endpoint {uri}: {error}")))?;
        Ok(Self {
            client: Client::new()?,
            config,
            region,
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
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", "2010-03-31")
            .extend_pairs(fields)
            .finish();
        let headers = self.sign(&form).await?;
        self.client.post(self.uri.clone(), headers, form).await
    }

    async fn sign(&self, form: &str) -> Result<Vec<(HeaderName, HeaderValue)>, Undelivered> {
        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| Undelivered::new("there are no credentials", false))?;
        let credentials = provider.provide_credentials().await;
        // Credentials are fetched: what does not answer now may later.
        let identity = credentials
            .map_err(|error| Undelivered::new(format!("no credentials: {error}"), true))?
            .into();
        let lasting =
            |error: &dyn std::fmt::Display| Undelivered::new(format!("cannot be signed: {error}"), false);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("sns")
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| lasting(&error))?
            .into();
        let uri = self.uri.to_string();
        let signed = [("content-type", FORM)];
        let request = SignableRequest::new(
            "POST",
            &uri,
            signed.into_iter(),
            SignableBody::Bytes(form.as_bytes()),
        )
        .map_err(|error| lasting(&error))?;
        let (instructions, _) = sign(request, &params)
            .map_err(|error| lasting(&error))?
            .into_parts();
        let mut headers = vec![(CONTENT_TYPE, HeaderValue::from_static(FORM))];
        for (name, value) in instructions.headers() {
            let name = name.parse().map_err(|error| lasting(&error))?;
            headers.push((
                name,
                HeaderValue::from_str(value).map_err(|error| lasting(&error))?,
            ));
        }
        Ok(headers)
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
