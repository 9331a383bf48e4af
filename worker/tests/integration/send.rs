//! `worker send` into queues of LocalStack.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::process::Stdio;

use aws_sdk_sqs::types::MessageSystemAttributeName;
use tokio::io::AsyncWriteExt;

use crate::localstack::{Queues, Shape};
use crate::process::{PATIENCE, command, settings};

/// Exit code, standard output, standard error.
async fn send(
    arguments: &[&str],
    variables: &HashMap<&'static str, String>,
    input: &[u8],
) -> (Option<i32>, String, String) {
    let mut child = command(&[&["send"], arguments].concat(), variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input).await;
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What sending needs of a worker's settings: no release.
fn variables(queues: &Queues) -> HashMap<&'static str, String> {
    let mut variables = settings(queues);
    variables.retain(|name, _| !name.starts_with("WORKER__") || *name == "WORKER__QUEUE__URL");
    variables
}

#[tokio::test]
async fn every_line_of_a_file_is_a_message_and_bad_lines_are_named() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let mut file = tempfile::NamedTempFile::new().unwrap();
    for n in 1..=1234 {
        writeln!(file, "{{\"n\": {n}}}").unwrap();
    }
    file.write_all(b"\n\xff\nlast").unwrap();
    let path = file.path().to_str().unwrap();
    let arguments = ["--attribute", "tenant=t=1", "--attribute", "kind=test", path];
    let (code, out, err) = send(&arguments, &variables(&queues), b"").await;
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err, "worker: line 1236: byte 1 is no UTF-8; expected text\n");
    assert!(out.starts_with("sent 1235 messages to test-"), "{out}");
    assert!(out.ends_with(" 1 not sent, 1 blank lines left out\n"), "{out}");
    let messages = queues.take_all(&queues.main).await;
    let bodies: BTreeSet<_> = messages
        .iter()
        .map(|message| message.body.clone().unwrap())
        .collect();
    assert_eq!((messages.len(), bodies.len()), (1235, 1235));
    assert!(bodies.contains("{\"n\": 1234}") && bodies.contains("last"));
    for message in messages {
        let attributes = message.message_attributes.unwrap();
        assert_eq!(attributes["tenant"].string_value.as_deref(), Some("t=1"));
        assert_eq!(attributes["kind"].string_value.as_deref(), Some("test"));
    }
    queues.delete().await;
}

#[tokio::test]
async fn standard_input_goes_to_a_fifo_queue_in_order_and_twice_is_once() {
    let shape = Shape {
        fifo: true,
        ..Shape::default()
    };
    let Some(queues) = Queues::create(shape).await else {
        return;
    };
    let mut variables = variables(&queues);
    let name = queues.main.rsplit('/').next().unwrap().to_owned();
    variables.remove("WORKER__QUEUE__URL");
    variables.insert("WORKER__QUEUE__NAME", name);
    let input: String = (0..25).map(|n| format!("{n}\n")).collect();
    let (code, _, err) = send(&[], &variables, input.as_bytes()).await;
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("worker: --group: not given; expected one, since test-"),
        "{err}"
    );
    for _ in 0..2 {
        let arguments = ["--group", "g", "--deduplication", "june"];
        let (code, out, err) = send(&arguments, &variables, input.as_bytes()).await;
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(
            out.starts_with("sent 25 messages to ") && out.contains("3 requests"),
            "{out}"
        );
    }
    let messages = queues.take_all(&queues.main).await;
    let bodies: Vec<_> = messages
        .iter()
        .map(|message| message.body.clone().unwrap())
        .collect();
    assert_eq!(bodies, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    let system = messages[0].attributes.as_ref().unwrap();
    assert_eq!(system[&MessageSystemAttributeName::MessageGroupId], "g");
    assert_eq!(
        system[&MessageSystemAttributeName::MessageDeduplicationId],
        "june-1"
    );
    queues.delete().await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_one_clear_line() {
    let Some(queues) = Queues::create(Shape::default()).await else {
        return;
    };
    let good = variables(&queues);
    let mut gone = good.clone();
    gone.insert("WORKER__QUEUE__URL", format!("{}-gone", queues.main));
    let mut none = good.clone();
    none.remove("WORKER__QUEUE__URL");
    for (arguments, variables, code, start) in [
        (
            &["no-such-file"][..],
            &good,
            1,
            "worker: no-such-file: No such file",
        ),
        (&["/"], &good, 1, "worker: /: "),
        (&[], &gone, 1, "worker: queue.url: http"),
        (&[], &none, 64, "worker: queue.url (WORKER__QUEUE__URL): not set"),
        (
            &["--attribute", "tenant"],
            &good,
            64,
            "error: invalid value 'tenant' for '--attribute",
        ),
        (
            &["--rate", "0"],
            &good,
            64,
            "error: invalid value '0' for '--rate",
        ),
    ] {
        let (status, out, err) = send(arguments, variables, b"x\n").await;
        assert_eq!(status, Some(code), "{err}");
        assert!(err.starts_with(start) && out.is_empty(), "{err}{out}");
    }
    queues.delete().await;
}
