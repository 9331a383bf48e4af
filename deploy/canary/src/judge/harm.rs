//! Evidence that the canary does harm, signal by signal and all together.

use super::clusters::DesignEffect;
use super::confidence::Tally;
use super::hypergeometric::{Counts, log_likelihood_ratios};
use super::latency::Earlier;
use super::process::{Cash, Process, log_sum};
use super::rules::{Kind, Rules, Signal};
use super::stretch;
use super::window::{Arm, Window};

/// One signal under test: an e-process for each of its quantiles, or one.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    pub(crate) signal: Signal,
    /// ln of the weight of each process in the whole.
    log_weight: f64,
    pub(crate) processes: Vec<Process>,
    /// Counts of each window, with the D they were divided by; of the middle process where there are several.
    pub(crate) history: Vec<(Counts, f64)>,
    earlier: Earlier,
    pub(crate) canary: Tally,
    pub(crate) baseline: Tally,
}

impl Trial {
    fn new(signal: Signal, rules: &Rules) -> Self {
        let count = match &signal.kind {
            Kind::Slow { quantiles } => quantiles.len().max(1),
            Kind::Failures | Kind::Quality { .. } => 1,
        };
        let cash = if rules.cash { Cash::USUAL } else { Cash::NONE };
        Self {
            log_weight: (signal.weight / count as f64).ln(),
            processes: vec![Process::new(&[1.0; 12], cash); count],
            history: Vec::new(),
            earlier: Earlier::default(),
            canary: Tally::default(),
            baseline: Tally::default(),
            signal,
        }
    }

    /// The window's counts for each process.
    fn counts(&self, window: &Window) -> Vec<Counts> {
        match &self.signal.kind {
            Kind::Failures => vec![failures(window)],
            Kind::Quality { question } => {
                let answers = |arm: &Arm| arm.quality.get(question).copied().unwrap_or_default();
                let (canary, baseline) = (answers(&window.canary), answers(&window.baseline));
                vec![Counts {
                    canary: canary.asked,
                    canary_failed: canary.bad,
                    baseline: baseline.asked,
                    baseline_failed: baseline.bad,
                }]
            }
            Kind::Slow { quantiles } => quantiles.iter().map(|q| self.slow(window, *q)).collect(),
        }
    }

    fn slow(&self, window: &Window, quantile: f64) -> Counts {
        let Some(bound) = self.earlier.bound(quantile) else {
            return Counts::default();
        };
        let (canary, baseline) = (&window.canary.durations, &window.baseline.durations);
        Counts {
            canary: canary.total(),
            canary_failed: canary.above(bound),
            baseline: baseline.total(),
            baseline_failed: baseline.above(bound),
        }
    }

    fn enter(&mut self, window: &Window, null: f64, alternatives: &[f64; 12], d: f64, shadowed: bool) {
        let d = if self.signal.kind == Kind::Failures {
            d
        } else {
            1.0
        };
        let counts = self.counts(window);
        let mut ratios = [0.0; 12];
        for (process, counts) in self.processes.iter_mut().zip(&counts) {
            log_likelihood_ratios(counts, null, alternatives, &mut ratios);
            for ratio in &mut ratios {
                *ratio /= d;
            }
            process.enter_shadowed(&ratios, shadowed);
        }
        let shown = counts[counts.len() / 2];
        self.canary.add(shown.canary, shown.canary_failed, d);
        self.baseline.add(shown.baseline, shown.baseline_failed, d);
        self.history.push((shown, d));
        if matches!(self.signal.kind, Kind::Slow { .. }) {
            self.earlier.enter(&window.baseline.durations);
        }
    }

    /// The log-likelihood ratios, divided by D, that window `window` gave to one of the processes.
    pub(crate) fn ratios(&self, process: usize, window: usize) -> [f64; 12] {
        let mut ratios = [0.0; 12];
        self.processes[process].ratios(window, &mut ratios);
        ratios
    }

