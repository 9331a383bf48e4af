//! Messages a second over the slots, for handlers of several latencies.

use anyhow::Result;

use crate::chart::{Chart, Series};
use crate::endpoint::Endpoint;
use crate::page::Page;
use crate::pair::{fill, one};

const SLOTS: [usize; 4] = [1, 10, 100, 1000];
const LATENCIES: [u64; 3] = [0, 5, 50];
const SECONDS: f64 = 4.0;

pub(crate) async fn measure(page: &mut Page) -> Result<()> {
    let mut chart = Chart {
        title: "One worker, one queue: messages/s over slots",
        x_label: "slots (concurrency)",
        y_label: "messages/s",
        series: Vec::new(),
    };
    let mut text = format!("Messages/s over {SECONDS} s each; in brackets, slots / latency.\n\n| handler |");
    for slots in SLOTS {
        text.push_str(&format!(" {slots} |"));
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(SLOTS.len())));
    for latency in LATENCIES {
        text.push_str(&format!("| {latency} ms |"));
        let mut points = Vec::new();
        for slots in SLOTS {
            let mut endpoint = Endpoint::start().await?;
            let queue = endpoint.fill(fill(1, latency, slots, SECONDS)).await?;
            let rate = one(endpoint.url.clone(), queue, latency, slots, SECONDS).await?;
            eprintln!("  {latency} ms, {slots} slots: {rate:.0}/s");
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let (x, ideal) = (slots as f64, 1e3 * slots as f64 / latency as f64);
            points.push((x, rate));
            text.push_str(&if latency == 0 {
                format!(" {rate:.0} |")
            } else {
                format!(" {rate:.0} ({ideal:.0}) |")
            });
        }
        text.push('\n');
        chart.series.push(Series {
            name: format!("handler of {latency} ms"),
            points,
        });
    }
    page.put("curve", text);
    page.draw("drain.svg", chart.svg());
    Ok(())
}
