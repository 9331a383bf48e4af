//! The AWS CLI against the endpoint, each action once: a peer's reading of the protocol.
//!
//! The CLI comes from PyPI into a virtual environment below the user's cache. Without Python or the registry this says so
//! loudly and passes; with `CI=true` it fails.

use std::path::{Path, PathBuf};
use std::process::Command;

use embedded_sqs::server::{Server, ServerConfig};
use serde_json::{Value, json};

const AWSCLI: &str = "awscli==1.46.3";

/// The CLI, installed on first use.
fn installed() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let home = cache
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?
        .join("queue-worker");
    let aws = home.join(AWSCLI).join("bin/aws");
    if aws.exists() {
        return Ok(aws);
    }
    std::fs::create_dir_all(&home).map_err(|error| error.to_string())?;
    let run = |program: &Path, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
        let failed = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(())
        } else {
            Err(failed)
        }
    };
    let venv = home.join(AWSCLI);
    // Some systems' default Python cannot make environments while another one beside it can.
    let own = std::env::var("PYTHON").ok();
    let pythons = ["python3", "python3.13", "python3.12", "python3.11"].map(str::to_owned);
    let path = venv.to_string_lossy();
    let mut made = Err("no Python that can make environments".to_owned());
    for python in own.into_iter().chain(pythons) {
        made = made.or_else(|_| run(Path::new(&python), &["-m", "venv", "--clear", &path]));
    }
    made?;
    // The command is the last thing that is installed: a half installed one is not found.
    let installed = run(&venv.join("bin/pip"), &["install", "--quiet", AWSCLI]);
    if let Err(error) = installed {
        let _ = std::fs::remove_dir_all(&venv);
        return Err(error);
    }
    Ok(aws)
}

struct Cli {
    aws: PathBuf,
    endpoint: String,
}

impl Cli {
    fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new(&self.aws);
        command.args([
            "--endpoint-url",
            &self.endpoint,
            "--region",
            "us-east-1",
            "--output",
            "json",
            "sqs",
        ]);
        command.args(arguments).env_clear();
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test");
        command
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        command.output().unwrap()
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        if output.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&output.stdout).unwrap()
        }
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_aws_cli_speaks_to_each_action() {
    let aws = match installed() {
        Ok(aws) => aws,
        Err(error) if std::env::var("CI").is_ok_and(|ci| ci == "true") => panic!("no AWS CLI: {error}"),
        Err(error) => {
            return eprintln!("\n*** NOT TESTED against the AWS CLI: it could not be installed: {error}\n");
        }
    };
    let server = Server::start(ServerConfig::default()).await.unwrap();
    let cli = Cli {
        aws,
        endpoint: server.url().to_owned(),
    };
    tokio::task::spawn_blocking(move || each_action(&cli))
        .await
        .unwrap();
}

fn each_action(cli: &Cli) {
    let dead = cli.run(&["create-queue", "--queue-name", "dead"]);
    let dead = dead["QueueUrl"].as_str().unwrap();
    let url = cli.run(&[
        "create-queue",
        "--queue-name",
        "q",
        "--attributes",
        "VisibilityTimeout=60",
    ]);
    let url = url["QueueUrl"].as_str().unwrap();
    assert_eq!(cli.run(&["get-queue-url", "--queue-name", "q"])["QueueUrl"], url);
    assert_eq!(
        cli.run(&["list-queues"])["QueueUrls"].as_array().unwrap().len(),
        2
    );
    let policy = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":"3"}"#;
    let attributes = json!({"RedrivePolicy": policy}).to_string();
    cli.run(&[
        "set-queue-attributes",
        "--queue-url",
        url,
        "--attributes",
        &attributes,
    ]);
    let shown = cli.run(&[
        "get-queue-attributes",
        "--queue-url",
        url,
        "--attribute-names",
        "All",
    ]);
    assert_eq!(shown["Attributes"]["RedrivePolicy"], policy);
    assert_eq!(
        cli.run(&["list-dead-letter-source-queues", "--queue-url", dead])["queueUrls"],
        json!([url])
    );
    messages(cli, url);
    cli.run(&["purge-queue", "--queue-url", url]);
    cli.run(&["delete-queue", "--queue-url", url]);
    let gone = cli.fails(&["get-queue-url", "--queue-name", "q"]);
    assert!(gone.contains("AWS.SimpleQueueService.NonExistentQueue"), "{gone}");
}

fn messages(cli: &Cli, url: &str) {
    let attributes = r#"{"n":{"DataType":"Number","StringValue":"1"}}"#;
    cli.run(&[
        "send-message",
        "--queue-url",
        url,
        "--message-body",
        "one",
        "--message-attributes",
        attributes,
    ]);
    let receive = [
        "receive-message",
        "--queue-url",
        url,
        "--max-number-of-messages",
        "10",
        "--wait-time-seconds",
        "1",
    ];
    let all = ["--attribute-names", "All", "--message-attribute-names", "All"];
    let got = cli.run(&[&receive[..], &all[..]].concat());
    let message = &got["Messages"][0];
    assert_eq!(message["Body"], "one");
    assert_eq!(message["MessageAttributes"]["n"]["StringValue"], "1");
    assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
    let handle = message["ReceiptHandle"].as_str().unwrap();
    let change = [
        "change-message-visibility",
        "--queue-url",
        url,
        "--receipt-handle",
        handle,
    ];
    cli.run(&[&change[..], &["--visibility-timeout", "0"]].concat());
    let handle = cli.run(&receive)["Messages"][0]["ReceiptHandle"]
        .as_str()
        .unwrap()
        .to_owned();
    cli.run(&["delete-message", "--queue-url", url, "--receipt-handle", &handle]);
    let entries = r#"[{"Id":"0","MessageBody":"a"},{"Id":"1","MessageBody":"b"}]"#;
    let sent = cli.run(&["send-message-batch", "--queue-url", url, "--entries", entries]);
    assert_eq!(sent["Successful"].as_array().unwrap().len(), 2);
    let got = cli.run(&receive);
    let handle = |n: usize| got["Messages"][n]["ReceiptHandle"].clone();
    let change = json!([{"Id": "0", "ReceiptHandle": handle(0), "VisibilityTimeout": 5}]).to_string();
    cli.run(&[
        "change-message-visibility-batch",
        "--queue-url",
        url,
        "--entries",
        &change,
    ]);
    let delete =
        json!([{"Id": "0", "ReceiptHandle": handle(0)}, {"Id": "1", "ReceiptHandle": handle(1)}]).to_string();
    let deleted = cli.run(&["delete-message-batch", "--queue-url", url, "--entries", &delete]);
    assert_eq!(deleted["Successful"].as_array().unwrap().len(), 2);
}
