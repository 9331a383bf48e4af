//! The metrics of the release tool, a contract with dashboards and alerts like the worker's.

/// What a metric is called and means. All are gauges: they say how things stand now.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// One or two sentences.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($constant:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*

        /// Every metric.
        pub const CATALOGUE: &[Metric] = &[$(Metric { name: $name, labels: &[$($label),*], help: $help },)*];
    };
}

catalogue! {
    INFO = "canary_rollout_info" ["release", "baseline", "rollout", "kind", "plan"]
        "Always 1; which rollout this is: the one under way, else the last. `baseline` is empty for a first release.";
    UNDER_WAY = "canary_rollout_under_way" ["release"]
        "1 until the rollout has ended.";
    PHASE = "canary_rollout_phase" ["release", "phase"]
        "1 for the phase that is under way, 0 for the others.";
    STEP = "canary_rollout_step" ["release"]
        "The step of the plan that is under way, from 1 on; 0 outside of steps.";
    STEPS = "canary_rollout_steps" ["release"]
        "How many steps the plan has.";
    HELD = "canary_rollout_held" ["release"]
        "1 while the rollout does not go forward: a person paused it, or there was no verdict by the deadline.";
    SUSPECTED = "canary_rollout_suspected" ["release"]
        "1 while the evidence of harm is past its bound and the canary is cut to a trickle.";
    OUTCOME = "canary_rollout_outcome" ["release", "outcome"]
        "1 for how the rollout ended, 0 for the others, and for all while it is under way.";
    STARTED = "canary_rollout_started_timestamp_seconds" ["release"]
        "When it began, in seconds since the epoch.";
    ENDED = "canary_rollout_ended_timestamp_seconds" ["release"]
        "When it ended, in seconds since the epoch; 0 while it is under way.";
    HEARTBEAT = "canary_heartbeat_timestamp_seconds" ["release"]
        "When the tool that drives the rollout wrote last, in seconds since the epoch; 0 when nobody drives it.";
    EVIDENCE = "canary_evidence" ["release", "question"]
        "Natural logarithm of the evidence, of harm or for promotion: 0 is none, 4.6 is 100 to 1.";
    EVIDENCE_BOUND = "canary_evidence_bound" ["release", "question"]
        "What `canary_evidence` must reach.";
    VERDICT = "canary_verdict" ["release", "decision"]
        "1 for what the judge says now, 0 for the others.";
    SIGNAL_EVIDENCE = "canary_signal_evidence" ["release", "signal"]
        "Natural logarithm of the evidence of harm of one signal alone.";
    SIGNAL_ATTEMPTS = "canary_signal_attempts" ["release", "signal", "arm"]
        "First attempts that a signal was asked of, since the rollout began: of the new release and of the one before.";
    SIGNAL_FAILED = "canary_signal_failed" ["release", "signal", "arm"]
        "Those that counted against the release.";
    SIGNAL_RATE = "canary_signal_rate" ["release", "signal", "arm", "bound"]
        "Their share, with a band that holds at every moment at once (95 %).";
    SHARE = "canary_share" ["release", "which"]
        "The canary service's share of first deliveries, from 0 to 1, over the last 10 s. Without a limit there is no `wanted`.";
    MESSAGES = "canary_messages_per_second" ["release"]
        "First deliveries a second, both services together, over the last 10 s.";
    PROCESSES = "canary_processes" ["service", "release", "state"]
        "Worker processes, as last seen.";
    DESIRED = "canary_processes_desired" ["service"]
        "Worker processes that the service is to have.";
    RESTARTS = "canary_process_restarts" ["service"]
        "How often the service's present processes were started again after they had ended by themselves.";
    JOURNAL_UP = "canary_journal_up" []
        "1 when the journal could be read, 0 when not: then the rollout is told as it was read last, for five minutes, and after that not at all.";
    JOURNAL_READ = "canary_journal_read_timestamp_seconds" []
        "When the journal was read last, in seconds since the epoch.";
    QUEUE_MESSAGES = "canary_queue_messages" ["queue", "role", "state"]
        "Messages in a queue, as SQS says approximately.";
    ERRORS = "canary_exporter_errors" ["source"]
        "Looks that failed since the exporter started.";
}

/// The values of a label that has a closed set of them.
#[must_use]
pub fn values(label: &str) -> Option<Vec<&'static str>> {
    use super::rollout::{ARMS, BOUNDS, DECISIONS, OUTCOMES, PHASES, QUESTIONS, WHICH};
    Some(match label {
        "phase" => PHASES.to_vec(),
        "outcome" => OUTCOMES.map(|(_, name)| name).to_vec(),
        "question" => QUESTIONS.to_vec(),
        "decision" => DECISIONS.map(|(_, name)| name).to_vec(),
        "arm" => ARMS.to_vec(),
        "bound" => BOUNDS.to_vec(),
        "which" => WHICH.to_vec(),
        "service" => vec!["stable", "canary"],
        "role" => super::Role::ALL.map(super::Role::as_str).to_vec(),
        "state" => super::STATES
            .into_iter()
            .chain(["starting", "ready", "stopping", "waiting"])
            .collect(),
        "kind" => vec!["canary", "skip_canary", "restore"],
        "source" => vec!["journal", "queue"],
        _ => return None,
    })
}
