//! AWS's query protocol: a form, signed by AWS's own library. One action does not carry a whole SDK.

use std::time::SystemTime;

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// Why a call could not be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Unsigned {
    text: String,
    /// Whether it may be otherwise later.
    pub(crate) passes: bool,
}

impl Unsigned {
    fn new(text: impl Into<String>, passes: bool) -> Self {
        Self {
            text: text.into(),
            passes,
        }
    }
}

/// Who is called: a service in a region, at its endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) service: &'static str,
    pub(crate) region: String,
    /// Where it is, with a path.
    pub(crate) url: String,
}

impl Place {
    /// The service's own endpoint, or the one of the environment, as the SDKs take it.
    pub(crate) fn new(service: &'static str, region: &str, config: &SdkConfig) -> Self {
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let endpoint = std::env::var(format!("AWS_ENDPOINT_URL_{}", service.to_uppercase()))
            .ok()
            .or_else(|| config.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| format!("https://{service}.{region}.amazonaws.com{suffix}"));
        Self {
            service,
            region: region.to_owned(),
            url: format!("{}/", endpoint.trim_end_matches('/')),
        }
    }
}

/// An action as a form.
pub(crate) fn form<K: AsRef<str>, V: AsRef<str>>(
    action: &str,
    version: &str,
    fields: impl IntoIterator<Item = (K, V)>,
) -> String {
    form_urlencoded::Serializer::new(String::new())
        .append_pair("Action", action)
        .append_pair("Version", version)
        .extend_pairs(fields)
        .finish()
}

/// The headers of a POST of `form`: its media type and its signature.
///
/// # Errors
/// [`Unsigned`].
pub(crate) async fn headers(
    config: &SdkConfig,
    place: &Place,
    form: &str,
) -> Result<Vec<(String, String)>, Unsigned> {
    let provider = config.credentials_provider();
    let provider = provider.ok_or_else(|| Unsigned::new("there are no credentials", false))?;
    let credentials = provider.provide_credentials().await;
    // Credentials are fetched: what does not answer now may later.
    let identity = credentials
        .map_err(|error| Unsigned::new(format!("no credentials: {error}"), true))?
        .into();
    let lasting = |error: &dyn std::fmt::Display| Unsigned::new(format!("cannot be signed: {error}"), false);
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(&place.region)
        .name(place.service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| lasting(&error))?
        .into();
    let signed = [("content-type", FORM)];
    let body = SignableBody::Bytes(form.as_bytes());
    let request = SignableRequest::new("POST", &place.url, signed.into_iter(), body);
    let request = request.map_err(|error| lasting(&error))?;
    let signature = sign(request, &params).map_err(|error| lasting(&error))?;
    let (instructions, _) = signature.into_parts();
    let added = instructions
        .headers()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Ok(std::iter::once(("content-type".to_owned(), FORM.to_owned()))
        .chain(added)
        .collect())
}
