//! The wire of [`super::Fake`]: which operation a request is, the answers of the services beside ECS, and the HTTP connection that the
//! SDKs take.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};

use super::{Fake, LATENCY, PINNED, World};

impl World {
    fn autoscaling(&mut self, operation: &str, input: &Value) -> Value {
        if operation == "RegisterScalableTarget" {
            let target = self.target.as_mut().unwrap();
            target.min = input["MinCapacity"].as_i64().unwrap_or(target.min);
            target.max = input["MaxCapacity"].as_i64().unwrap_or(target.max);
            let state = &input["SuspendedState"]["DynamicScalingInSuspended"];
            target.in_suspended = state.as_bool().unwrap_or(target.in_suspended);
            return json!({});
        }
        let targets = self.target.iter().map(|target| {
            json!({"ServiceNamespace": "ecs", "ResourceId": input["ResourceIds"][0], "ScalableDimension": "ecs:service:DesiredCount",
                   "MinCapacity": target.min, "MaxCapacity": target.max, "RoleARN": "arn", "CreationTime": 1.0,
                   "SuspendedState": {"DynamicScalingInSuspended": target.in_suspended}})
        });
        json!({"ScalableTargets": targets.collect::<Vec<_>>()})
    }

    fn ssm(&mut self, operation: &str, input: &Value) -> Result<Value, &'static str> {
        let name = input["Name"].as_str().unwrap();
        if operation == "PutParameter" {
            let value = input["Value"].as_str().unwrap().to_owned();
            assert!(value.len() <= 4096, "a standard parameter holds 4 KiB");
            if name == PINNED {
                let release = if value == "none" {
                    value.clone()
                } else {
                    self.release(&value)
                };
                self.deeds.push(format!("pinned {release}"));
            }
            self.parameters.insert(name.to_owned(), value);
            return Ok(json!({"Version": 2, "Tier": "Standard"}));
        }
        match self.parameters.get(name) {
            Some(value) => Ok(json!({"Parameter": {"Name": name, "Value": value, "Type": "String"}})),
            None => Err("ParameterNotFound"),
        }
    }

    fn s3(&mut self, request: &HttpRequest) -> HttpResponse {
        let path = request.uri().split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split_once('/').map_or("", |(_, path)| path);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
        if request.method() == "GET" && query.contains("list-type=2") {
            let keys = self.objects.keys().filter(|key| key.contains("/history/"));
            let contents: String = keys
                .map(|key| format!("<Contents><Key>{key}</Key></Contents>"))
                .collect();
            return answer(200, format!("<ListBucketResult>{contents}</ListBucketResult>"));
        }
        let there = self
            .objects
            .get(&key)
            .map(|(_, version)| format!("\"{version}\""));
        if request.method() == "GET" {
            return match self.objects.get(&key) {
                Some((text, _)) => with_etag(text.clone(), &there.unwrap_or_default()),
                None => answer(
                    404,
                    "<Error><Code>NoSuchKey</Code><Message>no</Message></Error>".to_owned(),
                ),
            };
        }
        let header = |name: &str| request.headers().get(name).map(str::to_owned);
        let holds = match (header("if-match"), header("if-none-match")) {
            (Some(etag), _) => there == Some(etag),
            (None, Some(_)) => there.is_none(),
            (None, None) => panic!("an unconditional write"),
        };
        if !holds {
            return answer(
                412,
                "<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>".to_owned(),
            );
        }
        let version = self.id();
        self.objects
            .insert(key, (request.body().bytes().unwrap().to_vec(), version));
        with_etag(Vec::new(), &format!("\"{version}\""))
    }

    fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
        self.tick();
        self.calls += 1;
        let target = request
            .headers()
            .get("x-amz-target")
            .unwrap_or_default()
            .to_owned();
        let (service, operation) = target.split_once('.').unwrap_or(("", ""));
        let throttles = self.throttled > 0 && self.calls.is_multiple_of(self.throttled);
        if throttles && !operation.is_empty() {
            return error("ThrottlingException");
        }
        let now = self.now();
        let reads = matches!(operation, "ListTasks" | "DescribeTasks");
        if reads && self.reads.as_mut().is_some_and(|reads| !reads.take(now)) {
            return error("ThrottlingException");
        }
        let input = request
            .body()
            .bytes()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or(Value::Null);
        if !operation.is_empty() {
            self.called.insert(operation.to_owned());
        }
        let output = match service {
            "AmazonEC2ContainerServiceV20141113" => Ok(self.ecs(operation, &input)),
            "AnyScaleFrontendService" => Ok(self.autoscaling(operation, &input)),
            "AmazonSSM" => self.ssm(operation, &input),
            _ if request.uri().ends_with("/operation/PutMetricData") => return self.publish(request),
            _ if request.uri().ends_with("/operation/GetMetricData") => return self.usage(request),
            _ if request.uri().contains("GraniteServiceVersion20100801") => return self.alarms(),
            _ if is_form(request) => return self.subnets(request),
            _ => return self.s3(request),
        };
        match output {
            Ok(output) => answer(200, output.to_string()),
            Err(code) => error(code),
        }
    }

    fn alarms(&self) -> HttpResponse {
        let alarms: Vec<Value> = self
            .alarms
            .iter()
            .map(|name| json!({ "AlarmName": name }))
            .collect();
        in_cbor(200, &json!({ "MetricAlarms": alarms }))
    }

    fn publish(&mut self, request: &HttpRequest) -> HttpResponse {
        if self.takes_no_metrics {
            self.refused += 1;
            return in_cbor(
                403,
                &json!({ "__type": "AccessDenied", "message": "as the test wants it" }),
            );
        }
        let body = ciborium::from_reader(request.body().bytes().unwrap()).unwrap();
        assert_eq!(text(&body, "Namespace"), "QueueWorker");
        let now: f64 = self.now().into();
        let data = field(&body, "MetricData").into_array().unwrap();
        let values = data.iter().map(|datum| {
            let dimensions = field(datum, "Dimensions").into_array().unwrap();
            let dimensions: Vec<_> = dimensions
                .iter()
                .map(|dimension| (text(dimension, "Name"), text(dimension, "Value")))
                .collect();
            assert_eq!(dimensions, [("App".to_owned(), "orders".to_owned())]);
            let at = float(&field(datum, "Timestamp").into_tag().unwrap().1);
            assert!((at - now).abs() < 20.0, "CloudWatch was told of {at} at {now}");
            (text(datum, "MetricName"), float(&field(datum, "Value")))
        });
        self.published.push(values.collect());
        in_cbor(200, &json!({}))
    }

    /// What the account uses of Fargate, and its quota, for whoever asks as the documentation says.
    fn usage(&self, request: &HttpRequest) -> HttpResponse {
        if self.forbidden.contains("GetMetricData") {
            return in_cbor(403, &json!({"__type": "AccessDenied", "message": "not for you"}));
        }
        let body = ciborium::from_reader(request.body().bytes().unwrap()).unwrap();
        assert_eq!(text(&body, "ScanBy"), "TimestampDescending");
        let queries = field(&body, "MetricDataQueries").into_array().unwrap();
        let [used, quota] = &queries[..] else {
            panic!("{queries:?}")
        };
        assert_eq!(
            text(quota, "Expression"),
            format!("SERVICE_QUOTA({})", text(used, "Id"))
        );
        let stat = field(used, "MetricStat");
        let metric = field(&stat, "Metric");
        let named = [
            text(&metric, "Namespace"),
            text(&metric, "MetricName"),
            text(&stat, "Stat"),
        ];
        assert_eq!(named, ["AWS/Usage", "ResourceCount", "Maximum"]);
        let dimensions = field(&metric, "Dimensions").into_array().unwrap();
        let pairs = dimensions
            .iter()
            .map(|pair| format!("{}={}", text(pair, "Name"), text(pair, "Value")));
        let pairs: BTreeSet<String> = pairs.collect();
        let expected = [
            "Class=Standard/OnDemand",
            "Resource=vCPU",
            "Service=Fargate",
            "Type=Resource",
        ];
        assert!(pairs.iter().eq(expected), "{pairs:?}");
        // The latest first; what was before is not to count.
        let values = |value: Option<f64>| value.map_or_else(Vec::new, |latest| vec![latest, latest + 1000.0]);
        let (now, allowed) = self.vcpus.unzip();
        let results = [(quota, allowed), (used, now)];
        let results = results.map(|(query, value)| json!({"Id": text(query, "Id"), "Values": values(value)}));
        in_cbor(200, &json!({ "MetricDataResults": results }))
    }

    fn subnets(&self, request: &HttpRequest) -> HttpResponse {
        let signed = request.headers().get("authorization").unwrap_or_default();
        assert!(signed.contains("/us-east-1/ec2/aws4_request"), "{signed}");
        if self.forbidden.contains("DescribeSubnets") {
            let error = "<Error><Code>UnauthorizedOperation</Code><Message>not for you</Message></Error>";
            return answer(403, format!("<Response><Errors>{error}</Errors></Response>"));
        }
        let form = form_urlencoded::parse(request.body().bytes().unwrap());
        let form: BTreeMap<String, String> = form.into_owned().collect();
        assert_eq!(
            (form["Action"].as_str(), form["Version"].as_str()),
            ("DescribeSubnets", "2016-11-15")
        );
        let named = form.iter().filter(|(name, _)| name.starts_with("SubnetId."));
        let items: String = named
            .map(|(_, name)| {
                let free = self.subnets[name];
                format!("<item><subnetId>{name}</subnetId><availableIpAddressCount>{free}</availableIpAddressCount></item>")
            })
            .collect();
        answer(
            200,
            format!("<DescribeSubnetsResponse><subnetSet>{items}</subnetSet></DescribeSubnetsResponse>"),
        )
    }
}

