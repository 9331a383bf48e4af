//! The Mann–Whitney test and the interval of its shift.
//!
//! Source: H. B. Mann, D. R. Whitney (1947); J. L. Hodges, E. L. Lehmann (1963) for the shift and its interval.

use super::super::traffic::normal_cumulative;

/// Whether two samples differ at p < 0.05, two-sided: normal approximation with corrections for ties and continuity.
pub(super) fn differs(a: &[f64], b: &[f64]) -> bool {
    let (n, m) = (a.len() as f64, b.len() as f64);
    if a.is_empty() || b.is_empty() {
        return false;
    }
    let u: f64 = a
        .iter()
        .flat_map(|x| {
            b.iter().map(move |y| {
                if x > y {
                    1.0
                } else if x < y {
                    0.0
                } else {
                    0.5
                }
            })
        })
        .sum();
    let mut all: Vec<f64> = a.iter().chain(b).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|x, y| x.total_cmp(y).is_eq())
        .map(|tied| {
            let t = tied.len() as f64;
            t * t * t - t
        })
        .sum();
    let total = n + m;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    if variance <= 0.0 {
        return false;
    }
    let z = ((u - n * m / 2.0).abs() - 0.5).max(0.0) / variance.sqrt();
    2.0 * (1.0 - normal_cumulative(z)) < 0.05
}

/// Whether the 98 % interval of the shift from `b` to `a` lies above a quarter of the estimated shift.
pub(super) fn shifted_up(a: &[f64], b: &[f64]) -> bool {
    const Z: f64 = 2.326_347_874;
    let (n, m) = (a.len() as f64, b.len() as f64);
    let mut differences: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| x - y)).collect();
    differences.sort_by(f64::total_cmp);
    let Some(estimate) = differences.get(differences.len() / 2) else {
        return false;
    };
    let rank = n * m / 2.0 - Z * (n * m * (n + m + 1.0) / 12.0).sqrt();
    if rank < 1.0 {
        // Too few points for an interval of that confidence.
        return false;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and the number of differences"
    )]
    let lowest = differences.get(rank.floor() as usize - 1);
    lowest.is_some_and(|lowest| *lowest > 0.25 * estimate.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_samples_do_not_differ_and_disjoint_ones_do() {
        let low: Vec<f64> = (0..20).map(f64::from).collect();
        let high: Vec<f64> = (100..120).map(f64::from).collect();
        assert!(!differs(&low, &low) && differs(&low, &high) && differs(&high, &low));
        assert!(!differs(&[0.0; 20], &[0.0; 20]) && !differs(&[], &low));
        assert!(shifted_up(&high, &low) && !shifted_up(&low, &high) && !shifted_up(&low, &low));
        assert!(!shifted_up(&[1.0], &[0.0]), "one point has no interval");
    }
}
