//! The weblog example over its own log: every number against a count of the same lines, and pictures.
//!
//! The log is read here with a few lines of its own, never with our importer. The pictures stay in
//! the target folder's `tmp` to be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Datelike, Timelike, Utc};
use serin_dashboards::draw::{self, Size, ThemeName};
use serin_dashboards::evaluate::{self, Asked};
use serin_dashboards::load::Loader;
use serin_dashboards::{Data, Library, PanelData, PanelState};
use serin_lake::{Column, ColumnKind, Known, Position, Snapshot, TableView};
use serin_query::{Engine, Limits, Range};

struct Hit {
    time_us: i64,
    client: String,
    path: String,
    status: i64,
    bytes: Option<i64>,
    referrer: Option<String>,
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/weblog")
}

fn hits() -> Vec<Hit> {
    let packed = fs::read(example().join("access.log.gz")).expect("the log");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .expect("UTF-8 in gzip");
    text.lines().map(hit).collect()
}

fn hit(line: &str) -> Hit {
    let (who, rest) = line.split_once(" [").expect("a time");
    let (time, rest) = rest.split_once("] \"").expect("a request");
    let (request, rest) = rest.split_once("\" ").expect("a status");
    let mut numbers = rest.split(' ');
    let time = DateTime::parse_from_str(time, "%d/%b/%Y:%H:%M:%S %z").expect("a time");
    let (_, quoted) = rest.split_once('"').expect("a referrer");
    // One line of the log ends inside the referrer's neighbour, so that a closing quote may lack.
    let referrer = quoted.split('"').next().unwrap_or(quoted);
    Hit {
        time_us: time.timestamp_micros(),
        client: who.split(' ').next().expect("a client").to_owned(),
        path: request.split(' ').nth(1).expect("a path").to_owned(),
        status: numbers.next().expect("a status").parse().expect("a number"),
        bytes: numbers.next().expect("bytes").parse().ok(),
        referrer: Some(referrer.to_owned()).filter(|referrer| referrer != "-"),
    }
}

fn snapshot(hits: &[Hit]) -> Arc<Snapshot> {
    let text = |of: &dyn Fn(&Hit) -> Option<String>| -> ArrayRef {
        Arc::new(hits.iter().map(of).collect::<StringArray>())
    };
    let int = |of: &dyn Fn(&Hit) -> Option<i64>| -> ArrayRef {
        Arc::new(hits.iter().map(of).collect::<Int64Array>())
    };
    let times: TimestampMicrosecondArray = hits.iter().map(|hit| Some(hit.time_us)).collect();
    let columns: Vec<(&str, ColumnKind, ArrayRef)> = vec![
        (
            "time",
            ColumnKind::Time,
            Arc::new(times.with_timezone("UTC")),
        ),
        (
            "client",
            ColumnKind::Text,
            text(&|hit| Some(hit.client.clone())),
        ),
        (
            "method",
            ColumnKind::Text,
            text(&|_| Some(String::from("GET"))),
        ),
        (
            "path",
            ColumnKind::Text,
            text(&|hit| Some(hit.path.clone())),
        ),
        ("status", ColumnKind::Int, int(&|hit| Some(hit.status))),
        ("bytes", ColumnKind::Int, int(&|hit| hit.bytes)),
        (
            "referrer",
            ColumnKind::Text,
            text(&|hit| hit.referrer.clone()),
        ),
    ];
    let arrays = columns
        .iter()
        .map(|(name, _, array)| (*name, Arc::clone(array)));
    let fresh = vec![
        RecordBatch::try_from_iter_with_nullable(arrays.map(|(n, a)| (n, a, true)))
            .expect("a batch"),
    ];
    let first = hits.iter().map(|hit| hit.time_us).min();
    let last = hits.iter().map(|hit| hit.time_us).max();
    let columns = columns.iter().map(|(name, kind, _)| Column {
        name: (*name).to_owned(),
        kind: *kind,
    });
    let name = String::from("http.request");
    let view = TableView {
        name: name.clone(),
        columns: columns.collect(),
        files: Vec::new(),
        fresh,
        known: Known {
            live_from_us: None,
            imports: first.zip(last).into_iter().collect(),
        },
    };
    Arc::new(Snapshot {
        number: 1,
        version: 1,
        position: Position::default(),
        watermark_us: None,
        tables: BTreeMap::from([(name, Arc::new(view))]),
    })
}

