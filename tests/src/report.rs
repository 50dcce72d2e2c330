//! How a test or benchmark says what it measured; `cargo xtask bench` and `slow` make it a table.

/// Prints one row: what, measured, to reach.
pub fn report(what: &str, measured: &str, to_reach: &str) {
    println!("serin-bench | {what} | {measured} | {to_reach}");
}

/// The value below which `share` of the sorted values are.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (share * last as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
