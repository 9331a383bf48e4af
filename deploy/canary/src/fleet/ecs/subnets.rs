//! Free addresses of subnets, asked of EC2: one action of its query protocol, since its SDK is the largest of all.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};

use crate::query::{Place, form, headers};

/// The version of EC2's API.
const VERSION: &str = "2016-11-15";
/// How long the answer may take, with all tries.
const PATIENCE: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// A request with its signature.
type Signed = (Vec<(String, String)>, String);

/// Addresses that are free in each of the subnets.
///
/// # Errors
/// What EC2 said, in words; a subnet that it does not name is missing in the answer.
///
/// Source: "`DescribeSubnets`" in the EC2 API reference, `availableIpAddressCount`.
pub(super) async fn free(config: &SdkConfig, subnets: &[String]) -> Result<BTreeMap<String, u32>, String> {
    let region = config.region().ok_or("there is no region")?.as_ref();
    let place = Place::new("ec2", region, config);
    let fields = subnets
        .iter()
        .enumerate()
        .map(|(index, subnet)| (format!("SubnetId.{}", index + 1), subnet.clone()));
    let form = form("DescribeSubnets", VERSION, fields);
    let headers = headers(config, &place, &form)
        .await
        .map_err(|error| error.to_string())?;
    let http = config.http_client().ok_or("there is no HTTP client")?;
    let operation = Operation::builder()
        .service_name("ec2")
        .operation_name("DescribeSubnets")
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(&place.url)
        .no_auth() // signed already
        .standard_retry(&RetryConfig::standard().with_max_attempts(TRIES))
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(TransientErrorClassifier::<Refused>::new())
        .timeout_config(TimeoutConfig::builder().operation_timeout(PATIENCE).build())
        .serializer(|(headers, form): Signed| {
            let mut request = HttpRequest::new(SdkBody::from(form));
            request.set_method("POST")?;
            for (name, value) in headers {
                request.headers_mut().try_insert(name, value)?;
            }
            Ok(request)
        })
        .deserializer(|response: &HttpResponse| {
            let body = response.body().bytes().unwrap_or_default();
            if response.status().is_success() {
                read(body).map_err(|error| OrchestratorError::other(error.to_string()))
            } else {
                Err(OrchestratorError::operation(Refused(refusal(body))))
            }
        })
        .build();
    let answer = operation.invoke((headers, form)).await;
    answer.map_err(|error| match error.as_service_error() {
        Some(refused) => format!("DescribeSubnets: {refused}"),
        None => format!(
            "DescribeSubnets: {}",
            aws_sdk_ecs::error::DisplayErrorContext(&error)
        ),
    })
}

/// EC2 has answered, with an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// Of an answer: each subnet's free addresses.
fn read(body: &[u8]) -> Result<BTreeMap<String, u32>, XmlDecodeError> {
    let mut document = Document::try_from(body)?;
    let mut root = document.root_element()?;
    let mut free = BTreeMap::new();
    while let Some(mut set) = root.next_tag() {
        if !set.start_el().matches("subnetSet") {
            continue;
        }
        while let Some(mut item) = set.next_tag() {
            let (mut id, mut count) = (None, None);
            while let Some(mut field) = item.next_tag() {
                match field.start_el().local() {
                    "subnetId" => id = Some(try_data(&mut field)?.into_owned()),
                    "availableIpAddressCount" => count = try_data(&mut field)?.parse().ok(),
                    _ => {}
                }
            }
            free.extend(id.zip(count));
        }
    }
    Ok(free)
}

/// Of an error: its code and its message.
fn refusal(body: &[u8]) -> String {
    let read = || {
        let mut document = Document::try_from(body).ok()?;
        let mut root = document.root_element().ok()?;
        let mut errors = root.next_tag()?;
        let mut error = errors.next_tag()?;
        let mut said = Vec::new();
        while let Some(mut field) = error.next_tag() {
            said.push(try_data(&mut field).ok()?.into_owned());
        }
        Some(said.join(": "))
    };
    read().unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_past_what_is_not_asked_for() {
        let answer = r#"<?xml version="1.0" encoding="UTF-8"?>
            <DescribeSubnetsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
              <requestId>7a62c49f</requestId>
              <subnetSet>
                <item>
                  <subnetId>subnet-a</subnetId><state>available</state><cidrBlock>10.0.0.0/28</cidrBlock>
                  <ipv6CidrBlockAssociationSet/><availableIpAddressCount>11</availableIpAddressCount>
                  <tagSet><item><key>subnetId</key><value>no</value></item></tagSet>
                </item>
                <item><availableIpAddressCount>0</availableIpAddressCount><subnetId>subnet-b</subnetId></item>
              </subnetSet>
            </DescribeSubnetsResponse>"#;
        let expected = [("subnet-a".to_owned(), 11), ("subnet-b".to_owned(), 0)];
        assert_eq!(read(answer.as_bytes()).unwrap(), BTreeMap::from(expected));
        assert!(read(b"<html").is_err());
    }

    #[test]
    fn an_error_is_said_in_its_own_words() {
        let error = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>You are not authorized.</Message>\
                     </Error></Errors><RequestID>1</RequestID></Response>";
        assert_eq!(
            refusal(error.as_bytes()),
            "UnauthorizedOperation: You are not authorized."
        );
        assert_eq!(refusal(b"gateway"), "gateway");
    }
}
