//! `specs/ok` and `specs/err`: YAML files with what `serin check` says of them beside them.
//!
//! A file with a line `dashboard:` is a dashboard over the KPIs of `specs/base.yaml`; any other is a
//! file of KPIs. To add a case, add a file and run with `UPDATE_EXPECT=1`.

mod orders;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use expect_test::expect_file;
use serin_dashboards::{check, check_with};

/// Long enough for a slow machine with other tests beside it, short enough to tell a bomb.
const REFUSED_WITHIN: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 1_000 } else { 100 });

const TRIES: u32 = 3;

fn specs(folder: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("specs")
        .join(folder);
    let entries = fs::read_dir(dir).expect("the folder of specs");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    paths.sort();
    paths
}

fn said(text: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs/base.yaml");
    for folder in ["kpis", "dashboards"] {
        fs::create_dir(dir.path().join(folder)).expect("a folder");
    }
    let is_dashboard = text.lines().any(|line| line.starts_with("dashboard:"));
    let folder = if is_dashboard { "dashboards" } else { "kpis" };
    fs::copy(base, dir.path().join("kpis/base.yaml")).expect("the base");
    fs::write(dir.path().join(folder).join("it.yaml"), text).expect("the file");
    let report = check(dir.path());
    report
        .problems
        .iter()
        .map(|problem| format!("{problem} [{}]\n", problem.code))
        .collect()
}

fn time_of(text: &str) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "bombs are about time")]
    let started = Instant::now();
    said(text);
    started.elapsed()
}

#[test]
fn what_is_right_is_taken() {
    let paths = specs("ok");
    assert!(paths.len() >= 4, "{paths:?}");
    for path in paths {
        let text = fs::read_to_string(&path).expect("a spec");
        assert_eq!(said(&text), "", "{}", path.display());
    }
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let paths = specs("err");
    assert!(paths.len() >= 12, "{paths:?}");
    for path in paths {
        let text = fs::read_to_string(&path).expect("a spec");
        expect_file![path.with_extension("txt")].assert_eq(&said(&text));
    }
}

/// What names a table or column that is not there is a warning: its data may still come.
#[test]
fn what_does_not_fit_the_data_is_a_warning() {
    let dir = tempfile::tempdir().expect("a folder");
    let kpis = "kpis:\n  orders: {event: order.paid, measure: sum(amont)}\n";
    let panels = "dashboard: it\npanels:\n  right: {sql: \"SELECT sum(amount) AS n FROM order.paid WHERE $__range\"}\n  wrong: {sql: \"SELECT sum(amont) AS n FROM order.paid\"}\n  never: {sql: \"SELECT 1 FROM order.payed\"}\n";
    for (folder, text) in [("kpis", kpis), ("dashboards", panels)] {
        fs::create_dir(dir.path().join(folder)).expect("a folder");
        fs::write(dir.path().join(folder).join("it.yaml"), text).expect("a file");
    }
    let report = check_with(dir.path(), &orders::snapshot());
    assert!(!report.has_errors(), "{:?}", report.problems);
    let told: Vec<String> = report
        .problems
        .iter()
        .map(|problem| problem.to_string())
        .collect();
    let wanted = [
        (
            "dashboards/it.yaml:4:3: warning: panel \"wrong\": ",
            "amont",
        ),
        (
            "dashboards/it.yaml:5:3: warning: panel \"never\": ",
            "order.payed",
        ),
        ("kpis/it.yaml:2:3: warning: kpi \"orders\": ", "amont"),
    ];
    assert_eq!(told.len(), wanted.len(), "{told:?}");
    for (told, (place, word)) in told.iter().zip(wanted) {
        assert!(told.starts_with(place) && told.contains(word), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn bombs_are_refused_at_once() {
    let mut laughs = String::from("kpis:\n  a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let before = level - 1;
        laughs.push_str(&format!(
            "  a{level}: &a{level} [{}]\n",
            vec![format!("*a{before}"); 10].join(", ")
        ));
    }
    let long = "x".repeat(100_000);
    let bombs = [
        ("billion laughs", laughs),
        ("brackets", "[".repeat(100_000)),
        ("braces", "{a: ".repeat(60_000)),
        (
            "repeated anchor",
            format!("kpis:\n  a: &a {long}\n  b: [{}]\n", "*a, ".repeat(20_000)),
        ),
        (
            "blocks",
            (0..5_000)
                .map(|n| format!("{}a:\n", " ".repeat(n % 200)))
                .collect(),
        ),
        (
            "a long line",
            format!("kpis: \"{}\"", "\\x41".repeat(60_000)),
        ),
        ("too large", format!("# {}", "x".repeat(1 << 20))),
        ("tags", "!!a ".repeat(60_000)),
        ("documents", "---\n".repeat(60_000)),
    ];
    for (name, text) in bombs {
        let told = said(&text);
        assert!(!told.is_empty(), "{name} was taken");
        assert!(told.len() < 2_000, "{name}: {told}");
        // Whatever else the machine does, a bomb is slow each time.
        let took = (0..TRIES).map(|_| time_of(&text)).min().unwrap_or_default();
        assert!(took < REFUSED_WITHIN, "{name} took {took:?}");
    }
}