async fn weblog(snapshot: &Arc<Snapshot>) -> (Arc<Library>, BTreeMap<String, PanelData>) {
    let library = Loader::new(example()).load();
    assert_eq!(library.problems, []);
    let spill = tempfile::tempdir().expect("a folder");
    let engine = Engine::new(
        Limits::default(),
        spill.path().to_owned(),
        None,
        Arc::default(),
    );
    let dashboard = Arc::clone(&library.dashboards["weblog"]);
    let (from_us, to_us) = dashboard.range_us(0);
    let asked = Asked {
        range: Range { from_us, to_us },
        width_px: 1_200,
    };
    let panels = evaluate::dashboard(&engine, snapshot, &library, &dashboard, asked).await;
    (
        library,
        panels
            .into_iter()
            .map(|panel| (panel.panel.clone(), panel))
            .collect(),
    )
}

fn stat(panel: &PanelData) -> f64 {
    match &panel.data {
        Some(Data::Stat {
            value: Some(value), ..
        }) => *value,
        other => panic!("{}: {other:?} {:?}", panel.panel, panel.error),
    }
}

fn series(panel: &PanelData) -> BTreeMap<String, BTreeMap<String, f64>> {
    let Some(Data::Series { series, .. }) = &panel.data else {
        panic!("{}: {:?} {:?}", panel.panel, panel.data, panel.error);
    };
    let points = |points: &Vec<(String, Option<f64>)>| {
        points
            .iter()
            .filter_map(|(time, value)| Some((time.clone(), (*value)?)))
            .collect()
    };
    series
        .iter()
        .map(|series| (series.name.clone(), points(&series.points)))
        .collect()
}

fn start_of(hit: &Hit, step_us: i64) -> String {
    let time =
        DateTime::<Utc>::from_timestamp_micros(hit.time_us - hit.time_us.rem_euclid(step_us));
    time.expect("in range")
        .to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

fn counted<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, f64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_insert(0.0) += 1.0;
    }
    counts
}

