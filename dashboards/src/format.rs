//! Numbers as people read them. The browser has the same table; `specs/format.json` holds both to it.

/// Currencies that are shown with two digits after the point.
const CURRENCIES: [&str; 12] = [
    "EUR", "USD", "GBP", "CHF", "SEK", "NOK", "DKK", "PLN", "CZK", "CAD", "AUD", "INR",
];
/// Steps of a thousand, largest first.
const THOUSANDS: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
/// Bytes are counted in thousands, as disks and networks are.
const BYTES: [(f64, &str); 5] = [
    (1e15, "PB"),
    (1e12, "TB"),
    (1e9, "GB"),
    (1e6, "MB"),
    (1e3, "kB"),
];
/// Spans of time in seconds, largest first.
const SPANS: [(f64, &str); 7] = [
    (86_400.0, "d"),
    (3_600.0, "h"),
    (60.0, "min"),
    (1.0, "s"),
    (1e-3, "ms"),
    (1e-6, "µs"),
    (1e-9, "ns"),
];
/// What stands for a gap.
pub const GAP: &str = "–";

/// A value with its unit, short enough for an axis.
pub fn format_value(value: Option<f64>, unit: Option<&str>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else {
        return GAP.to_owned();
    };
    let sign = if value < 0.0 { "-" } else { "" };
    let size = value.abs();
    let text = match unit.unwrap_or("count") {
        "count" | "" => short(size),
        "ratio" => format!("{} %", digits(size * 100.0, 3)),
        "percent" => format!("{} %", digits(size, 3)),
        "bytes" => match scale(size, &BYTES) {
            Some((scaled, name)) => format!("{} {name}", digits(scaled, 3)),
            None => format!("{} B", digits(size, 3)),
        },
        "s" => span(size),
        "ms" => span(size / 1e3),
        "us" | "µs" => span(size / 1e6),
        unit if CURRENCIES.contains(&unit) && size < 10_000.0 => format!("{size:.2} {unit}"),
        unit => format!("{} {unit}", short(size)),
    };
    let is_nothing = !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte));
    if is_nothing {
        text
    } else {
        format!("{sign}{text}")
    }
}

/// Up to four digits as they are; from ten thousand three digits and a letter.
fn short(size: f64) -> String {
    if size < 9_999.5 {
        return if size.fract() == 0.0 {
            format!("{size}")
        } else {
            digits(size, 4)
        };
    }
    match scale(size, &THOUSANDS) {
        Some((scaled, name)) if scaled < 9_999.5 => format!("{}{name}", digits(scaled, 3)),
        _ => format!("{size:.2e}"),
    }
}

fn span(seconds: f64) -> String {
    if seconds == 0.0 {
        return String::from("0 s");
    }
    match scale(seconds, &SPANS) {
        Some((scaled, name)) => format!("{} {name}", digits(scaled, 3)),
        None => format!("{} s", digits(seconds, 3)),
    }
}

/// The largest step that leaves at least 1, counting what would be rounded up to it.
fn scale(size: f64, steps: &[(f64, &'static str)]) -> Option<(f64, &'static str)> {
    let fits = |(step, _): &&(f64, &str)| size / step >= 0.9995;
    steps
        .iter()
        .find(fits)
        .map(|(step, name)| (size / step, *name))
}

/// So many digits that count, at most six after the point, no zeroes at the end.
fn digits(size: f64, count: i32) -> String {
    if size == 0.0 {
        return String::from("0");
    }
    if size < 1e-6 {
        return format!("{size:.2e}");
    }
    let places = (count - 1 - size.log10().floor() as i32).clamp(0, 6);
    let factor = 10f64.powi(places);
    let rounded = (size * factor).round() / factor;
    let text = format!("{rounded:.*}", places as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        value: Option<f64>,
        unit: Option<String>,
        text: String,
    }

    #[test]
    fn numbers_read_as_the_shared_table_says() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../specs/format.json")).expect("the table is JSON");
        for case in cases {
            let shown = format_value(case.value, case.unit.as_deref());
            assert_eq!(shown, case.text, "{:?} {:?}", case.value, case.unit);
        }
    }
}
