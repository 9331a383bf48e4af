//! A test martingale over windows: a weighted mixture of likelihood ratios, with some of the stake kept as cash.
//!
//! The mixture bets one unit on alternatives ω_1 … ω_m. What it is worth, `E`, has expectation at most 1 while the null holds, so
//! by Ville's inequality the chance that it *ever* reaches 1/α is at most α, however often one looks.
//!
//! Cash: a part C of the stake is not bet at once but moved into the bets little by little, so that harm which starts late
//! does not first have to win back what was lost while all was well. Moving stake before a window's split is known changes no
//! expectation. Only windows that carry evidence move cash: windows without are without effect.
//!
//! Sources: statistics after Turner, Ly, Grünwald, arXiv 2106.02693; J. Ville, *Étude critique de la notion de collectif* (1939).

/// The stake a process may hold back, and how fast it is bet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cash {
    /// Share of the stake that is not bet at the start, in [0, 1).
    pub share: f64,
    /// Share of the cash that is bet at each window with evidence, in [0, 1].
    pub flow: f64,
}

impl Cash {
    /// A quarter held back, 1/120 of what is left bet at each window: costs at most 3 % and halves the delay after 360 clean windows.
    pub const USUAL: Self = Self {
        share: 0.25,
        flow: 1.0 / 120.0,
    };
    /// All is bet at once: for promotion, where evidence must speak of the whole rollout.
    pub const NONE: Self = Self {
        share: 0.0,
        flow: 0.0,
    };
}

/// An e-process over windows, in logarithms, that can also say what it would be worth without any one stretch of them.
#[derive(Clone, Debug)]
pub struct Process {
    weights: Box<[f64]>,
    flow: f64,
    /// A row for the start and one for each window. Per alternative: the sum of log-likelihood ratios so far; then per
    /// alternative: log of what the bet is worth; then log of the cash left.
    rows: Vec<f64>,
    /// What the bets would be worth without the stretch that was last found to matter most.
    shadow: Option<Box<[f64]>>,
}

/// One row of a process.
#[derive(Clone, Copy)]
struct Row<'p> {
    total: &'p [f64],
    worth: &'p [f64],
    cash: f64,
}

impl Process {
    /// A process with the given weights of the alternatives (positive; scaled to sum to 1).
    pub fn new(weights: &[f64], cash: Cash) -> Self {
        let sum: f64 = weights.iter().sum();
        let weights: Box<[f64]> = weights.iter().map(|weight| (weight / sum).ln()).collect();
        let mut rows = vec![0.0; weights.len()];
        rows.extend(weights.iter().map(|weight| weight + (-cash.share).ln_1p()));
        rows.push(cash.share.ln());
        Self {
            weights,
            flow: cash.flow,
            rows,
            shadow: None,
        }
    }

    fn width(&self) -> usize {
        2 * self.weights.len() + 1
    }

    /// Windows so far, those without evidence included.
    pub fn len(&self) -> usize {
        self.rows.len() / self.width() - 1
    }

