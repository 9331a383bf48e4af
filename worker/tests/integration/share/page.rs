//! What was measured, as a table of `docs/control.md` between its marks.

use std::fmt::Write;
use std::path::Path;

use super::service::{Speed, Traffic};
use super::{Measured, number};

const BEGIN: &str = "<!-- measured: share -->\n";
const END: &str = "<!-- end: share -->";

pub(super) fn table(all: &[Measured]) -> String {
    let mut table =
        "| target | queue | handlers | first deliveries | share | difference, points | allowed |\n\
                     |---|---|---|---|---|---|---|\n"
            .to_owned();
    for measured in all {
        let case = measured.case;
        let queue = match case.traffic {
            Traffic::Busy => "busy",
            Traffic::NearlyIdle => "nearly idle",
        };
        let handlers = match case.speed {
            Speed::Equal => "equal",
            Speed::CanaryFaster => "canary 20 × faster",
        };
        writeln!(
            table,
            "| {:.0} % | {queue} | {handlers} | {:.0} | {:.2} % | {:+.2} | ± {:.2} |",
            100.0 * case.target,
            number(measured.all),
            100.0 * measured.share(),
            100.0 * (measured.share() - case.target),
            100.0 * measured.tolerance(),
        )
        .unwrap();
    }
    table
}

pub(super) fn write(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/control.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark");
    let (_, after) = rest.split_once(END).expect("the page has the mark of the end");
    std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
}
