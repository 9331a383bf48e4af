//! Rules for what no failure rate shows: a canary that finishes nothing, that stops itself, or that never stays up.
//!
//! Guards are not statistics and spend no α; each states the chance it takes in its own doc.

use serde::{Deserialize, Serialize};

use super::window::{Tasks, Window};

/// When the guards act.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GuardRules {
    /// Seconds without a finished canary message, while the baseline finishes work, after which it is silent; where the
    /// messages due in that time are too few, up to [`GuardRules::PATIENCE`] times as long.
    pub silence: u32,
    /// Messages the canary should have finished in that time, for silence to mean something: with 20 expected and none
    /// finished, chance is at most e⁻²⁰ where messages fall independently.
    pub expected: f64,
    /// Seconds over which starts of canary processes are counted.
    pub crash_seconds: u32,
    /// Starts per running canary task in that time from which it is a crash loop.
    pub crash_starts: u32,
}

impl Default for GuardRules {
    /// 30 s of silence where 20 messages were due; 3 starts per task within 5 minutes.
    fn default() -> Self {
        Self {
            silence: 30,
            expected: 20.0,
            crash_seconds: 300,
            crash_starts: 3,
        }
    }
}

impl GuardRules {
    /// How many times `silence` is looked back where traffic is thin.
    pub const PATIENCE: u32 = 4;

    /// Seconds before the newest window that the guards look at.
    pub fn reach(&self) -> u32 {
        self.silence
            .saturating_mul(Self::PATIENCE)
            .max(self.crash_seconds)
    }
}

/// What a guard found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "guard")]
pub enum Finding {
    /// The canary finished nothing while the baseline did, though it was free to work.
    Silent {
        /// Seconds looked at.
        seconds: u32,
        /// Messages it should have finished by its share.
        expected: f64,
    },
    /// At least half of the canary's rate breakers are open while the baseline fails no more than usual.
    BreakersOpen {
        /// Canary tasks with an open breaker.
        open: u32,
        /// Canary tasks.
        running: u32,
    },
    /// Canary processes keep starting.
    CrashLoop {
        /// Starts counted.
        starts: u32,
        /// Canary tasks.
        running: u32,
    },
}

/// Looks at the latest windows, incomplete ones included, in order of time, and says what is wrong beyond statistics.
///
/// Nothing known is nothing found: without a baseline at work, without known tasks, or with the gate shut no guard acts.
pub fn inspect(rules: &GuardRules, windows: &[&Window]) -> Vec<Finding> {
    [
        silent(rules, windows),
        breakers(rules, windows),
        crash_loop(rules, windows),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn end_of(windows: &[&Window]) -> u64 {
    windows
        .iter()
        .map(|window| window.end())
        .max()
        .unwrap_or_default()
}

fn since<'a>(windows: &'a [&Window], seconds: u32) -> impl Iterator<Item = &'a Window> + Clone {
    let from = end_of(windows).saturating_sub(u64::from(seconds));
    windows.iter().copied().filter(move |window| window.start >= from)
}

/// The unbroken silence up to now: long enough, and with enough due in it. Seconds without a report count as they pass.
fn silent(rules: &GuardRules, windows: &[&Window]) -> Option<Finding> {
    let silence = windows.iter().rev().take_while(|window| is_silent(window));
    let (mut from, mut expected) = (end_of(windows), 0.0);
    for window in silence {
        from = from.min(window.start);
        expected += window.baseline.ended() as f64 * window.share / (1.0 - window.share).max(0.01);
    }
    let seconds = u32::try_from(end_of(windows) - from).unwrap_or(u32::MAX);
    (seconds >= rules.silence && expected >= rules.expected).then_some(Finding::Silent { seconds, expected })
}

/// Whether the canary was free to work and finished nothing.
fn is_silent(window: &Window) -> bool {
    let tasks = window.canary.tasks;
    let free = tasks.is_none_or(|tasks| tasks.running == 0 || tasks.idle < tasks.running);
    free && window.share > 0.0 && window.canary.ended() == 0
}

fn breakers(rules: &GuardRules, windows: &[&Window]) -> Option<Finding> {
    let Tasks {
        running,
        breakers_open: open,
        ..
    } = windows.iter().rev().find_map(|window| window.canary.tasks)?;
    if running == 0 || open.saturating_mul(2) < running {
        return None;
    }
    let rate = |windows: &mut dyn Iterator<Item = &Window>| {
        let (mut failed, mut ended) = (0.0, 0.0);
        for window in windows {
            failed += window.baseline.failed.total() as f64;
            ended += window.baseline.ended() as f64;
        }
        (failed, ended)
    };
    let from = end_of(windows).saturating_sub(u64::from(rules.silence));
    let (failed, ended) = rate(&mut since(windows, rules.silence));
    let (earlier_failed, earlier) = rate(&mut windows.iter().copied().filter(|window| window.start < from));
    if ended == 0.0 || earlier == 0.0 {
        return None;
    }
    // Usual: no more than twice the earlier rate, with room for chance (three standard deviations of a Poisson count).
    let usual = 2.0 * ended * earlier_failed / earlier;
    (failed <= usual + 3.0 * usual.sqrt() + 3.0).then_some(Finding::BreakersOpen { open, running })
}

