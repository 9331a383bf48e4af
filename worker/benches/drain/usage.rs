//! What a process has used, by the kernel's count.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// CPU time of this process since its start, in user and system mode.
pub(crate) fn cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    let micros = |value: i64| u64::try_from(value).unwrap_or(0);
    Duration::from_secs(micros(time.tv_sec())) + Duration::from_micros(micros(time.tv_usec()))
}

/// `VmRSS` and `VmHWM` of a process, in MB: resident now, and at most so far.
pub(crate) fn memory(process: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kib: f64 = kib
            .with_context(|| format!("/proc has no {name}"))?
            .trim()
            .parse()?;
        Ok::<_, anyhow::Error>(kib * 1024.0 / 1e6)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}
