//! A queue and two releases, made up window by window from a seed.

use rand::RngExt;
use rand_distr::{Binomial, Distribution, Normal, Poisson};
use rand_pcg::Pcg64Mcg;

use crate::judge::window::{Arm, Durations, Failed, LAST_BUCKET, Quality, Receives, SCHEMA, Window};

/// Spread of ln(duration) and median duration in milliseconds of the handlers that are made up.
const SPREAD: f64 = 0.6;
const MEDIAN: f64 = 200.0;

/// What flows through the queue, how the baseline fails, and how the canary differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Messages a second, in both arms.
    pub rate: f64,
    /// Failure rate of the baseline, in [0, 1).
    pub failure_rate: f64,
    /// Failure rate of the canary, as a multiple of the baseline's.
    pub ratio: f64,
    /// Duration of the canary's attempts, as a multiple of the baseline's.
    pub slowdown: f64,
    /// Rate of bad answers to each quality question, as a multiple of the baseline's 1 %.
    pub quality_ratio: f64,
    /// Messages in a receive of the canary and of the baseline.
    pub receives: (u64, u64),
    /// Stable tasks and canary tasks.
    pub tasks: (u32, u32),
    /// What else happens.
    pub trouble: Trouble,
}

/// What happens besides, and is not the release's fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// The canary's share swings between a fifth and nearly twice of what it should be, over 200 s.
    DriftingShare,
    /// From second 100 on for 60 s, 40 % of all messages fail in both arms.
    Outage,
    /// About once a minute 20 to 100 messages that nobody can handle arrive within a second.
    Poison,
    /// Each receive fails as a whole with this chance (the canary's with `ratio` times that), besides single messages.
    WholeReceives(f64),
    /// One stable task fails half its messages for 30 s from second 100 on.
    SickStable,
    /// One canary task fails half its messages for 30 s from second 100 on.
    SickCanary,
    /// The failure rate wanders: ln of it is an autoregressive series (0.98 a second) of standard deviation 0.8.
    Wandering,
    /// The canary is 50 × faster and at each second minute, before its cap takes hold, handles 85 % of a full queue for 20 s.
    FastCanary,
}

impl Traffic {
    /// Plain traffic: receives of ten, nine stable tasks and one canary task, no trouble.
    pub fn plain(rate: f64, failure_rate: f64, ratio: f64) -> Self {
        Self {
            rate,
            failure_rate,
            ratio,
            slowdown: 1.0,
            quality_ratio: 1.0,
            receives: (10, 10),
            tasks: (9, 1),
            trouble: Trouble::None,
        }
    }
}

/// What the judge of this rollout looks at, so that nothing else has to be made up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Whether durations are looked at.
    pub durations: bool,
    /// The quality questions.
    pub questions: Vec<String>,
}

/// One simulated run of traffic.
#[derive(Debug)]
pub struct Source {
    traffic: Traffic,
    wanted: Wanted,
    random: Pcg64Mcg,
    wander: f64,
    /// Chance of each bucket given that no lower one was hit, for baseline and canary.
    buckets: [Vec<f64>; 2],
}

/// A window and what it did to messages that a canary as good as the baseline would not have done.
#[derive(Debug)]
pub struct Simulated {
    /// What the judge sees.
    pub window: Window,
    /// Expected canary failures over what the baseline's rate would have failed.
    pub harmed: f64,
}

impl Source {
    /// Traffic from a seed: the same seed, the same windows.
    pub fn new(traffic: Traffic, wanted: Wanted, random: Pcg64Mcg) -> Self {
        let buckets = [
            conditional_buckets(MEDIAN),
            conditional_buckets(MEDIAN * traffic.slowdown),
        ];
        Self {
            traffic,
            wanted,
            random,
            wander: 0.0,
            buckets,
        }
    }

    /// The window of `seconds` from second `start`, in which the canary may take `share` of the messages.
    pub fn window(&mut self, start: u64, seconds: u32, share: f64) -> Simulated {
        let mut whole: Option<Simulated> = None;
        for second in start..start + u64::from(seconds) {
            let next = self.second(second, share);
            match &mut whole {
                None => whole = Some(next),
                Some(whole) => {
                    whole.window.merge(&next.window);
                    whole.harmed += next.harmed;
                }
            }
        }
        whole.unwrap_or_else(|| Simulated {
            window: Window::default(),
            harmed: 0.0,
        })
    }

