//! Sequential evidence that attempts fail more often than is allowed. Pure: no clock, no lock.
//!
//! An e-detector of Shiryaev–Roberts type (Shin, Ramdas, Rinaldo, *E-detectors: a nonparametric framework for sequential
//! change detection*, 2022): for each alternative rate q, M ← L·(M + s) with each receive of s messages, where L is the
//! likelihood ratio of q against the allowed rate p. While the true rate is at most p, M − (messages so far) is a
//! supermartingale, so by optional stopping the messages until M reaches [`THRESHOLD`] are at least [`THRESHOLD`] on average, however
//! often one looks. (Ville's inequality bounds the chance of *ever* alarming, which a detector that must stay quick for ever cannot
//! keep below 1; what is bounded here is how often.) Harm that starts late is found as fast as harm from the start.
//!
//! **Whole receives that fail together** are one observation, not ten: L of a receive is the *mean* of its messages'
//! likelihood ratios, which has expectation at most 1 however the messages depend on each other. An attempt without an end
//! counts as a success meanwhile, so that M only ever falls short of what it will be: looking before a receive is complete costs
//! nothing of the guarantee.

use std::collections::VecDeque;

/// Messages between two false alarms, on average, at the allowed rate: at least so many.
pub const THRESHOLD: f64 = 2e6;

/// The alternatives spread evenly, in logarithms, from just above the allowed rate to this.
const WORST: f64 = 0.9;

const ALTERNATIVES: i32 = 5;

/// The lowest rate that can be allowed: at 0 the first failure of a canary, which every release has, would be proof.
pub const MIN_ALLOWED: f64 = 1e-4;

/// Receives that wait for their last message are bounded; the oldest is then taken as it is.
const MAX_RECEIVES: usize = 1024;

/// The evidence against one release in one process.
#[derive(Clone, Debug)]
pub struct Detector {
    alternatives: Vec<Alternative>,
    /// In the order of arrival, from the first that is not complete; completed ones behind it among them.
    receives: VecDeque<Receive>,
    /// The number of the first one.
    first: u64,
}

#[derive(Clone, Copy, Debug)]
struct Alternative {
    /// Likelihood ratio of a success, below 1.
    success: f64,
    /// Likelihood ratio of a failure, above 1.
    failure: f64,
    /// M over the receives that are complete.
    sum: f64,
}

impl Alternative {
    fn after(&self, sum: f64, receive: Receive) -> f64 {
        if receive.size == 0 {
            return sum;
        }
        let (size, failed) = (f64::from(receive.size), f64::from(receive.failed));
        let ratio = (failed * self.failure + (size - failed) * self.success) / size;
        ratio * (sum + size)
    }
}

#[derive(Clone, Copy, Debug)]
struct Receive {
    size: u32,
    failed: u32,
    open: u32,
}

impl Detector {
    /// No evidence yet, against failing more often than `allowed`.
    ///
    /// `allowed` is taken as at least [`MIN_ALLOWED`]; 1 and above can never be exceeded.
    #[must_use]
    pub fn new(allowed: f64) -> Self {
        let allowed = allowed.clamp(MIN_ALLOWED, 1.0);
        let worst = WORST.max(f64::midpoint(allowed, 1.0));
        let alternative = |step: i32| {
            let weight = f64::from(step) / f64::from(ALTERNATIVES);
            let rate = allowed.powf(1.0 - weight) * worst.powf(weight);
            Alternative {
                success: (1.0 - rate) / (1.0 - allowed),
                failure: rate / allowed,
                sum: 0.0,
            }
        };
        let alternatives = if allowed < 1.0 {
            (1..=ALTERNATIVES).map(alternative).collect()
        } else {
            Vec::new()
        };
        Self {
            alternatives,
            receives: VecDeque::new(),
            first: 0,
        }
    }

    /// `size` attempts of one receive begin. Returns its number.
    pub fn receive(&mut self, size: u32) -> u64 {
        let number = self.first + u64::try_from(self.receives.len()).unwrap_or(0);
        self.receives.push_back(Receive {
            size,
            failed: 0,
            open: size,
        });
        if self.receives.len() > MAX_RECEIVES {
            self.settle_first();
        }
        number
    }

    /// An attempt of receive `number` ended. True when the evidence suffices.
    pub fn ended(&mut self, number: u64, failed: bool) -> bool {
        let Some(receive) = self.find(number) else {
            return false;
        };
        receive.open = receive.open.saturating_sub(1);
        receive.failed += u32::from(failed);
        let suffices = failed && self.value() >= THRESHOLD;
        self.settle();
        suffices
    }

    /// An attempt of receive `number` will not count: it was not begun, or cut off, or its message is not to blame.
    pub fn withdraw(&mut self, number: u64) {
        if let Some(receive) = self.find(number) {
            receive.open = receive.open.saturating_sub(1);
            receive.size = receive.size.saturating_sub(1).max(receive.failed);
            self.settle();
        }
    }

    /// The evidence so far: the mean over the alternatives.
    #[must_use]
    pub fn value(&self) -> f64 {
        let of = |alternative: &Alternative| {
            let receives = self.receives.iter();
            receives.fold(alternative.sum, |sum, receive| alternative.after(sum, *receive))
        };
        self.alternatives.iter().map(of).sum::<f64>() / f64::from(ALTERNATIVES)
    }

