//! What a stable worker asks of SQS while there is nothing to do, on both of its queues.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use worker::handler::{Context, Handler, Outcome};
use worker::message::Message;
use worker::release::Track;

use super::lake::Lake;
use super::on_paused_clock;
use super::process::{DEADLINE, Process, Setup};

const MINUTE: Duration = Duration::from_secs(60);

struct Nothing;

impl Handler for Nothing {
    async fn handle(&self, message: &Message, _: &Context) -> Outcome {
        panic!("nothing was sent, yet {} came", message.body)
    }
}

/// Each queue is asked by long polls of its own, so a stable worker makes six requests a minute where a canary, or a worker without a
/// handover queue, makes three. Less would be paid for by what is handed over: it would wait for the end of the pause.
#[test]
fn a_stable_worker_asks_each_of_its_queues_three_times_a_minute_at_most() {
    for (track, queues) in [(Track::Stable, 2), (Track::Canary, 1)] {
        on_paused_clock(async {
            let lake = Lake::new(1, 3);
            let setup = Setup {
                seed: 1,
                track,
                concurrency: 100,
                deadline: DEADLINE,
                wait: Duration::from_secs(20),
                control: None,
            };
            let process = Process::start(&lake, &setup, &Arc::new(Nothing)).await;
            sleep(60 * MINUTE).await;
            let asked = lake.asked();
            assert_eq!(asked.len(), queues, "{track:?}: {:?}", asked.keys());
            for (url, requests) in asked {
                let count = requests.len();
                assert!(
                    (170..=180).contains(&count),
                    "{track:?}: {count} an hour to {url}"
                );
                for four in requests.windows(4) {
                    let within = four[3] - four[0];
                    assert!(within > MINUTE, "{track:?}: four to {url} within {within:?}");
                }
            }
            process.stop().await;
        });
    }
}