const MINUTE_US: i64 = 60_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_number_is_right() {
    let hits = hits();
    let (library, panels) = weblog(&snapshot(&hits)).await;
    for panel in panels.values() {
        assert_eq!(
            panel.state,
            PanelState::Ok,
            "{}: {:?}",
            panel.panel,
            panel.error
        );
    }
    assert_eq!(stat(&panels["total"]), hits.len() as f64);
    let bytes: i64 = hits.iter().filter_map(|hit| hit.bytes).sum();
    assert_eq!(stat(&panels["bytes_total"]), bytes as f64);
    let failed = hits.iter().filter(|hit| hit.status >= 400).count() as f64;
    assert!((stat(&panels["errors_total"]) - failed / hits.len() as f64).abs() < 1e-12);
    let people = hits
        .iter()
        .map(|hit| &hit.client)
        .collect::<BTreeSet<_>>()
        .len() as f64;
    assert!((stat(&panels["people"]) / people - 1.0).abs() < 0.03);

    let minutes = counted(hits.iter().map(|hit| start_of(hit, MINUTE_US)));
    let mut shown = series(&panels["per_minute"])
        .remove("Requests")
        .expect("one line");
    shown.retain(|_, value| *value != 0.0);
    assert_eq!(shown, minutes);

    let statuses = series(&panels["statuses"]);
    for status in hits.iter().map(|hit| hit.status).collect::<BTreeSet<_>>() {
        let of_status = hits.iter().filter(|hit| hit.status == status);
        let hours = counted(of_status.map(|hit| start_of(hit, 60 * MINUTE_US)));
        let mut shown = statuses[&status.to_string()].clone();
        shown.retain(|_, value| *value != 0.0);
        assert_eq!(shown, hours, "status {status}");
    }

    let Some(Data::Heatmap { cells, .. }) = &panels["rhythm"].data else {
        panic!("no heat map");
    };
    let times = hits
        .iter()
        .filter_map(|hit| DateTime::<Utc>::from_timestamp_micros(hit.time_us));
    let rhythm = counted(times.map(|time| (time.weekday().num_days_from_monday(), time.hour())));
    for (day, row) in cells.iter().enumerate() {
        for (hour, cell) in row.iter().enumerate() {
            let wanted = rhythm.get(&(day as u32, hour as u32)).copied();
            assert_eq!(
                cell.unwrap_or(0.0),
                wanted.unwrap_or(0.0),
                "day {day} hour {hour}"
            );
        }
    }

    let Some(Data::Table { rows, .. }) = &panels["pages"].data else {
        panic!("no table");
    };
    let pages = counted(hits.iter().map(|hit| hit.path.as_str()));
    assert_eq!(rows.len(), 10);
    for row in rows {
        assert_eq!(
            row[1].as_f64(),
            row[0].as_str().and_then(|page| pages.get(page).copied())
        );
    }
    let tenth = rows[9][1].as_f64().expect("a number");
    assert!(pages.values().filter(|count| **count > tenth).count() < 10);

    let Some(Data::Bars { bars }) = &panels["referrers"].data else {
        panic!("no bars");
    };
    let mut referrers: Vec<(&str, f64)> =
        counted(hits.iter().filter_map(|hit| hit.referrer.as_deref()))
            .into_iter()
            .collect();
    referrers.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let shown: Vec<(&str, f64)> = bars
        .iter()
        .map(|bar| (bar.label.as_str(), bar.value.unwrap_or(-1.0)))
        .collect();
    assert_eq!(shown, referrers[..10]);
    assert!(
        library
            .rules
            .rules
            .iter()
            .any(|rule| rule.kpi == "error_share")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_drawn_full_and_empty_in_both_themes() {
    let full = weblog(&snapshot(&hits())).await;
    let empty = weblog(&snapshot(&[])).await;
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, (library, panels)) in [("full", full), ("empty", empty)] {
        let dashboard = &library.dashboards["weblog"];
        let panels: Vec<PanelData> = panels.into_values().collect();
        for (theme_name, theme) in [("light", ThemeName::Light), ("dark", ThemeName::Dark)] {
            let png = draw::dashboard_png(dashboard, &panels, 1_200, theme).expect("a picture");
            assert!(png.starts_with(b"\x89PNG"));
            fs::write(out.join(format!("weblog-{name}-{theme_name}.png")), png).expect("written");
        }
        let svg =
            draw::dashboard_svg(dashboard, &panels, 1_200, ThemeName::Light).expect("a picture");
        assert!(svg.starts_with("<svg width=\"1200\""), "{}", &svg[..200]);
        fs::write(out.join(format!("weblog-{name}.svg")), svg).expect("written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_is_never_markup() {
    let mut hits = hits();
    hits.truncate(50);
    for hit in &mut hits {
        hit.referrer = Some(String::from("</text><script>alert(1)</script>&\u{0}\u{8}"));
        hit.path = String::from("<img src=x onerror=alert(1)>");
    }
    let (_, panels) = weblog(&snapshot(&hits)).await;
    let size = Size {
        width: 600,
        height: 300,
    };
    for name in ["referrers", "pages"] {
        let svg = draw::panel_svg(&panels[name], size, ThemeName::Dark).expect("a picture");
        assert!(!svg.contains("<script") && !svg.contains("<img"), "{svg}");
        assert!(!svg.contains(['\u{0}', '\u{8}']));
        assert!(svg.contains("&lt;"));
    }
}