fn crash_loop(rules: &GuardRules, windows: &[&Window]) -> Option<Finding> {
    let count = |arm: &dyn Fn(&Window) -> Option<Tasks>| {
        let mut tasks = since(windows, rules.crash_seconds).filter_map(arm);
        tasks.try_fold((0u32, 0u32), |(starts, running), tasks| {
            Some((starts.saturating_add(tasks.starts), running.max(tasks.running)))
        })
    };
    let (starts, running) = count(&|window| window.canary.tasks)?;
    let (baseline_starts, baseline_running) = count(&|window| window.baseline.tasks)?;
    let loops =
        |starts: u32, running: u32| starts > 0 && starts >= rules.crash_starts.saturating_mul(running.max(1));
    // The first start of each task is a deployment, not a crash; `crash_starts` counts it. A baseline in the same state
    // speaks of the platform, not of the release.
    (loops(starts, running) && !loops(baseline_starts, baseline_running))
        .then_some(Finding::CrashLoop { starts, running })
}

#[cfg(test)]
mod tests {
    use super::super::window::Arm;
    use super::*;

    fn window(start: u64, canary: Arm) -> Window {
        let baseline = Arm {
            started: 90,
            done: 90,
            tasks: Some(Tasks {
                running: 9,
                ..Tasks::default()
            }),
            ..Arm::default()
        };
        Window {
            start,
            seconds: 1,
            share: 0.1,
            canary,
            baseline,
            ..Window::default()
        }
    }

    fn arm(done: u64, tasks: Tasks) -> Arm {
        Arm {
            started: done,
            done,
            tasks: Some(tasks),
            ..Arm::default()
        }
    }

    fn inspect_all(windows: &[Window]) -> Vec<Finding> {
        inspect(&GuardRules::default(), &windows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_canary_that_finishes_nothing_is_found_after_the_silence() {
        let one = Tasks {
            running: 1,
            ..Tasks::default()
        };
        let windows: Vec<_> = (0..40).map(|start| window(start, arm(0, one))).collect();
        assert!(matches!(inspect_all(&windows)[..], [Finding::Silent { .. }]));
        assert_eq!(inspect_all(&windows[..20]), [], "20 s are not yet silence");
    }

    #[test]
    fn silence_is_found_in_a_quiet_queue_too_where_seconds_pass_without_a_message() {
        let one = Tasks {
            running: 1,
            ..Tasks::default()
        };
        // A message a second and nothing in some seconds: the canary's tenth is 20 messages after some minutes.
        let quiet = |seconds: u64| {
            let windows: Vec<_> = (0..seconds)
                .filter(|start| start % 3 != 0)
                .map(|start| {
                    let mut window = window(start, arm(0, one));
                    (window.baseline.started, window.baseline.done) = (2, 2);
                    window
                })
                .collect();
            inspect_all(&windows)
        };
        assert_eq!(quiet(60), [], "nine messages were due, which chance can explain");
        assert!(
            matches!(quiet(150)[..], [Finding::Silent { seconds: 149, .. }]),
            "{:?}",
            quiet(150)
        );
    }

    #[test]
    fn counters_at_the_end_of_the_scale_panic_no_guard() {
        let most = Tasks {
            running: u32::MAX,
            idle: u32::MAX,
            breakers_open: u32::MAX,
            starts: u32::MAX,
        };
        let mut windows: Vec<_> = (0..40).map(|start| window(start, arm(u64::MAX, most))).collect();
        for window in &mut windows {
            window.canary.failed.panic = u64::MAX;
            window.baseline = window.canary.clone();
        }
        inspect_all(&windows);
    }

    #[test]
    fn a_canary_that_must_not_work_is_not_silent() {
        let shut = Tasks {
            running: 1,
            idle: 1,
            ..Tasks::default()
        };
        assert_eq!(
            inspect_all(
                &(0..40)
                    .map(|start| window(start, arm(0, shut)))
                    .collect::<Vec<_>>()
            ),
            []
        );
        let paused: Vec<_> = (0..40)
            .map(|start| Window {
                share: 0.0,
                ..window(start, Arm::default())
            })
            .collect();
        assert_eq!(inspect_all(&paused), []);
    }

    #[test]
    fn open_breakers_count_only_while_the_baseline_is_well() {
        let open = Tasks {
            running: 2,
            breakers_open: 1,
            ..Tasks::default()
        };
        let mut windows: Vec<_> = (0..100).map(|start| window(start, arm(1, open))).collect();
        assert!(matches!(
            inspect_all(&windows)[..],
            [Finding::BreakersOpen { open: 1, running: 2 }]
        ));
        for window in &mut windows[70..] {
            window.baseline.failed.unavailable = 40;
        }
        assert_eq!(inspect_all(&windows), []);
    }

    #[test]
    fn a_crash_loop_is_the_canarys_only_if_it_is_alone_in_it() {
        let crashing = Tasks {
            running: 1,
            starts: 1,
            ..Tasks::default()
        };
        let mut windows: Vec<_> = (0..4).map(|start| window(start, arm(1, crashing))).collect();
        assert!(matches!(
            inspect_all(&windows)[..],
            [Finding::CrashLoop {
                starts: 4,
                running: 1
            }]
        ));
        for window in &mut windows {
            window.baseline.tasks = Some(Tasks {
                running: 1,
                starts: 1,
                ..Tasks::default()
            });
        }
        assert_eq!(inspect_all(&windows), []);
    }

    #[test]
    fn no_windows_no_findings() {
        assert_eq!(inspect_all(&[]), []);
    }
}