    fn second(&mut self, second: u64, share: f64) -> Simulated {
        let actual = self.share(second, share);
        let poison = self.poison();
        let canary_poison = self.binomial(poison, actual);
        let (n_c, n_b) = (
            self.poisson(self.traffic.rate * actual),
            self.poisson(self.traffic.rate * (1.0 - actual)),
        );
        let base = self.failure_rate(second);
        let canary_rate = (base * self.traffic.ratio).min(1.0);
        let sick = (100..130).contains(&second);
        let (stable_tasks, canary_tasks) = self.traffic.tasks;
        let (sick_stable, sick_canary) = (
            sick && self.traffic.trouble == Trouble::SickStable,
            sick && self.traffic.trouble == Trouble::SickCanary,
        );
        let mut baseline = self.arm(
            n_b,
            base,
            self.traffic.receives.1,
            sick_stable.then_some(stable_tasks),
            0,
        );
        let mut canary = self.arm(
            n_c,
            canary_rate,
            self.traffic.receives.0,
            sick_canary.then_some(canary_tasks),
            1,
        );
        add_poison(&mut baseline, poison - canary_poison);
        add_poison(&mut canary, canary_poison);
        let harmed = n_c as f64 * (canary_rate - base);
        let window = Window {
            schema: SCHEMA,
            start: second,
            seconds: 1,
            share,
            canary,
            baseline,
            ..Window::default()
        };
        Simulated { window, harmed }
    }

    fn share(&self, second: u64, share: f64) -> f64 {
        match self.traffic.trouble {
            Trouble::DriftingShare => {
                let phase = second as f64 * std::f64::consts::TAU / 200.0;
                (share * (1.0 + 0.8 * phase.sin())).min(0.95)
            }
            Trouble::FastCanary if second % 120 < 20 && share > 0.0 => 0.85,
            Trouble::FastCanary
            | Trouble::None
            | Trouble::Outage
            | Trouble::Poison
            | Trouble::WholeReceives(_)
            | Trouble::SickStable
            | Trouble::SickCanary
            | Trouble::Wandering => share,
        }
    }

    fn failure_rate(&mut self, second: u64) -> f64 {
        let base = self.traffic.failure_rate;
        if self.traffic.trouble == Trouble::Outage && (100..160).contains(&second) {
            return 0.4;
        }
        if self.traffic.trouble != Trouble::Wandering {
            return base;
        }
        const MEMORY: f64 = 0.98;
        let shock = 0.8 * (1.0f64 - MEMORY * MEMORY).sqrt();
        let step = Normal::new(0.0, shock).map_or(0.0, |normal| normal.sample(&mut self.random));
        self.wander = MEMORY * self.wander + step;
        (base * self.wander.exp()).min(0.9)
    }

    fn poison(&mut self) -> u64 {
        if self.traffic.trouble != Trouble::Poison || !self.random.random_bool(1.0 / 60.0) {
            return 0;
        }
        self.random.random_range(20..=100)
    }

    /// One release's second: `n` messages in receives of `size`; of `sick` tasks one fails half of what it takes.
    fn arm(&mut self, n: u64, rate: f64, size: u64, sick: Option<u32>, index: usize) -> Arm {
        let mut receives = Receives::default();
        let ill = sick.map_or(0, |tasks| self.binomial(n, 1.0 / f64::from(tasks.max(1))));
        let worse = if index == 1 { self.traffic.ratio } else { 1.0 };
        let chance = if let Trouble::WholeReceives(chance) = self.traffic.trouble {
            chance
        } else {
            0.0
        };
        let together = (chance * worse).min(1.0);
        self.fill(&mut receives, ill, rate.max(0.5), size, together);
        self.fill(&mut receives, n - ill, rate, size, together);
        self.ended(n, receives, index)
    }

