//! The settings of the ready-made handlers, and of what is done before them.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;

use super::HandlerKind;
use super::source::Reader;
use crate::envelope;
use crate::handler::{Reason, is_name};
use crate::handlers::http;
use crate::handlers::orders::Faults;

pub(super) fn handler_kind(reader: &mut Reader<'_>) -> Option<HandlerKind> {
    reader.choice("handler.kind").map(|kind| match kind {
        "http" => HandlerKind::Http,
        _ => HandlerKind::Orders,
    })
}

pub(super) fn http_options(reader: &mut Reader<'_>) -> Option<http::Options> {
    let url = reader.web_url("http.url");
    let allow_remote = reader.flag("http.allow_remote");
    let timeout = reader.optional_duration("http.timeout");
    let content_type = reader.required("http.content_type").and_then(|text| {
        reader.parse("http.content_type", &text, |text| {
            let header = text.contains('/').then(|| HeaderValue::from_str(text).ok());
            header.flatten().ok_or(())
        })
    });
    let ready_path = match reader.optional("http.ready_path") {
        None => Some(None),
        Some(path) => reader.parse("http.ready_path", &path, |path| {
            let path = path.starts_with('/').then(|| path.parse::<PathAndQuery>().ok());
            path.flatten().map(Some).ok_or(())
        }),
    };
    let reasons = reasons(reader);
    let (url, ready_path) = (url?, ready_path?);
    if !allow_remote? && !is_loopback(&url) {
        reader.note(
            "http.url",
            "a loopback address or localhost, or http.allow_remote = true",
        );
    }
    let ready = ready_path.and_then(|path| {
        let mut parts = url.clone().into_parts();
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).ok() // another path changes nothing about what makes a URL whole
    });
    Some(http::Options {
        url,
        ready,
        timeout: timeout?,
        content_type: content_type?,
        reasons: reasons?,
    })
}

/// The application's own reasons. A [`Reason`] is a name for the life of the process, so these are never freed.
fn reasons(reader: &mut Reader<'_>) -> Option<Vec<Reason>> {
    let Some(names) = reader.optional("http.reasons") else {
        return Some(Vec::new());
    };
    reader.parse("http.reasons", &names, |names| {
        let names: Vec<_> = names.split(',').map(str::trim).collect();
        let own = |name: &&str| Reason::BUILT_IN.iter().all(|reason| reason.as_str() != *name);
        let whole = names.len() <= http::MAX_REASONS && names.iter().all(|name| is_name(name) && own(name));
        let reason = |name: &&str| Reason::new(String::leak((*name).to_owned()));
        whole.then(|| names.iter().map(reason).collect()).ok_or(())
    })
}

pub(super) fn envelope_options(reader: &mut Reader<'_>) -> Option<envelope::Options> {
    let sns = reader.flag("envelope.sns");
    let s3_max_bytes = reader.count("envelope.s3_max_bytes");
    let s3_buckets = match reader.optional("envelope.s3_buckets") {
        None => Some(Vec::new()),
        Some(names) => reader.parse("envelope.s3_buckets", &names, |names| {
            let names: Vec<_> = names.split(',').map(|name| name.trim().to_owned()).collect();
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            let whole = |name: &String| (3..=63).contains(&name.len()) && name.chars().all(allowed);
            if names.iter().all(whole) {
                Ok(names)
            } else {
                Err(())
            }
        }),
    };
    if s3_buckets.as_ref().is_some_and(|names| !names.is_empty()) && !cfg!(feature = "s3") {
        reader.note(
            "envelope.s3_buckets",
            "none: this worker was built without the feature s3",
        );
    }
    Some(envelope::Options {
        sns: sns?,
        s3_buckets: s3_buckets?,
        s3_max_bytes: s3_max_bytes?,
    })
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

pub(super) fn orders(reader: &mut Reader<'_>) -> Option<Faults> {
    let latency = reader.duration("orders.latency");
    let slow_latency = reader.duration("orders.slow_latency");
    let mut ratio = |key| reader.ratio(key);
    let ratios = [
        ratio("orders.retry_ratio"),
        ratio("orders.reject_ratio"),
        ratio("orders.slow_ratio"),
        ratio("orders.hang_ratio"),
        ratio("orders.panic_ratio"),
        ratio("orders.crash_ratio"),
        ratio("orders.unavailable_ratio"),
    ];
    let sum: f64 = ratios.iter().flatten().sum();
    if sum > 1.0 + 1e-9 {
        reader.note(
            "orders.retry_ratio",
            &format!("all of orders.*_ratio together at most 1, they are {sum}"),
        );
    }
    let [retry, reject, slow, hang, panic, crash, unavailable] = ratios;
    Some(Faults {
        latency: latency?,
        slow_latency: slow_latency?,
        retry: retry?,
        reject: reject?,
        slow: slow?,
        hang: hang?,
        panic: panic?,
        crash: crash?,
        unavailable: unavailable?,
    })
}
