//! Runs `tests/cases/*.slt`: a statement, `----`, and its answer as CSV (or `error CODE`).
//!
//! Adding a case needs no Rust. Statements run in a real worker, over the fixture's whole range.

use serin_query::{Limits, render};

use crate::fixture::{Fixture, range};

#[tokio::test]
async fn statements_answer_as_written() {
    let fixture = Fixture::new();
    let engine = fixture.engine(Limits::default());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for case in text
            .split("\n\n")
            .map(str::trim)
            .filter(|case| case.contains("----"))
        {
            let (sql, wanted) = case.split_once("----").unwrap();
            let sql: String = sql
                .lines()
                .filter(|line| !line.starts_with('#'))
                .collect::<Vec<_>>()
                .join("\n");
            let found = match engine
                .sql(&fixture.snapshot, &sql, Some(range(0, 180)))
                .await
            {
                Ok(answer) => render::csv(&answer),
                Err(error) => format!("error {}: {error}", error.code()),
            };
            let wanted = wanted.trim();
            let is_right = match wanted.starts_with("error ") {
                true => found.starts_with(wanted),
                false => found.trim() == wanted,
            };
            if !is_right {
                wrong.push(format!(
                    "{}\n{sql}\nwanted:\n{wanted}\nfound:\n{found}",
                    path.display()
                ));
            }
            count += 1;
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
    assert!(count >= 20, "only {count} cases were found");
}