/// Whether a request is of AWS's query protocol.
fn is_form(request: &HttpRequest) -> bool {
    request.headers().get("content-type") == Some("application/x-www-form-urlencoded")
}

fn answer(status: u16, body: String) -> HttpResponse {
    HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))
}

fn with_etag(body: Vec<u8>, etag: &str) -> HttpResponse {
    let mut response = HttpResponse::new(200.try_into().unwrap(), SdkBody::from(body));
    response.headers_mut().insert("etag", etag.to_owned());
    response
}

fn error(code: &'static str) -> HttpResponse {
    answer(
        400,
        json!({"__type": code, "message": "as the test wants it"}).to_string(),
    )
}

/// As CloudWatch answers.
fn in_cbor(status: u16, answer: &Value) -> HttpResponse {
    let mut body = Vec::new();
    ciborium::into_writer(answer, &mut body).unwrap();
    let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body));
    response.headers_mut().insert("smithy-protocol", "rpc-v2-cbor");
    response.headers_mut().insert("content-type", "application/cbor");
    response
}

fn field(of: &ciborium::Value, name: &str) -> ciborium::Value {
    let mut fields = of.as_map().unwrap().iter();
    let found = fields.find(|(key, _)| key.as_text() == Some(name));
    found.unwrap_or_else(|| panic!("no {name} in {of:?}")).1.clone()
}

fn text(of: &ciborium::Value, name: &str) -> String {
    field(of, name).into_text().unwrap()
}

/// A number that CBOR may hold as a whole one.
fn float(value: &ciborium::Value) -> f64 {
    let whole = || i64::try_from(value.as_integer().unwrap()).unwrap() as f64;
    value.as_float().unwrap_or_else(whole)
}

/// What the SDKs take for their HTTP connection.
pub(super) struct Wire(pub(super) Fake);

impl fmt::Debug for Wire {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Wire")
    }
}

impl HttpConnector for Wire {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let fake = self.0.clone();
        HttpConnectorFuture::new(async move {
            tokio::time::sleep(LATENCY).await;
            let answer = fake.0.lock().unwrap().answer(&request);
            Ok(answer)
        })
    }
}