    /// What these receives report, with durations and answers where they are looked at.
    fn ended(&mut self, n: u64, receives: Receives, index: usize) -> Arm {
        let failed = receives.f;
        let mut arm = Arm {
            started: n,
            done: n - failed,
            failed: Failed {
                retry: failed,
                ..Failed::default()
            },
            receives,
            ..Arm::default()
        };
        if self.wanted.durations {
            arm.durations = self.durations(n - failed, index);
        }
        for question in self.wanted.questions.clone() {
            let ratio = if index == 1 {
                self.traffic.quality_ratio
            } else {
                1.0
            };
            let bad = self.binomial(n, (0.01 * ratio).min(1.0));
            arm.quality.insert(question, Quality { asked: n, bad });
        }
        arm
    }

    fn fill(&mut self, sums: &mut Receives, n: u64, rate: f64, size: u64, together: f64) {
        let size = size.max(1);
        let (whole, rest) = (n / size, n % size);
        // Which way is taken must not depend on the sample, or few messages would fail too rarely.
        if together == 0.0 && rate < 0.25 {
            let failed = self.binomial(n, rate);
            return self.scatter(sums, whole, rest, size, failed);
        }
        for receive in 0..=whole {
            let size = if receive == whole { rest } else { size };
            if size > 0 {
                let all = together > 0.0 && self.random.random_bool(together);
                let failed = if all { size } else { self.binomial(size, rate) };
                sums.add(size, failed);
            }
        }
    }

    /// `failed` of the messages, each set of them as likely as any other.
    fn scatter(&mut self, sums: &mut Receives, whole: u64, rest: u64, size: u64, failed: u64) {
        let n = whole * size + rest;
        sums.s += n;
        sums.ss += whole * size * size + rest * rest;
        sums.f += failed;
        let mut messages: Vec<u64> = Vec::new();
        while (messages.len() as u64) < failed {
            let message = self.random.random_range(0..n);
            if !messages.contains(&message) {
                messages.push(message);
            }
        }
        for message in &mut messages {
            *message /= size;
        }
        messages.sort_unstable();
        for receive in messages.chunk_by(|a, b| a == b) {
            let f = receive.len() as u64;
            sums.ff += f * f;
            sums.fs += f * if receive[0] == whole { rest } else { size };
        }
    }

    fn durations(&mut self, n: u64, index: usize) -> Durations {
        let mut left = n;
        let mut counts = Vec::new();
        for bucket in 0..=LAST_BUCKET {
            if left == 0 {
                break;
            }
            let hit = self.binomial(left, self.buckets[index][usize::from(bucket)]);
            if hit > 0 {
                counts.push((bucket, hit));
                left -= hit;
            }
        }
        Durations(counts)
    }

    fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p <= 0.0 {
            return 0;
        }
        Binomial::new(n, p.min(1.0)).map_or(0, |binomial| binomial.sample(&mut self.random))
    }

    fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of messages in a second"
        )]
        Poisson::new(mean).map_or(0, |poisson| poisson.sample(&mut self.random) as u64)
    }
}

fn add_poison(arm: &mut Arm, poison: u64) {
    arm.started += poison;
    arm.failed.reject += poison;
    for _ in 0..poison {
        // Poison comes in a burst of senders, not of receives: it mixes with the rest.
        arm.receives.add(1, 1);
    }
}

/// P(bucket | not a lower bucket) for log-normal durations of this median.
fn conditional_buckets(median: f64) -> Vec<f64> {
    let below = |bucket: u16| {
        let bound = (f64::from(bucket) / 8.0).exp2();
        normal_cumulative((bound / median).ln() / SPREAD)
    };
    let mut before = 0.0;
    (0..=LAST_BUCKET)
        .map(|bucket| {
            let upto = if bucket == LAST_BUCKET { 1.0 } else { below(bucket) };
            let chance = if before >= 1.0 {
                1.0
            } else {
                (upto - before) / (1.0 - before)
            };
            before = upto;
            chance.clamp(0.0, 1.0)
        })
        .collect()
}

/// The cumulative normal distribution, to 1e-7 (Abramowitz and Stegun 26.2.17): enough to make durations up.
pub(super) fn normal_cumulative(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = t
        * (0.319_381_530
            + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * series;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests;
