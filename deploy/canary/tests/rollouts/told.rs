//! What people are told of a rollout: notes while it goes on, a page at its end. The pages stay in cargo's directory for tests, as
//! `report-real-*.html`, where CI checks them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::ground::Ground;

/// A webhook's URL, and what is posted to it.
fn webhook() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, posted) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &sender);
        }
    });
    (url, posted)
}

fn answer(stream: TcpStream, sender: &Sender<Value>) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    // Whoever listened may have seen enough.
    let _ = sender.send(serde_json::from_slice(&body).unwrap());
    let done = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(done).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_is_told_while_it_goes_on_and_by_a_page_at_its_end() {
    let ground = Ground::new().await;
    let (url, posted) = webhook();
    let file = ground.path("canary.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let notify = format!("[[notify]]\nwebhook = \"{url}\"\n");
    std::fs::write(&file, settings + &notify).unwrap();
    ground.stream(150);
    let good = ground.roll_out("A", &[]).await;
    assert_eq!(good.code, Some(0), "{}", good.text);
    let bad = ground.roll_out("C", &["WORKER__ORDERS__RETRY_RATIO=0.25"]).await;
    assert_eq!(bad.code, Some(3), "{}", bad.text);

    let notes: Vec<Value> = posted.try_iter().collect();
    let of_bad: Vec<&Value> = notes.iter().filter(|note| note["release"] == "C").collect();
    let stages: Vec<&str> = of_bad
        .iter()
        .map(|note| note["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        (stages[0], stages[1], stages.last()),
        ("start", "step", Some(&"done"))
    );
    let rolled_back = |note: &&&Value| note["text"].as_str().unwrap().starts_with("rolling back: ");
    let verdict = of_bad.iter().find(rolled_back).unwrap();
    assert_eq!(
        (&verdict["stage"], &verdict["baseline"]),
        (&"verdict".into(), &"A".into())
    );
    let ids: BTreeSet<&str> = notes.iter().map(|note| note["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), notes.len(), "{notes:?}");

    for (ended, expected) in [(&good, "promoted"), (&bad, "rolled back")] {
        let line = ended.text.lines().find_map(|line| line.strip_prefix("report: "));
        let page = std::fs::read_to_string(line.unwrap()).unwrap();
        assert!(page.contains(expected) && !page.contains("WORKER__"), "{page}");
        let name = format!("report-real-{}.html", expected.replace(' ', "-"));
        std::fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name), page).unwrap();
    }
    let history = ground.run(&["history"]).await;
    assert!(
        history.text.contains("promoted") && history.text.contains("rolled back"),
        "{}",
        history.text
    );
    ground.accounts().await;
}
