//! How many messages a verdict takes: information bounds and planning formulas.

/// Kullback–Leibler divergence of a yes/no of rate `p` from one of rate `q`, in nats.
pub fn divergence(p: f64, q: f64) -> f64 {
    let part = |a: f64, b: f64| if a == 0.0 { 0.0 } else { a * (a / b).ln() };
    part(p, q) + part(1.0 - p, 1.0 - q)
}

/// The fewest canary messages, in expectation, in which *any* test of level α can find the canary failing at `canary` instead of
/// `baseline`, with `others` baseline messages to each canary message.
///
/// > ln(1/α) / K*,  K* = KL(p_c‖q*) + r·KL(p_b‖q*),  q* = (p_c + r·p_b)/(1 + r)
///
/// Valid as a bound by Wald's identity: evidence grows at most by K* a message in the mean against the nearest harmless pair
/// of rates. Source: A. Wald, *Sequential Analysis* (1947); Turner, Ly, Grünwald, arXiv 2106.02693.
pub fn information_bound(alpha: f64, baseline: f64, canary: f64, others: f64) -> f64 {
    -alpha.ln() / harm_growth(baseline, canary, others)
}

/// K*: the most that evidence of harm can grow with a canary message, in nats.
pub fn harm_growth(baseline: f64, canary: f64, others: f64) -> f64 {
    let pooled = (canary + others * baseline) / (1.0 + others);
    divergence(canary, pooled) + others * divergence(baseline, pooled)
}

/// Mean growth of the evidence for promotion with a canary message of a harmless release, in nats: the faster of ratio and ceiling.
///
/// > K_ratio = p·[(1 + m)·ln((r + m)/(1 + m)) − ln r],  m = (1 − share)/share;  K_abs = KL(p‖p_max)
///
/// The first is the growth of the conditional likelihood ratio where failures are rare. At least 0.
pub fn promotion_growth(p: f64, share: f64, tolerated: f64, ceiling: Option<f64>) -> f64 {
    let m = (1.0 - share) / share;
    let ratio = p * ((1.0 + m) * ((tolerated + m) / (1.0 + m)).ln() - tolerated.ln());
    let absolute = ceiling
        .filter(|ceiling| p < *ceiling)
        .map_or(0.0, |ceiling| divergence(p, ceiling));
    ratio.max(absolute).max(0.0)
}

/// Canary messages to promote a harmless release, in the mean; the 90th percentile is about twice that.
///
/// > N ≈ (ln(1/β) + c)/K, where c = 0.3 for r = 2 and 0.45 for r = 3 by ratio, 1 by ceiling; with both, ln 2 more is shared
pub fn messages_to_promote(beta: f64, p: f64, share: f64, tolerated: f64, ceiling: Option<f64>) -> f64 {
    let extra = 0.3 + 0.15 * (tolerated - 2.0).clamp(0.0, 1.0);
    let halved = if ceiling.is_some() { 2f64.ln() } else { 0.0 };
    let by_ratio = (-beta.ln() + extra + halved) / promotion_growth(p, share, tolerated, None);
    let by_ceiling = match ceiling {
        Some(ceiling) if p < ceiling => (-beta.ln() + 1.0) / divergence(p, ceiling),
        Some(_) | None => f64::INFINITY,
    };
    by_ratio.min(by_ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_information_bounds_are_the_known_ones() {
        for (baseline, canary, known) in [
            (0.005, 0.01, 2708.0),
            (0.005, 0.02, 427.0),
            (0.005, 0.05, 84.0),
            (0.005, 0.5, 4.0),
            (0.0005, 0.01, 316.0),
            (0.02, 0.04, 663.0),
        ] {
            let bound = information_bound(0.01, baseline, canary, 9.0);
            assert!(
                (bound / known - 1.0f64).abs() < 0.1,
                "{baseline} {canary}: {bound} {known}"
            );
        }
    }

    #[test]
    fn the_planning_table_is_the_known_one() {
        for (p, share, tolerated, known) in [
            (0.0005, 0.10, 2.0, 24_900.0),
            (0.005, 0.10, 2.0, 2460.0),
            (0.005, 0.25, 3.0, 1300.0),
            (0.02, 0.50, 2.0, 1400.0),
            (0.05, 0.10, 3.0, 107.0),
        ] {
            let messages = messages_to_promote(0.05, p, share, tolerated, None);
            assert!(
                (messages / known - 1.0f64).abs() < 0.15,
                "{p} {share} {tolerated}: {messages} {known}"
            );
        }
    }

    #[test]
    fn the_ceiling_shortens_the_wait_for_rare_failures() {
        let messages = messages_to_promote(0.05, 0.0005, 0.1, 2.0, Some(0.005));
        assert!((900.0..1600.0).contains(&messages), "{messages}");
    }
}
