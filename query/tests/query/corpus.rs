//! The corpus of hostile statements (`hostile.sql`), also read by the end-to-end tests.

/// What must come of each statement (refused, fails, any), and the statement.
pub(crate) fn statements() -> Vec<(&'static str, String)> {
    let lines = include_str!("../hostile.sql").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with("--"));
    lines
        .filter_map(|line| line.split_once(" | "))
        .map(|(wanted, statement)| (wanted, expand(statement)))
        .collect()
}

/// Expands `{{N*text}}` in a line of the corpus, so that long statements stay readable.
fn expand(line: &str) -> String {
    let parts = line.split_once("{{").and_then(|(before, rest)| {
        let (times, rest) = rest.split_once('*')?;
        let (text, after) = rest.split_once("}}")?;
        let repeated = text.repeat(times.parse().ok()?);
        Some(format!("{before}{repeated}{}", expand(after)))
    });
    parts.unwrap_or_else(|| line.to_owned())
}