    /// Whether no window has entered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The state after the first `index` windows.
    fn row(&self, index: usize) -> Row<'_> {
        let row = &self.rows[index * self.width()..][..self.width()];
        let (total, rest) = row.split_at(self.weights.len());
        let (worth, cash) = rest.split_at(self.weights.len());
        Row {
            total,
            worth,
            cash: cash[0],
        }
    }

    /// Enters a window: `ratios` are the log-likelihood ratios of the alternatives against the null, one for each weight.
    ///
    /// All zero means no evidence, and then nothing changes.
    pub fn enter(&mut self, ratios: &[f64]) {
        self.enter_shadowed(ratios, false);
    }

    /// The same, where `shadowed` says that the window belongs to the stretch that the shadow leaves out.
    pub(crate) fn enter_shadowed(&mut self, ratios: &[f64], shadowed: bool) {
        let (width, count) = (self.width(), self.weights.len());
        let last = self.rows.len() - width;
        self.rows.extend_from_within(last..);
        if ratios.iter().all(|ratio| *ratio == 0.0) {
            return;
        }
        let row = &mut self.rows[last + width..];
        let moved = row[2 * count] + self.flow.ln();
        for (index, ratio) in ratios.iter().enumerate().take(count) {
            let stake = moved + self.weights[index];
            row[index] += ratio;
            row[count + index] = log_add(row[count + index], stake) + ratio;
            if let Some(shadow) = &mut self.shadow {
                shadow[index] = log_add(shadow[index], stake) + if shadowed { 0.0 } else { *ratio };
            }
        }
        row[2 * count] += (-self.flow).ln_1p();
    }

    /// `ln E` now; 0 at the start.
    pub fn log_evidence(&self) -> f64 {
        let last = self.row(self.len());
        log_sum(last.worth.iter().copied().chain([last.cash]))
    }

    /// The log-likelihood ratios of window `index`, counted from 0, into `out`.
    pub(crate) fn ratios(&self, index: usize, out: &mut [f64]) {
        let (before, after) = (self.row(index).total, self.row(index + 1).total);
        for (value, (before, after)) in out.iter_mut().zip(before.iter().zip(after)) {
            *value = after - before;
        }
    }

    /// From now on also keeps what E would be without the windows `from..to` (and later ones entered as shadowed).
    pub(crate) fn cast_shadow(&mut self, from: usize, to: usize) {
        let mut later = Later::new(self);
        later.back_to(to);
        self.shadow = Some(later.worths(from, to).collect());
    }

    /// `ln E` without the shadowed windows; `ln E` where there is no shadow.
    pub(crate) fn log_shadow(&self) -> f64 {
        match &self.shadow {
            Some(shadow) => log_sum(shadow.iter().copied().chain([self.row(self.len()).cash])),
            None => self.log_evidence(),
        }
    }

    /// `ln E` as it would be now had the windows of each stretch carried no evidence.
    ///
    /// Stretch `i` is the half-open range of window indices `stretches[i]`, whose starts and ends must both ascend. Takes
    /// O(windows · alternatives). For each stretch the result is an e-process over the other windows, so the minimum over
    /// the stretches is at least 10 with probability at most 1/10 even if the windows of one stretch are arbitrary.
    pub fn log_evidence_without(&self, stretches: &[(usize, usize)]) -> Vec<f64> {
        let cash = self.row(self.len()).cash;
        let mut later = Later::new(self);
        let mut results = vec![0.0; stretches.len()];
        for (result, &(from, to)) in results.iter_mut().zip(stretches).rev() {
            let to = to.min(self.len());
            later.back_to(to);
            let worths: Vec<f64> = later.worths(from.min(to), to).collect();
            *result = log_sum(worths.into_iter().chain([cash]));
        }
        results
    }
}

/// What the stakes that were bet after some window are worth now: grown window by window as that window moves back.
struct Later<'p> {
    process: &'p Process,
    now: Row<'p>,
    end: usize,
    worth: Vec<f64>,
}

impl<'p> Later<'p> {
    fn new(process: &'p Process) -> Self {
        let end = process.len();
        Self {
            process,
            now: process.row(end),
            end,
            worth: vec![f64::NEG_INFINITY; process.weights.len()],
        }
    }

    fn back_to(&mut self, end: usize) {
        while self.end > end {
            let (before, after) = (self.process.row(self.end - 1), self.process.row(self.end));
            let moved = log_subtract(before.cash, after.cash);
            if moved > f64::NEG_INFINITY {
                for (index, worth) in self.worth.iter_mut().enumerate() {
                    let gain = self.now.total[index] - before.total[index];
                    *worth = log_add(*worth, moved + self.process.weights[index] + gain);
                }
            }
            self.end -= 1;
        }
    }

    /// Each bet as if the windows `from..to` had carried no evidence; `to` is where this stands.
    fn worths(&self, from: usize, to: usize) -> impl Iterator<Item = f64> + '_ {
        let (first, last) = (self.process.row(from), self.process.row(to));
        let moved = log_subtract(first.cash, last.cash);
        (0..self.worth.len()).map(move |index| {
            let held = log_add(first.worth[index], moved + self.process.weights[index]);
            log_add(
                held + self.now.total[index] - last.total[index],
                self.worth[index],
            )
        })
    }
}

