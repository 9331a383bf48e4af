//! The colours and the style sheet of the page.

/// Colours of light and dark by what they are for: name, light, dark.
const PALETTE: [(&str, &str, &str); 11] = [
    ("paper", "#ffffff", "#15181d"),
    ("ink", "#1c2127", "#e4e7eb"),
    ("quiet", "#56606b", "#a3adb8"),
    ("line", "#d5dae0", "#39414b"),
    ("good", "#0a6b3d", "#5fd39a"),
    ("bad", "#a3211b", "#ff9a8f"),
    ("open", "#7a4b00", "#f0b95a"),
    ("s0", "#0072b2", "#6cbcf0"),
    ("s1", "#b44a00", "#ffa263"),
    ("s2", "#00795a", "#4fd0a5"),
    ("panel", "#f4f6f8", "#1e232a"),
];

pub(super) fn style() -> String {
    let variables = |pick: fn(&(&str, &str, &str)) -> String| PALETTE.iter().map(pick).collect::<String>();
    let light = variables(|(name, light, _)| format!("--{name}:{light};"));
    let dark = variables(|(name, _, dark)| format!("--{name}:{dark};"));
    format!(
        ":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{}",
        include_str!("style.css")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2's relative luminance.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_text_has_contrast_in_the_light_and_in_the_dark() {
        let of = |name: &str| *PALETTE.iter().find(|colour| colour.0 == name).unwrap();
        for text in ["ink", "quiet", "good", "bad", "open", "s0", "s1", "s2"] {
            for ground in ["paper", "panel"] {
                let (text, ground) = (of(text), of(ground));
                for (text, ground) in [(text.1, ground.1), (text.2, ground.2)] {
                    assert!(
                        contrast(text, ground) >= 4.5,
                        "{text} on {ground}: {}",
                        contrast(text, ground)
                    );
                }
            }
        }
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
    }

    #[test]
    fn the_style_asks_nobody_for_anything() {
        let style = style();
        assert!(
            !style.contains("url(") && !style.contains("@import") && !style.contains('<'),
            "{style}"
        );
    }
}
