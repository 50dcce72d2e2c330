//! How a test or benchmark says what it measured; `cargo xtask bench` and `slow` make it a table.

use std::fs::File;
use std::io::Write;

/// Prints one row: what, measured, to reach.
pub fn report(what: &str, measured: &str, to_reach: &str) {
    let test = test();
    println!("serin-bench | {what} | {measured} | {to_reach} | | {test}");
}

/// The same with a judgement, for what has a number to reach.
pub fn judged(what: &str, measured: &str, to_reach: &str, is_reached: bool) {
    let reached = if is_reached { "yes" } else { "no" };
    let test = test();
    println!("serin-bench | {what} | {measured} | {to_reach} | {reached} | {test}");
}

/// The test that runs on this thread, without its modules; nothing for a benchmark.
fn test() -> String {
    let thread = std::thread::current();
    let test = thread.name().filter(|name| name.contains("::"));
    test.and_then(|name| name.split("::").last())
        .unwrap_or_default()
        .to_owned()
}

/// Says that something cannot be tested here, and why; `cargo xtask test` repeats it at its end.
/// What a test returns then.
pub fn skip(what: &str, why: &anyhow::Error) -> anyhow::Result<()> {
    report(what, &format!("SKIPPED: {why:#}"), "");
    if let Some(path) = std::env::var_os("SERIN_SKIPPED") {
        let mut file = File::options().append(true).create(true).open(path)?;
        writeln!(file, "{what}: {why:#}")?;
    }
    Ok(())
}

/// The value below which `share` of the sorted values are.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let index = (share * last as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(f64::NAN)
}
