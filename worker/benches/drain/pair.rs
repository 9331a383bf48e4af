//! Two workers on one queue against one.

use std::time::Duration;

use anyhow::Result;

use crate::endpoint::Endpoint;
use crate::page::Page;
use crate::{median, process, worker};

const ROUNDS: usize = 3;
const SECONDS: f64 = 4.0;

/// A handler's latency in milliseconds, slots a worker, and what limits it there.
const CASES: [(u64, usize); 2] = [(20, 50), (0, 100)];

pub(crate) async fn measure(page: &mut Page) -> Result<()> {
    let mut text = format!(
        "Messages/s, medians of {ROUNDS} rounds of {SECONDS} s.\n\n\
         | handler | slots each | one worker | two workers | ratio |\n|---|---|---|---|---|\n"
    );
    for (latency, slots) in CASES {
        let (mut ones, mut twos, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let one = rate(1, latency, slots).await?;
            let two = rate(2, latency, slots).await?;
            ones.push(one);
            twos.push(two);
            ratios.push(two / one);
        }
        let (one, two, ratio) = (median(ones), median(twos), median(ratios));
        text.push_str(&format!(
            "| {latency} ms | {slots} | {one:.0} | {two:.0} | {ratio:.2} |\n"
        ));
    }
    page.put("pair", text);
    Ok(())
}

/// Messages a second that so many workers drain together.
async fn rate(workers: usize, latency: u64, slots: usize) -> Result<f64> {
    let mut endpoint = Endpoint::start().await?;
    let queue = endpoint.fill(fill(workers, latency, slots, SECONDS)).await?;
    let runs = (0..workers).map(|_| one(endpoint.url.clone(), queue.clone(), latency, slots, SECONDS));
    let mut tasks = tokio::task::JoinSet::new();
    for run in runs {
        tasks.spawn(run);
    }
    let mut sum = 0.0;
    while let Some(rate) = tasks.join_next().await {
        sum += rate??;
    }
    Ok(sum)
}

/// One worker's messages a second over so many seconds.
pub(crate) async fn one(
    endpoint: String,
    queue: String,
    latency: u64,
    slots: usize,
    seconds: f64,
) -> Result<f64> {
    let mut settings = process::settings(&queue, process::free_address()?);
    settings.push(("WORKER__CONCURRENCY".to_owned(), slots.to_string()));
    settings.push(("WORKER__ORDERS__LATENCY".to_owned(), format!("{latency}ms")));
    let job = worker::Job {
        threads: 0,
        until: worker::Until::Seconds(seconds),
    };
    let done: worker::Done = process::run("worker", &job, process::variables(&endpoint, settings)).await?;
    Ok(done.rate)
}

/// Messages enough for the time, and for the part before it that is not counted.
pub(crate) fn fill(workers: usize, latency: u64, slots: usize, seconds: f64) -> usize {
    /// More than the endpoint can give in a second.
    const MOST: f64 = 80_000.0;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let slots = (workers * slots) as f64;
    let latency = Duration::from_millis(latency).as_secs_f64().max(1e-5);
    let messages = (slots / latency).min(MOST) * (seconds + 3.0) + 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive and below a million"
    )]
    let messages = messages as usize;
    messages
}
