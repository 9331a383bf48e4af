//! CPU a message: the worker against the bare loop, interleaved.

use anyhow::{Context, Result, ensure};

use crate::endpoint::Endpoint;
use crate::page::Page;
use crate::{bare, median, process, worker};

/// Drained in each run.
const MESSAGES: usize = 100_000;

/// The consumers in the order of a round, which every second round turns round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Consumer {
    Bare { tuned: bool },
    Worker { threads: usize },
}

const CONSUMERS: [Consumer; 4] = [
    Consumer::Bare { tuned: false },
    Consumer::Worker { threads: 1 },
    Consumer::Bare { tuned: true },
    Consumer::Worker { threads: 0 },
];

impl Consumer {
    const fn name(self) -> &'static str {
        match self {
            Self::Bare { tuned: false } => "bare loop",
            Self::Bare { tuned: true } => "bare loop, the SDK set as in the worker",
            Self::Worker { threads: 1 } => "worker, one thread as the loop",
            Self::Worker { .. } => "worker, a thread a core",
        }
    }
}

/// One run: µs of CPU a message, and requests to SQS a message.
#[derive(Clone, Copy, Debug)]
struct Run {
    micros: f64,
    requests: Option<f64>,
}

pub(crate) async fn measure(rounds: usize, page: &mut Page) -> Result<()> {
    let mut endpoint = Endpoint::start().await?;
    let mut all: Vec<Vec<Run>> = Vec::new();
    for round in 0..rounds {
        let mut order = CONSUMERS;
        if round % 2 == 1 {
            order.reverse();
        }
        let mut runs = vec![None; CONSUMERS.len()];
        for consumer in order {
            let at = CONSUMERS.iter().position(|other| *other == consumer);
            runs[at.context("a consumer of the list")?] = Some(run(&mut endpoint, consumer).await?);
        }
        let runs: Vec<Run> = runs.into_iter().flatten().collect();
        let micros: Vec<String> = runs.iter().map(|run| format!("{:.2}", run.micros)).collect();
        eprintln!("  round {}: {} µs a message", round + 1, micros.join(", "));
        all.push(runs);
    }
    page.put("cost", table(&all));
    Ok(())
}

async fn run(endpoint: &mut Endpoint, consumer: Consumer) -> Result<Run> {
    let queue = endpoint.fill(MESSAGES).await?;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let messages = MESSAGES as f64;
    match consumer {
        Consumer::Bare { tuned } => {
            let job = bare::Job {
                queue,
                messages: MESSAGES,
                tuned,
            };
            let variables = process::variables(&endpoint.url, Vec::new());
            let done: bare::Done = process::run("bare", &job, variables).await?;
            Ok(Run {
                micros: done.cpu_micros / messages,
                requests: None,
            })
        }
        Consumer::Worker { threads } => {
            let job = worker::Job {
                threads,
                until: worker::Until::Messages(MESSAGES),
            };
            let settings = process::settings(&queue, process::free_address()?);
            let variables = process::variables(&endpoint.url, settings);
            let done: worker::Done = process::run("worker", &job, variables).await?;
            let attempts = total(&done.metrics, "worker_attempts_total", "outcome=\"done\"");
            ensure!(
                attempts >= messages,
                "{attempts} attempts were done of {messages}"
            );
            let requests = total(&done.metrics, "worker_sqs_requests_total", "");
            Ok(Run {
                micros: done.cpu_micros / messages,
                requests: Some(requests / messages),
            })
        }
    }
}

/// The sum of the series of a metric whose labels contain `label`.
pub(crate) fn total(metrics: &str, name: &str, label: &str) -> f64 {
    let value = |line: &str| {
        let labels = line.strip_prefix(name)?.strip_prefix('{')?;
        let (labels, value) = labels.rsplit_once("} ")?;
        labels.contains(label).then(|| value.parse::<f64>().ok())?
    };
    metrics.lines().filter_map(value).sum()
}

fn table(all: &[Vec<Run>]) -> String {
    let column = |at: usize| all.iter().map(move |runs| runs[at]);
    let mut text = format!(
        "Medians of {} rounds of {MESSAGES} messages; a ratio is the median of the ratios within each round.\n\n\
         | consumer | CPU, µs a message | × bare loop | lowest to highest | SQS requests a message |\n|---|---|---|---|---|\n",
        all.len()
    );
    for (at, consumer) in CONSUMERS.iter().enumerate() {
        let micros = median(column(at).map(|run| run.micros).collect());
        let mut ratios: Vec<f64> = all.iter().map(|runs| runs[at].micros / runs[0].micros).collect();
        ratios.sort_by(f64::total_cmp);
        let requests: Vec<f64> = column(at).filter_map(|run| run.requests).collect();
        let requests = if requests.is_empty() {
            "0.2 by design".to_owned()
        } else {
            format!("{:.4}", median(requests))
        };
        text.push_str(&format!(
            "| {} | {micros:.2} | {:.2} | {:.2} to {:.2} | {requests} |\n",
            consumer.name(),
            median(ratios.clone()),
            ratios[0],
            ratios[ratios.len() - 1],
        ));
    }
    let strict = |at: usize| median(all.iter().map(|runs| runs[at].micros / runs[2].micros).collect());
    text.push_str(&format!(
        "\nAgainst the loop with the SDK set as in the worker: × {:.2} on one thread, × {:.2} on a thread a core.\n",
        strict(1),
        strict(3)
    ));
    text
}
