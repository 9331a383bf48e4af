use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::*;
use crate::rollout::HoldReason;

/// A server that answers with what it was given, in turn, the last one for ever; none is no answer at all.
struct Fake {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<String>>>,
    came: Arc<Notify>,
}

impl Fake {
    async fn start(answers: &[Option<u16>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
        let came = Arc::new(Notify::new());
        let (seen, told, answers) = (Arc::clone(&bodies), Arc::clone(&came), answers.to_vec());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, told, answers) = (Arc::clone(&seen), Arc::clone(&told), answers.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (seen, told, answers) = (Arc::clone(&seen), Arc::clone(&told), answers.clone());
                    async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let number = {
                            let mut seen = seen.lock().unwrap();
                            seen.push(String::from_utf8(body.to_vec()).unwrap());
                            seen.len() - 1
                        };
                        told.notify_one();
                        match answers[number.min(answers.len() - 1)] {
                            Some(status) => {
                                let mut response = Response::new(Full::<Bytes>::default());
                                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                                Ok::<_, Infallible>(response)
                            }
                            None => std::future::pending().await,
                        }
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self {
            address,
            bodies,
            came,
        }
    }

    fn target(&self, shape: Shape) -> Target {
        Target::webhook(&format!("http://{}/hook", self.address), shape).unwrap()
    }

    fn subscriber(&self, shape: Shape) -> Subscriber {
        Subscriber {
            target: self.target(shape),
            discretion: Discretion::Bounded,
        }
    }

    fn bodies(&self) -> Vec<String> {
        self.bodies.lock().unwrap().clone()
    }
}

fn note(text: &str) -> Note {
    Note {
        schema: SCHEMA,
        id: format!("r-{text}"),
        at: Moment::from_millis(1_764_064_800_123),
        stage: Stage::Verdict,
        rollout: "r".to_owned(),
        release: "2.0".to_owned(),
        baseline: Some("1.9".to_owned()),
        text: text.to_owned(),
    }
}

/// With a secret where only the fleet may see it.
fn journal() -> Journal {
    let definition = serde_json::json!({
        "fleet": "local", "command": ["worker"], "environment": {"PASSWORD": "secret"}
    });
    let journal = serde_json::json!({
        "schema": 1, "rollout": "r", "writes": 1, "plan": "",
        "state": {
            "kind": {"kind": "canary"}, "candidate": {"release": "2.0", "definition": definition}, "baseline": null,
            "began": 0.0, "phase": {"phase": "preflight"},
        },
    });
    Journal::read(journal.to_string().as_bytes()).unwrap()
}

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn notes_arrive_in_order_in_both_shapes() {
    let (json, slack) = (Fake::start(&[Some(200)]).await, Fake::start(&[Some(204)]).await);
    let (notifier, bell) =
        Notifier::start(vec![json.subscriber(Shape::Json), slack.subscriber(Shape::Slack)]);
    for text in ["one", "<!channel>"] {
        bell.tell(&note(text));
    }
    drop(bell);
    notifier.close(LIMIT).await;
    let read = |body: &String| serde_json::from_str::<Value>(body).unwrap();
    let bodies: Vec<Value> = json.bodies().iter().map(read).collect();
    assert_eq!(bodies.len(), 2);
    assert_eq!(
        (&bodies[0]["stage"], &bodies[0]["text"]),
        (&"verdict".into(), &"one".into())
    );
    assert_eq!(
        (&bodies[1]["release"], &bodies[1]["id"]),
        (&"2.0".into(), &"r-<!channel>".into())
    );
    let text = serde_json::json!({"text": "2.0 (against 1.9): &lt;!channel&gt;"});
    assert_eq!(read(&slack.bodies()[1]), text);
}

#[tokio::test]
async fn what_may_go_better_is_tried_again_and_what_cannot_is_not() {
    let fake = Fake::start(&[Some(500), Some(503), Some(200), Some(404), Some(200)]).await;
    let (notifier, bell) = Notifier::start(vec![fake.subscriber(Shape::Json)]);
    for text in ["a", "b", "c"] {
        bell.tell(&note(text));
    }
    drop(bell);
    notifier.close(LIMIT).await;
    let ids: Vec<String> = fake
        .bodies()
        .iter()
        .map(|body| {
            serde_json::from_str::<Value>(body).unwrap()["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(ids, ["r-a", "r-a", "r-a", "r-b", "r-c"]);
}

/// On the paused clock, on which the waits take no time.
#[tokio::test(start_paused = true)]
async fn tries_are_bounded() {
    let fake = Fake::start(&[Some(500)]).await;
    let mut post = Post::new(fake.target(Shape::Json)).await.unwrap();
    let error = deliver(&mut post, &note("a")).await.unwrap_err();
    assert_eq!(
        (error.text.as_str(), fake.bodies().len()),
        ("it answers 500", TRIES as usize)
    );
    let nobody = Target::webhook("http://127.0.0.1:1/", Shape::Json).unwrap();
    let mut post = Post::new(nobody).await.unwrap();
    assert!(
        deliver(&mut post, &note("a"))
            .await
            .unwrap_err()
            .text
            .contains("refused")
    );
}

#[tokio::test]
async fn a_target_that_hangs_is_in_nobodys_way() {
    let (hanging, well) = (Fake::start(&[None]).await, Fake::start(&[Some(200)]).await);
    let (notifier, bell) = Notifier::start(vec![
        hanging.subscriber(Shape::Json),
        well.subscriber(Shape::Json),
    ]);
    bell.tell(&note("first"));
    hanging.came.notified().await;
    // Far more than the queue of the one that hangs has room for; telling does not wait, so this ends.
    for number in 0..3 * QUEUE {
        bell.tell(&note(&number.to_string()));
        well.came.notified().await;
    }
    assert!(well.bodies().len() >= QUEUE, "{}", well.bodies().len());
    assert_eq!(hanging.bodies().len(), 1);
    // Nor does the end wait for it.
    drop(bell);
    tokio::time::timeout(LIMIT, notifier.close(Duration::from_millis(50)))
        .await
        .unwrap();
}

#[tokio::test]
async fn each_subscriber_is_told_with_its_own_discretion() {
    let (open, closed) = (Fake::start(&[Some(200)]).await, Fake::start(&[Some(200)]).await);
    let redacted = Subscriber {
        discretion: Discretion::Redacted,
        ..closed.subscriber(Shape::Json)
    };
    let (notifier, mut bell) = Notifier::start(vec![open.subscriber(Shape::Json), redacted]);
    let mut journal = journal();
    let resumed = Happening::Resumed {
        by: Some("ann".to_owned()),
    };
    // Of two that are the same the later one was just written; what nobody need be told of is not.
    journal.tell(
        Moment::default(),
        [resumed.clone(), Happening::CanaryReady, resumed],
    );
    for entry in &journal.timeline[1..] {
        bell.happened(entry, &journal);
    }
    drop(bell);
    notifier.close(LIMIT).await;
    let (open, closed) = (open.bodies(), closed.bodies());
    assert_eq!((open.len(), closed.len()), (1, 1));
    assert!(
        open[0].contains("resumed by ann") && open[0].contains("r-2"),
        "{open:?}"
    );
    assert!(!closed[0].contains("ann"), "{closed:?}");
}

#[test]
fn people_are_told_what_concerns_them() {
    let mut journal = journal();
    journal.timeline.clear();
    let held = Happening::Held {
        reason: HoldReason::Person {
            name: "ann".to_owned(),
            why: "lunch".to_owned(),
        },
        until: Moment::default(),
    };
    let happenings = [
        Happening::CanaryReady,
        Happening::Step {
            number: 1,
            of: 3,
            share: 0.1,
        },
        held,
        Happening::Trouble { text: "x".to_owned() },
    ];
    journal.tell(Moment::default(), happenings);
    let notes = |discretion| -> Vec<Note> {
        (0..5)
            .filter_map(|index| Note::of(&journal, index, discretion))
            .collect()
    };
    let open = notes(Discretion::Bounded);
    assert_eq!(
        open.iter().map(|note| note.stage).collect::<Vec<_>>(),
        [Stage::Step, Stage::Held]
    );
    assert!(open[1].text.contains("ann: lunch") && open[0].id != open[1].id);
    let text = serde_json::to_string(&notes(Discretion::Redacted)).unwrap();
    assert!(
        !text.contains("lunch") && !text.contains("ann") && !text.contains("secret"),
        "{text}"
    );
}