    /// ln of this signal's own evidence: the mean over its processes.
    pub(crate) fn log_evidence(&self) -> f64 {
        let mean = (self.processes.len() as f64).ln();
        log_sum(self.processes.iter().map(|process| process.log_evidence() - mean))
    }
}

/// Failed attempts of both arms.
pub(crate) fn failures(window: &Window) -> Counts {
    Counts {
        canary: window.canary.attempts(),
        canary_failed: window.canary.failures(),
        baseline: window.baseline.attempts(),
        baseline_failed: window.baseline.failures(),
    }
}

/// The evidence of harm over all signals: E = Σ_s a_s·E_s with weights a_s that sum to 1.
///
/// The mean of e-processes is an e-process, so α is spent once, whatever the number of signals; and E ≥ a_s·E_s, so it is never
/// slower than giving each signal the part a_s of α.
#[derive(Clone, Debug)]
pub(crate) struct Harm {
    null: f64,
    alternatives: [f64; 12],
    pub(crate) trials: Vec<Trial>,
    pub(crate) design: DesignEffect,
    clusters: bool,
    /// End, in seconds since the epoch, of the stretch that the processes' shadows leave out.
    shadow_end: Option<u64>,
}

impl Harm {
    pub(crate) fn new(rules: &Rules) -> Self {
        Self {
            null: rules.harmless_ratio,
            alternatives: rules.alternatives(),
            trials: rules
                .signals
                .iter()
                .map(|signal| Trial::new(signal.clone(), rules))
                .collect(),
            design: DesignEffect::default(),
            clusters: rules.clusters,
            shadow_end: None,
        }
    }

    /// Takes in a window and returns the design effect its failures were divided by.
    pub(crate) fn enter(&mut self, window: &Window) -> f64 {
        let measured = self
            .design
            .enter(&window.canary.receives, &window.baseline.receives);
        let d = if self.clusters { measured } else { 1.0 };
        let shadowed = self.shadow_end.is_some_and(|end| window.start < end);
        for trial in &mut self.trials {
            trial.enter(window, self.null, &self.alternatives, d, shadowed);
        }
        d
    }

    pub(crate) fn log_evidence(&self) -> f64 {
        let parts = self.trials.iter().flat_map(|trial| {
            trial
                .processes
                .iter()
                .map(|process| trial.log_weight + process.log_evidence())
        });
        log_sum(parts)
    }

    /// Enters a window by its log-likelihood ratios: `ratios` gives those of a signal's process, both by index.
    pub(crate) fn enter_ratios(&mut self, start: u64, ratios: impl Fn(usize, usize) -> [f64; 12]) {
        let shadowed = self.shadow_end.is_some_and(|end| start < end);
        for (trial, signal) in self.trials.iter_mut().enumerate() {
            for (index, process) in signal.processes.iter_mut().enumerate() {
                process.enter_shadowed(&ratios(trial, index), shadowed);
            }
        }
    }

    /// Whether at least `bound` of the evidence is left whichever stretch is left out, each in all signals at once.
    pub(crate) fn stands_without_any(&mut self, bound: f64, starts: &[u64], length: u32) -> bool {
        let mut parts: Vec<(f64, &mut Process)> = self
            .trials
            .iter_mut()
            .flat_map(|trial| {
                trial
                    .processes
                    .iter_mut()
                    .map(|process| (trial.log_weight, process))
            })
            .collect();
        stretch::stands_without_any(&mut parts, &mut self.shadow_end, bound, starts, length)
    }

    /// The least `ln E` over all stretches left out.
    pub(crate) fn least_without(&self, stretches: &[(usize, usize)]) -> f64 {
        let parts: Vec<(f64, &Process)> = self
            .trials
            .iter()
            .flat_map(|trial| trial.processes.iter().map(|process| (trial.log_weight, process)))
            .collect();
        stretch::weakest(&parts, stretches).1.min(self.log_evidence())
    }
}