/// `ln(e^a + e^b)`.
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY {
        high
    } else {
        high + (low - high).exp().ln_1p()
    }
}

/// `ln(e^a − e^b)` for a ≥ b; `−∞` where they are equal.
fn log_subtract(a: f64, b: f64) -> f64 {
    if a <= b {
        f64::NEG_INFINITY
    } else {
        a + (-(b - a).exp()).ln_1p()
    }
}

/// `ln Σ e^v`; `−∞` of nothing.
pub(crate) fn log_sum(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let top = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if top == f64::NEG_INFINITY {
        return top;
    }
    top + values.map(|value| (value - top).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-10 * (1.0 + a.abs())
    }

    #[test]
    fn the_mixture_is_what_the_formula_says() {
        let mut process = Process::new(
            &[1.0, 3.0],
            Cash {
                share: 0.25,
                flow: 0.1,
            },
        );
        process.enter(&[0.5, -0.2]);
        let (mut first, mut second, mut cash) = (0.75 * 0.25, 0.75 * 0.75, 0.25);
        (first, second) = (
            (first + 0.25 * cash * 0.1) * 0.5f64.exp(),
            (second + 0.75 * cash * 0.1) * (-0.2f64).exp(),
        );
        cash *= 0.9;
        assert!(close(process.log_evidence(), (first + second + cash).ln()));
    }

    #[test]
    fn windows_without_evidence_change_nothing() {
        let mut process = Process::new(&[1.0, 1.0], Cash::USUAL);
        process.enter(&[0.7, 0.1]);
        let before = process.log_evidence();
        process.enter(&[0.0, 0.0]);
        assert!(close(process.log_evidence(), before));
        assert_eq!(process.len(), 2);
    }

    #[test]
    fn leaving_out_a_stretch_equals_never_having_seen_its_ratios() {
        let ratios = [
            [0.4, -0.3],
            [9.0, 40.0],
            [-0.5, 0.2],
            [60.0, 1.0],
            [0.3, 0.3],
            [-2.0, -9.0],
        ];
        let mut process = Process::new(&[1.0, 2.0], Cash::USUAL);
        for ratio in &ratios {
            process.enter(ratio);
        }
        let stretches: Vec<_> = (0..6).map(|from| (from, (from + 2).min(6))).collect();
        for (without, (from, to)) in process.log_evidence_without(&stretches).iter().zip(&stretches) {
            // The same moves of cash, with ratios that are (all but) zero.
            let mut other = Process::new(&[1.0, 2.0], Cash::USUAL);
            for (index, ratio) in ratios.iter().enumerate() {
                let left_out = (*from..*to).contains(&index);
                other.enter(if left_out { &[1e-300, 1e-300] } else { ratio });
            }
            assert!(
                close(*without, other.log_evidence()),
                "{from}..{to}: {without} {}",
                other.log_evidence()
            );
        }
    }

    #[test]
    fn a_stretch_that_holds_all_the_evidence_leaves_none() {
        let mut process = Process::new(&[1.0; 12], Cash::USUAL);
        for window in 0..100 {
            let ratio = if window == 50 { 500.0 } else { -0.01 };
            process.enter(&[ratio; 12]);
        }
        assert!(process.log_evidence() > 400.0);
        let without = process.log_evidence_without(&[(50, 80)])[0];
        assert!(without < 0.0 && without > -2.0, "{without}");
    }

    #[test]
    fn a_shadow_grows_as_the_stretch_left_out_would() {
        let mut process = Process::new(&[1.0, 2.0], Cash::USUAL);
        for window in 0..40 {
            let ratio = [
                0.1 * f64::from(window % 7) - 0.2,
                0.3 - 0.1 * f64::from(window % 5),
            ];
            if window == 12 {
                process.cast_shadow(8, 12);
            }
            process.enter_shadowed(&ratio, window < 15);
            if window >= 15 {
                let whole = process.log_evidence_without(&[(8, 15)])[0];
                assert!(
                    close(process.log_shadow(), whole),
                    "{window}: {} {whole}",
                    process.log_shadow()
                );
            }
        }
    }
}
