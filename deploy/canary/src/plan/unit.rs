//! Quantities as people write them: `0.5%`, `30s`, `50/s`.

/// A share or rate of failures: `"0.5%"` or `0.005`. `None` if it is neither.
pub fn fraction(text: &str) -> Option<f64> {
    let value = match text.trim().strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.trim().parse::<f64>().ok()?,
    };
    value.is_finite().then_some(value)
}

/// A rate of messages: `"50/s"`, `"90/m"`, `"1000/h"`; in messages a second. `None` if it is not one.
pub fn rate(text: &str) -> Option<f64> {
    let (count, unit) = text.trim().split_once('/')?;
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let count: f64 = count.trim().replace('_', "").parse().ok()?;
    count.is_finite().then_some(count / seconds)
}

/// A duration in whole seconds: `"30s"`, `"5m"`, `"1h 30m"`. `None` if it is not one or has fractions of a second.
pub fn seconds(text: &str) -> Option<u32> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    if duration.subsec_nanos() != 0 {
        return None;
    }
    u32::try_from(duration.as_secs()).ok()
}

/// A whole positive number of seconds as people write it.
pub fn show_seconds(seconds: u32) -> String {
    humantime::format_duration(std::time::Duration::from_secs(u64::from(seconds))).to_string()
}

/// A fraction in percent, without needless digits.
pub fn show_fraction(fraction: f64) -> String {
    let percent = fraction * 100.0;
    let digits = if percent >= 10.0 {
        1
    } else if percent >= 0.1 {
        2
    } else {
        4
    };
    let text = format!("{percent:.digits$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{}%", if text.is_empty() { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_written() {
        assert_eq!(fraction("0.5%"), Some(0.005));
        assert_eq!(fraction("0.02"), Some(0.02));
        assert_eq!(fraction("nan"), None);
        assert_eq!(rate("50/s"), Some(50.0));
        assert_eq!(rate("90/m"), Some(1.5));
        assert_eq!(rate("50"), None);
        assert_eq!(seconds("1h 30m"), Some(5400));
        assert_eq!(seconds("100ms"), None);
        assert_eq!(seconds("-1s"), None);
    }

    #[test]
    fn quantities_are_shown_short() {
        assert_eq!(show_fraction(0.005), "0.5%");
        assert_eq!(show_fraction(0.1), "10%");
        assert_eq!(show_fraction(0.0005), "0.05%");
        assert_eq!(show_fraction(0.0), "0%");
        assert_eq!(show_seconds(90), "1m 30s");
    }
}
