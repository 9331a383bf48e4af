use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::handler::Reason;
use crate::message::{Attribute, Attributes};
use crate::release::{Identity, Release, Track};

/// What the server does with a request.
#[derive(Clone, Debug)]
enum Act {
    /// Answers this and closes the connection.
    Say(String),
    /// Answers this, and then goes on with spaces for ever.
    Endless(&'static str),
    /// Answers this, and then nothing more.
    Hang(&'static str),
    /// Closes the connection without a word.
    Crash,
}

fn status(status: &str, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

/// A server that does the same with every request, and keeps what it was asked.
struct Server {
    url: Uri,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/messages", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, act.clone(), Arc::clone(&kept)));
            }
        });
        Self {
            url: url.parse().unwrap(),
            asked,
        }
    }

    fn options(&self) -> Options {
        Options {
            url: self.url.clone(),
            ready: None,
            timeout: None,
            content_type: HeaderValue::from_static("application/json"),
            reasons: vec![Reason::new("sold_out")],
        }
    }
}

async fn serve(mut stream: TcpStream, act: Act, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let (mut request, mut part) = (String::new(), [0; 4096]);
    while !request.ends_with("the body") && !request.starts_with("HEAD") && !request.starts_with("GET") {
        let count = stream.read(&mut part).await?;
        request.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    asked.lock().unwrap().push(request);
    match act {
        Act::Say(answer) => stream.write_all(answer.as_bytes()).await?,
        Act::Crash => {}
        Act::Hang(beginning) => {
            stream.write_all(beginning.as_bytes()).await?;
            std::future::pending::<()>().await;
        }
        Act::Endless(beginning) => {
            stream.write_all(beginning.as_bytes()).await?;
            // Until the client goes away.
            loop {
                stream.write_all(&[b' '; 1024]).await?;
            }
        }
    }
    stream.shutdown().await
}

fn message() -> Message {
    Message {
        id: "id-2".into(),
        receipt: "r".into(),
        body: "the body".to_owned(),
        attributes: Attributes::from([
            ("tenant".to_owned(), Attribute::text("Zoë\n")),
            (
                "traceparent".to_owned(),
                Attribute::text("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ),
        ]),
        receive_count: 3,
        sent_at: None,
        first_received_at: None,
        group: Some("g 1".to_owned()),
        deduplication_id: None,
        trace_header: Some("Root=1-5759e988-bd862e3fe1be46a994272793".to_owned()),
        dead_letter_source: None,
        story: None,
    }
}

pub(super) fn context(deadline: Duration) -> Context {
    Context {
        identity: Arc::new(Identity {
            release: Release::new("1.4").unwrap(),
            track: Track::Canary,
        }),
        original_message_id: "id-1".into(),
        attempt: 4,
        deadline: Instant::now() + deadline,
        course: Arc::default(),
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

async fn outcome(act: Act) -> Outcome {
    let server = Server::start(act).await;
    Http::new(server.options())
        .handle(&message(), &context(PATIENCE))
        .await
}

/// Outcome, seconds to wait, and what the error text contains.
fn told(outcome: &Outcome) -> (&'static str, Option<u64>, &str) {
    let seconds = |after: &Option<Duration>| after.map(|after| after.as_secs());
    match outcome {
        Outcome::Done => ("done", None, ""),
        Outcome::Retry { after, error } => ("retry", seconds(after), error),
        Outcome::Reject { reason, error } => {
            assert_eq!(*reason, Reason::REJECTED);
            ("reject", None, error)
        }
        Outcome::Unavailable { after, error } => ("unavailable", seconds(after), error),
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table of all mappings")]
async fn every_answer_has_its_outcome() {
    let long = "x".repeat(3000);
    let huge = "x".repeat(MAX_ANSWER_BYTES + 1);
    let soon = |status_line| status(status_line, "retry-after: 7\r\n", "busy");
    let table = [
        (status("200 OK", "", ""), "done", None, ""),
        (status("204 No Content", "", ""), "done", None, ""),
        (status("299 Fine", "", &huge), "done", None, ""),
        (
            status("429 Too Many Requests", "", ""),
            "unavailable",
            None,
            "429 Too Many",
        ),
        (
            soon("429 Too Many Requests"),
            "unavailable",
            Some(7),
            "429 Too Many Requests: busy",
        ),
        (
            soon("503 Service Unavailable"),
            "unavailable",
            Some(7),
            "503 Service Unavailable: busy",
        ),
        (
            status(
                "503 Service Unavailable",
                "retry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
                "",
            ),
            "unavailable",
            Some(0),
            "503",
        ),
        (
            status(
                "503 Service Unavailable",
                "retry-after: Mon, 21 Oct 2999 07:28:00 GMT\r\n",
                "",
            ),
            "unavailable",
            Some(900),
            "503",
        ),
        (
            status("503 Service Unavailable", "retry-after: tomorrow\r\n", ""),
            "unavailable",
            None,
            "503",
        ),
        (status("408 Request Timeout", "", ""), "retry", None, "408"),
        (
            status("409 Conflict", "", "locked"),
            "retry",
            None,
            "409 Conflict: locked",
        ),
        (status("425 Too Early", "", ""), "retry", None, "425"),
        (
            soon("500 Internal Server Error"),
            "retry",
            Some(7),
            "500 Internal Server Error: busy",
        ),
        (status("599 Odd", "", ""), "retry", None, "599"),
        (
            status("302 Found", "location: /elsewhere\r\n", ""),
            "retry",
            None,
            "302 Found; expected 2xx",
        ),
        (
            status("400 Bad Request", "", "no such\u{0} sku"),
            "reject",
            None,
            "400 Bad Request: no such\u{fffd} sku",
        ),
        (status("404 Not Found", "", ""), "reject", None, "404 Not Found"),
        (
            status("413 Payload Too Large", "", &long),
            "reject",
            None,
            "413 Payload Too Large: xxx",
        ),
        (
            status("422 Unprocessable Entity", "", &huge),
            "reject",
            None,
            "422",
        ),
        (Act::Crash, "retry", None, "no answer: "),
        (
            Act::Say("SMTP ready\r\n\r\n".to_owned()),
            "retry",
            None,
            "no answer: ",
        ),
        (
            Act::Say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_owned()),
            "retry",
            None,
            "broke off",
        ),
        (
            Act::Say("HTTP/1.1 400 No\r\ncontent-length: 9\r\n\r\nhalf".to_owned()),
            "reject",
            None,
            "half",
        ),
        (Act::Endless("HTTP/1.1 200 OK\r\n\r\n"), "done", None, ""),
        (Act::Endless("HTTP/1.1 500 No\r\n\r\n"), "retry", None, "500"),
        (
            Act::Endless("HTTP/1.1 200 OK\r\nx-endless: "),
            "retry",
            None,
            "no answer: ",
        ),
        (Act::Hang("HTTP/1.1 400 No\r\n\r\nwhy"), "reject", None, "why"),
    ];
    for (act, expected, after, text) in table {
        let name: String = format!("{act:?}").chars().take(90).collect();
        let outcome = outcome(act).await;
        let (kind, seconds, error) = told(&outcome);
        assert_eq!((kind, seconds), (expected, after), "{name}: {error}");
        assert!(error.contains(text), "{name}: {error}");
        assert!(error.len() <= 1100, "{name}: {} bytes", error.len());
    }
}

#[tokio::test]
async fn the_application_says_why_it_rejects_and_how_good_its_work_was() {
    let said = "x-queue-worker-reason: sold_out\r\nx-queue-worker-signals: fallback=bad, empty=ok\r\n";
    for (line, expected) in [
        (
            "410 Gone",
            Outcome::reject(Reason::new("sold_out"), "410 Gone: none"),
        ),
        ("200 OK", Outcome::Done),
    ] {
        let server = Server::start(status(line, said, "none")).await;
        let (handler, context) = (Http::new(server.options()), context(PATIENCE));
        assert_eq!(handler.reasons(), [Reason::new("sold_out")]);
        assert_eq!(handler.handle(&message(), &context).await, expected);
        assert_eq!(*context.course.signals(), [("fallback", true), ("empty", false)]);
    }
}

#[tokio::test]
async fn what_never_answers_is_ended_by_the_shorter_of_two_times() {
    for beginning in ["", "HTTP/1.1 200 OK\r\n\r\n"] {
        let server = Server::start(Act::Hang(beginning)).await;
        let options = Options {
            timeout: Some(Duration::from_millis(100)),
            ..server.options()
        };
        let outcome = Http::new(options).handle(&message(), &context(PATIENCE)).await;
        assert_eq!(told(&outcome).0, "retry", "{outcome:?}");
        let outcome = Http::new(server.options())
            .handle(&message(), &context(Duration::from_millis(100)))
            .await;
        assert_eq!(told(&outcome).0, "retry", "{outcome:?}");
    }
}

/// A port that nobody listens on.
async fn nobody() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap()
}

#[tokio::test]
async fn nobody_there_is_not_the_messages_fault() {
    let server = Server::start(Act::Crash).await;
    for url in [nobody().await, "https://127.0.0.1:1/".parse().unwrap()] {
        let options = Options {
            url,
            ..server.options()
        };
        let outcome = Http::new(options).handle(&message(), &context(PATIENCE)).await;
        let (kind, _, error) = told(&outcome);
        assert_eq!(kind, "unavailable");
        assert!(error.starts_with("no connection: "), "{error}");
    }
}

#[tokio::test]
async fn the_application_is_told_what_is_known_of_the_message() {
    let server = Server::start(status("200 OK", "", "")).await;
    let handler = Http::new(server.options());
    assert_eq!(
        handler.handle(&message(), &context(PATIENCE)).await,
        Outcome::Done
    );
    let asked = server.asked.lock().unwrap()[0].clone();
    let (head, body) = asked.split_once("\r\n\r\n").unwrap();
    assert_eq!(body, "the body");
    assert!(head.starts_with("POST /messages HTTP/1.1\r\n"), "{head}");
    for line in [
        "content-type: application/json",
        "x-queue-worker-message-id: id-2",
        "x-queue-worker-original-message-id: id-1",
        "x-queue-worker-receive-count: 3",
        "x-queue-worker-attempt: 4",
        "x-queue-worker-group-id: g 1",
        "x-queue-worker-release: 1.4",
        "x-queue-worker-track: canary",
        "x-amzn-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793",
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert!(head.lines().any(|is| is == line), "{line} is not in\n{head}");
    }
    let attributes = r#"x-queue-worker-attributes: {"tenant":{"type":"String","value":"Zo\u00eb\n"}"#;
    assert!(head.contains(attributes), "{head}");
    let left = head
        .lines()
        .find_map(|line| line.strip_prefix("x-queue-worker-deadline-ms: "));
    assert!(left.unwrap().parse::<u128>().unwrap() <= PATIENCE.as_millis());
}

#[tokio::test]
async fn connections_are_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    let router = axum::Router::new().fallback(async || "thank you");
    let counted = axum::serve::ListenerExt::tap_io(listener, move |_| *count.lock().unwrap() += 1);
    tokio::spawn(async move { axum::serve(counted, router).await });
    let server = Server::start(Act::Crash).await;
    let handler = Http::new(Options {
        url,
        ..server.options()
    });
    for _ in 0..20 {
        assert_eq!(
            handler.handle(&message(), &context(PATIENCE)).await,
            Outcome::Done
        );
    }
    assert_eq!(*connections.lock().unwrap(), 1);
}

#[tokio::test]
async fn the_handler_is_ready_once_the_application_is() {
    let limit = Duration::from_millis(600);
    let waits = async |options: Options| {
        let handler = Http::new(options);
        tokio::time::timeout(limit, handler.ready()).await.is_err()
    };
    let good = Server::start(status("405 Method Not Allowed", "", "")).await;
    let starting = Server::start(status("503 Service Unavailable", "", "")).await;
    let healthy = Server::start(status("200 OK", "", "")).await;
    assert!(!waits(good.options()).await);
    assert!(waits(starting.options()).await);
    assert!(
        waits(Options {
            url: nobody().await,
            ..good.options()
        })
        .await
    );
    let asking = |server: &Server| Options {
        ready: Some(server.url.clone()),
        ..server.options()
    };
    assert!(waits(asking(&good)).await, "405 is no 2xx");
    assert!(!waits(asking(&healthy)).await);
    assert!(healthy.asked.lock().unwrap()[0].starts_with("GET /messages "));
    assert!(good.asked.lock().unwrap()[0].starts_with("HEAD /messages "));
}

#[test]
fn a_date_to_come_is_the_time_until_then() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
    let mut headers = hyper::HeaderMap::new();
    let date = httpdate::fmt_http_date(now + Duration::from_secs(42));
    headers.insert("retry-after", date.parse().unwrap());
    let answer = Answer {
        status: hyper::StatusCode::SERVICE_UNAVAILABLE,
        headers,
        body: Vec::new(),
        rest: crate::http_client::Rest::Whole,
    };
    assert_eq!(told(&outcome::of(Ok(answer), &Said::new(&[]), now)).1, Some(42));
}
