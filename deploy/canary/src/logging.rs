//! The release tool's own warnings: a line each on standard error.
//!
//! What happens to a rollout is told otherwise. These are of what goes on beside it: a notification that was not delivered, a journal
//! that the exporter cannot read.

use std::io::{self, IsTerminal as _, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts it for the whole process: warnings of this crate and of the worker's library, errors of others.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::ERROR.into())
        .parse_lossy("canary=warn,worker=warn");
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(|| Lines)
        .finish();
    // Started before: by a test, or by a worker that is this binary itself.
    let _ = lines.try_init();
}

/// Standard error, where a line that changes may stand: it is written over.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut error = io::stderr().lock();
        if error.is_terminal() {
            error.write_all(b"\r\x1b[2K")?;
        }
        error.write_all(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