    fn find(&mut self, number: u64) -> Option<&mut Receive> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.receives.get_mut(index)
    }

    fn settle(&mut self) {
        while self.receives.front().is_some_and(|receive| receive.open == 0) {
            self.settle_first();
        }
    }

    fn settle_first(&mut self) {
        if let Some(receive) = self.receives.pop_front() {
            self.first += 1;
            for alternative in &mut self.alternatives {
                // Beyond the threshold, M need not grow; an infinite one could never shrink.
                alternative.sum = alternative.after(alternative.sum, receive).min(1e18);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// False alarms in `messages` messages, in receives of `size`; `draw` says how many of a receive fail.
    fn alarms(
        allowed: f64,
        messages: u64,
        size: u32,
        mut draw: impl FnMut(&mut fastrand::Rng) -> u32,
    ) -> u64 {
        let mut rng = fastrand::Rng::with_seed(20_261_125);
        let (mut alarms, mut seen, mut detector) = (0, 0, Detector::new(allowed));
        while seen < messages {
            seen += u64::from(size);
            let failed = draw(&mut rng);
            let number = detector.receive(size);
            for message in 0..size {
                if detector.ended(number, message < failed) {
                    alarms += 1;
                    detector = Detector::new(allowed);
                    break;
                }
            }
        }
        alarms
    }

    /// What the theorem promises, one in [`THRESHOLD`] messages, looked at: `DETECTOR_MESSAGES=100000000` measures longer, and prints
    /// the alarms of each case.
    #[test]
    fn a_harmless_release_at_its_allowed_rate_alarms_less_than_once_in_a_million_messages() {
        let messages = std::env::var("DETECTOR_MESSAGES").map_or(4_000_000, |count| count.parse().unwrap());
        let seldom = |how: &str, allowed: f64, size: u32, draw: &mut dyn FnMut(&mut fastrand::Rng) -> u32| {
            let alarms = alarms(allowed, messages, size, draw);
            println!("{alarms} in {messages} at {allowed}, {how}");
            assert!(
                alarms * 1_000_000 < messages,
                "{alarms} in {messages} at {allowed}, {how}"
            );
        };
        for allowed in [0.01, 0.02, 0.1] {
            seldom("singly", allowed, 1, &mut |rng| u32::from(rng.f64() < allowed));
        }
        for allowed in [0.02, 0.2] {
            // Counted message by message, the first would be proof.
            seldom("whole receives of ten", allowed, 10, &mut |rng| {
                10 * u32::from(rng.f64() < allowed)
            });
        }
        seldom("receives of ten", 0.02, 10, &mut |rng| {
            (0..10).map(|_| u32::from(rng.f64() < 0.02)).sum()
        });
    }

    /// Otherwise the test above would pass whatever it counts.
    #[test]
    fn a_release_that_fails_twice_as_often_as_allowed_alarms_far_more_often() {
        let alarms = alarms(0.02, 1_000_000, 1, |rng| u32::from(rng.f64() < 0.04));
        assert!(alarms > 100, "{alarms}");
    }

    #[test]
    fn a_release_that_fails_everything_is_found_within_a_few_messages_early_and_late() {
        for (allowed, most) in [(0.01, 5), (0.02, 5), (0.05, 6), (0.2, 12)] {
            for before in [0, 100_000] {
                let mut detector = Detector::new(allowed);
                for _ in 0..before {
                    let number = detector.receive(1);
                    assert!(!detector.ended(number, false));
                }
                let failures = (1..)
                    .find(|_| {
                        let number = detector.receive(1);
                        detector.ended(number, true)
                    })
                    .unwrap();
                assert!(failures <= most, "{failures} at {allowed} after {before}");
            }
        }
    }

    #[test]
    fn proof_takes_as_many_failures_in_a_row_as_the_page_says() {
        for (allowed, failures) in [(0.01, 4), (0.02, 5), (0.05, 6), (0.1, 8), (0.2, 11)] {
            let mut detector = Detector::new(allowed);
            let proved = (1..).find(|_| {
                let number = detector.receive(1);
                detector.ended(number, true)
            });
            assert_eq!(proved, Some(failures), "{allowed}");
        }
    }

    #[test]
    fn failures_of_one_receive_are_no_proof_and_those_of_many_are() {
        let mut detector = Detector::new(0.02);
        let number = detector.receive(10);
        assert!((0..10).all(|_| !detector.ended(number, true)));
        let numbers: Vec<_> = (0..10).map(|_| detector.receive(10)).collect();
        let first = numbers.iter().position(|number| detector.ended(*number, true));
        assert!(first.is_some_and(|index| index >= 2), "{first:?}");
    }

    #[test]
    fn looking_before_a_receive_is_complete_never_shows_more_than_its_end() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let mut detector = Detector::new(0.05);
            let numbers: Vec<_> = (0..6).map(|_| detector.receive(5)).collect();
            let mut ends: Vec<_> = numbers.iter().flat_map(|number| [*number; 5]).collect();
            rng.shuffle(&mut ends);
            let mut before = 0.0;
            for number in ends {
                detector.ended(number, rng.f64() < 0.3);
                assert!(detector.value() >= before * (1.0 - 1e-9));
                before = detector.value();
            }
        }
    }

    #[test]
    fn what_is_withdrawn_leaves_no_trace_and_a_receive_that_never_ends_is_bounded() {
        let mut detector = Detector::new(0.02);
        let number = detector.receive(3);
        for _ in 0..3 {
            detector.withdraw(number);
        }
        assert!(detector.value().abs() < 1e-12);
        let hung = detector.receive(1);
        for _ in 0..5000 {
            let number = detector.receive(1);
            detector.ended(number, false);
        }
        assert!(detector.receives.len() <= MAX_RECEIVES);
        assert!(!detector.ended(hung, true));
    }

    #[test]
    fn a_release_that_may_fail_always_is_never_accused() {
        let mut detector = Detector::new(1.0);
        assert!((0..1000).all(|_| {
            let number = detector.receive(1);
            !detector.ended(number, true)
        }));
    }
}
