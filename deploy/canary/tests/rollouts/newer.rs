//! Messages that only the new release understands.

use std::net::SocketAddr;

use canary::rollout::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::ground::{Ground, ended, rollout};

/// An application beside the workers: poison it refuses, and messages of the new form unless it `knows_new`.
async fn application(knows_new: bool) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, knows_new));
        }
    });
    address
}

/// Answers requests of one connection until it is closed.
async fn serve(mut stream: TcpStream, knows_new: bool) -> std::io::Result<()> {
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let head = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let Some(end) = head.map(|at| at + 4) else {
            match stream.read(&mut part).await? {
                0 => return Ok(()),
                read => seen.extend(&part[..read]),
            }
            continue;
        };
        let text = String::from_utf8_lossy(&seen[..end]).to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let whole = end + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
        while seen.len() < whole {
            match stream.read(&mut part).await? {
                0 => return Ok(()),
                read => seen.extend(&part[..read]),
            }
        }
        let body = String::from_utf8_lossy(&seen[end..whole]).into_owned();
        let refused = body.contains("\"fault\":\"reject\"") || body.contains("\"form\":2") && !knows_new;
        let status = if refused {
            "422 Unprocessable Content"
        } else {
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        seen.drain(..whole);
    }
}

/// What `docs/rollouts.md` says of them: the new release is promoted, what the old one got meanwhile waits in the dead-letter queue with
/// its name, and one command brings it back.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_new_release_understands_is_dead_lettered_by_the_old_one_and_comes_back_by_a_redrive() {
    let ground = Ground::new().await;
    ground.stream(100);
    let url = |address| format!("WORKER__HTTP__URL=http://{address}/");
    let (old, new) = (url(application(false).await), url(application(true).await));
    let kind = "WORKER__HANDLER__KIND=http";
    let mut first = rollout("A", &[kind, &old]);
    first.extend(["--skip-canary", "a test begins"]);
    let first = ground.run(&first).await;
    assert_eq!(first.code, Some(0), "{}", first.text);
    let driving = ground.start(&rollout("B", &[kind, &new]));
    ground
        .until("B", |journal| matches!(journal.state.phase, Phase::Step { .. }))
        .await;
    for number in 0..60 {
        let body = format!("{{\"order_id\":\"n-{number}\",\"form\":2}}");
        ground.send_body(body).await;
    }
    let end = ended(driving).await;
    assert_eq!(end.code, Some(0), "{}", end.text);
    let redrive = ["redrive", "--dlq", &ground.dead_letter, "--failed-release", "A"];
    let redriven = ground.run(&redrive).await;
    assert_eq!(redriven.code, Some(0), "{}", redriven.text);
    assert!(
        ground
            .journal()
            .unwrap()
            .evidence
            .windows
            .iter()
            .any(|window| window.baseline.failures() > 3),
        "the old release did get some of them"
    );
    // Poison alone is left: every message of the new form was done.
    ground.accounts().await;
}
