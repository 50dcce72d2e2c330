//! KPIs and a dashboard for data nobody has described yet, from what an import saw of them.
//!
//! A count of each type, sums and high percentiles of its numbers, splits by its few-valued texts;
//! for an access log what people ask of one. Pure but for [`place`] and [`Proposal::write`], which
//! never overwrite a file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

use crate::import::profile::{Profile, Seen};
use crate::schemas;

/// Types, numbers and dimensions that are proposed; a page with more is no overview.
const TYPES_MAX: usize = 4;
const NUMBERS_MAX: usize = 4;
const DIMENSIONS_MAX: usize = 4;

/// The first line of a file that was proposed; without it, a file is the user's own.
const NOTE: &str = "# Proposed by `serin open`; yours to change.\n";

/// The dashboard that a file has, and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) dashboard: String,
    pub(crate) said: String,
}

/// Gives a file its dashboard: the one that is there for events like its own, else a new one under
/// a name that is free. A dashboard of the user's own under the file's name is left as it is.
pub(crate) fn place(dir: &Path, file: &str, profile: &Profile, taken: &[String]) -> Result<Placed> {
    let first = kind_of_name(file);
    let mut dashboard = first.clone();
    for number in 2.. {
        let path = dir.join("dashboards").join(format!("{dashboard}.yaml"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => break,
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        if !text.contains(NOTE) {
            let said = format!(
                "dashboards/{dashboard}.yaml is your own and is shown as it is; none was proposed"
            );
            return Ok(Placed { dashboard, said });
        }
        if text.contains(&shows(profile)) {
            let said = format!("dashboards/{dashboard}.yaml was proposed before and is kept");
            return Ok(Placed { dashboard, said });
        }
        dashboard = format!("{first}_{number}");
    }
    propose(&dashboard, profile, taken).write(dir)?;
    let mut said = format!("proposed are kpis/{dashboard}.yaml and dashboards/{dashboard}.yaml");
    if dashboard != first {
        write!(said, "; dashboards/{first}.yaml shows other events").expect(NEVER_FAILS);
    }
    Ok(Placed { dashboard, said })
}

/// A line that says which events a dashboard is for: their types and columns.
fn shows(profile: &Profile) -> String {
    let types = profile.types.iter().take(TYPES_MAX);
    let types = types.map(|(kind, seen)| {
        let columns: Vec<_> = seen.columns.iter().map(|column| &*column.name).collect();
        format!("{kind} ({})", columns.join(", "))
    });
    format!("# Of {}\n", quoted(&types.collect::<Vec<_>>().join("; ")))
}

/// YAML for a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Proposal {
    /// The dashboard's name.
    dashboard: String,
    kpis_yaml: String,
    dashboard_yaml: String,
}

impl Proposal {
    /// Writes `kpis/NAME.yaml` and `dashboards/NAME.yaml` where they are not there yet.
    fn write(&self, dir: &Path) -> Result<()> {
        let files = [
            ("kpis", "kpis", &self.kpis_yaml),
            ("dashboards", "dashboard", &self.dashboard_yaml),
        ];
        for (folder, schema, text) in files {
            let folder = dir.join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
            let path = folder.join(format!("{}.yaml", self.dashboard));
            match File::create_new(&path) {
                Ok(mut file) => file
                    .write_all(format!("{}{text}", schemas::line(schema, 1)).as_bytes())
                    .with_context(|| format!("cannot write {}", path.display()))?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot write {}", path.display()));
                }
            }
        }
        Ok(())
    }
}

/// `Orders 2024.csv.gz` → `orders_2024`: an event type, a file name and the start of KPI names.
pub(crate) fn kind_of_name(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let stem = name
        .split('.')
        .find(|part| !part.is_empty())
        .unwrap_or("data");
    let mut kind: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .take(40)
        .collect();
    if !kind.starts_with(|c: char| c.is_ascii_lowercase()) {
        kind.insert_str(0, "f_");
    }
    if serin_wire::name::check_type(&kind).is_err() {
        kind.push_str("_rows");
    }
    kind
}

/// `taken` are names of KPIs that are defined already; none of them is proposed.
fn propose(dashboard: &str, profile: &Profile, taken: &[String]) -> Proposal {
    let mut page = Page::new(dashboard, taken);
    for (kind, seen) in profile.types.iter().take(TYPES_MAX) {
        let is_access_log = ["client", "path", "status", "bytes"]
            .iter()
            .all(|name| seen.columns.iter().any(|column| column.name == *name));
        match is_access_log {
            true => page.access_log(kind),
            false => page.any(kind, seen, profile.types.len() > 1),
        }
    }
    page.finish(profile.times_us, &shows(profile))
}

/// What is written so far.
struct Page {
    name: String,
    prefix: String,
    kpis: String,
    panels: String,
    rows: Vec<Vec<String>>,
}

impl Page {
    fn new(name: &str, taken: &[String]) -> Page {
        let mut prefix = name.to_owned();
        while taken
            .iter()
            .any(|kpi| kpi.starts_with(&format!("{prefix}_")))
        {
            prefix.push_str("_x");
        }
        Page {
            name: name.to_owned(),
            prefix,
            kpis: String::new(),
            panels: String::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a KPI; its whole name.
    fn kpi(&mut self, name: &str, body: &str) -> String {
        let name = format!("{}_{name}", self.prefix);
        line(&mut self.kpis, format_args!("  {name}: {{{body}}}"));
        name
    }

    fn panel(&mut self, name: &str, body: &str) -> String {
        line(&mut self.panels, format_args!("  {name}: {{{body}}}"));
        name.to_owned()
    }

    fn access_log(&mut self, kind: &str) {
        let event = quoted(kind);
        let of = |measure: &str| format!("event: {event}, measure: {measure}");
        let requests = self.kpi(
            "requests",
            &format!("title: Requests, unit: count, {}", of("count()")),
        );
        let failed = self.kpi(
            "failed",
            &format!(
                "title: Failed requests, unit: count, better: lower, {}, where: status >= 400",
                of("count()")
            ),
        );
        let errors = self.kpi(
            "error_share",
            &format!("title: Share of errors, unit: ratio, better: lower, ratio: {{numerator: {failed}, denominator: {requests}}}"),
        );
        let bytes = self.kpi(
            "bytes",
            &format!("title: Bytes served, unit: bytes, {}", of("sum(bytes)")),
        );
        let visitors = self.kpi(
            "visitors",
            &format!(
                "title: Unique visitors, unit: count, {}",
                of("distinct(client)")
            ),
        );
        let stats = [
            ("total", &requests),
            ("people", &visitors),
            ("served", &bytes),
            ("errors", &errors),
        ];
        let stats = stats.map(|(name, kpi)| self.panel(name, &format!("kpi: {kpi}, draw: stat")));
        self.rows.push(stats.to_vec());
        for (name, body) in [
            ("requests", format!("kpi: {requests}, draw: line")),
            (
                "statuses",
                format!(
                    "title: Requests by status, kpi: {requests}, by: status, draw: bar, stack: true"
                ),
            ),
            ("error_share", format!("kpi: {errors}, draw: line")),
            (
                "rhythm",
                format!(
                    "title: By hour and weekday, kpi: {requests}, draw: heatmap, x: hour_of_day, y: day_of_week"
                ),
            ),
            (
                "pages",
                format!(
                    "title: Top pages, kpis: [{requests}, {bytes}], by: path, draw: table, top: 10"
                ),
            ),
        ] {
            let panel = self.panel(name, &body);
            self.rows.push(vec![panel]);
        }
    }

    fn any(&mut self, kind: &str, seen: &Seen, is_one_of_many: bool) {
        let event = quoted(kind);
        let own = match is_one_of_many {
            true => format!("{}_", identifier(kind)),
            false => String::new(),
        };
        let title = |what: &str| {
            quoted(&match is_one_of_many {
                true => format!("{kind}: {what}"),
                false => what.to_owned(),
            })
        };
        let count = self.kpi(
            &format!("{own}count"),
            &format!(
                "title: {}, unit: count, event: {event}, measure: count()",
                title("Events")
            ),
        );
        let total = self.panel(&format!("{own}total"), &format!("kpi: {count}, draw: stat"));
        let over_time = self.panel(
            &format!("{own}over_time"),
            &format!("kpi: {count}, draw: line"),
        );
        self.rows.push(vec![total, over_time]);
        let mut numbers = Vec::new();
        for column in seen
            .columns
            .iter()
            .filter(|c| c.is_number() && is_plain(&c.name))
            .take(NUMBERS_MAX)
        {
            let (name, id) = (&column.name, identifier(&column.name));
            let body = format!(
                "title: {}, event: {event}, measure: sum({name})",
                title(&format!("Sum of {name}"))
            );
            let sum = self.kpi(&format!("{own}sum_{id}"), &body);
            let body = format!(
                "title: {}, event: {event}, measure: p95({name})",
                title(&format!("95th percentile of {name}"))
            );
            let p95 = self.kpi(&format!("{own}p95_{id}"), &body);
            numbers.push(self.panel(
                &format!("{own}sum_{id}"),
                &format!("kpi: {sum}, draw: line"),
            ));
            numbers.push(self.panel(
                &format!("{own}p95_{id}"),
                &format!("kpi: {p95}, draw: line"),
            ));
        }
        self.rows.extend(numbers.chunks(2).map(<[String]>::to_vec));
        let mut splits = Vec::new();
        for column in seen
            .columns
            .iter()
            .filter(|c| c.is_dimension() && is_plain(&c.name))
            .take(DIMENSIONS_MAX)
        {
            let (name, id) = (&column.name, identifier(&column.name));
            let body = format!(
                "title: {}, kpi: {count}, by: {name}, draw: bar, top: 10",
                title(&format!("By {name}"))
            );
            splits.push(self.panel(&format!("{own}by_{id}"), &body));
        }
        self.rows.extend(splits.chunks(2).map(<[String]>::to_vec));
    }

    fn finish(self, times_us: Option<(i64, i64)>, shows: &str) -> Proposal {
        let from =
            |time_us: i64| serin_wire::time::to_rfc3339(time_us - time_us.rem_euclid(60_000_000));
        let range = match times_us {
            Some((first, last)) => {
                format!("{{from: {}, to: {}}}", from(first), from(last + 60_000_000))
            }
            None => String::from("24h"),
        };
        let mut layout = String::new();
        for row in &self.rows {
            let places: Vec<String> = row.iter().map(|panel| format!("{panel}: 1")).collect();
            line(&mut layout, format_args!("  - {{{}}}", places.join(", ")));
        }
        Proposal {
            kpis_yaml: format!("{NOTE}kpis:\n{}", self.kpis),
            dashboard_yaml: format!(
                "{NOTE}{shows}dashboard: {}\ntitle: {}\nrange: {range}\nrefresh: 5s\npanels:\n{}layout:\n{layout}",
                self.name,
                quoted(&self.name.replace('_', " ")),
                self.panels
            ),
            dashboard: self.name,
        }
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect(NEVER_FAILS);
}

const NEVER_FAILS: &str = "writing to a String never fails";

/// Whether a column can be named in a measure as it is.
fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn identifier(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect()
}

/// A text as YAML takes it for a text, whatever it holds: JSON's quotes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use expect_test::expect;

    use super::*;
    use crate::import::profile::Profile;
    use crate::import::records::{Cell, Data, Head, Record};

    fn profile(kind: &str, rows: &[&[(&'static str, Cell<'static>)]]) -> Profile {
        let mut profile = Profile::default();
        for (index, row) in rows.iter().enumerate() {
            let cells = row
                .iter()
                .map(|(name, cell)| (Cow::Borrowed(*name), cell.clone()));
            let record = Record {
                kind: None,
                head: Head::default(),
                time_us: Some(1_431_820_800_000_000 + index as i64),
                data: Data::Cells(cells.collect()),
            };
            profile.add(kind, &record);
        }
        profile
    }

    #[test]
    fn names_become_types() {
        assert_eq!(kind_of_name("/x/Orders 2024.csv.gz"), "orders_2024");
        assert_eq!(kind_of_name("2024.csv"), "f_2024");
        assert_eq!(kind_of_name("logs.csv"), "logs_rows");
        assert_eq!(kind_of_name(""), "data");
    }

    #[test]
    fn numbers_are_summed_and_few_texts_split() {
        let text = |text: &'static str| Cell::Text(Cow::Borrowed(text));
        let seen = profile(
            "order.paid",
            &[
                &[("amount", Cell::Double(1.5)), ("country", text("de"))],
                &[("amount", Cell::Int(2)), ("country", text("fr"))],
            ],
        );
        let proposal = propose("orders", &seen, &[]);
        expect![[r#"
            # Proposed by `serin open`; yours to change.
            kpis:
              orders_count: {title: "Events", unit: count, event: "order.paid", measure: count()}
              orders_sum_amount: {title: "Sum of amount", event: "order.paid", measure: sum(amount)}
              orders_p95_amount: {title: "95th percentile of amount", event: "order.paid", measure: p95(amount)}
        "#]]
        .assert_eq(&proposal.kpis_yaml);
        expect![[r#"
            # Proposed by `serin open`; yours to change.
            # Of "order.paid (amount, country)"
            dashboard: orders
            title: "orders"
            range: {from: 2015-05-17T00:00:00Z, to: 2015-05-17T00:01:00Z}
            refresh: 5s
            panels:
              total: {kpi: orders_count, draw: stat}
              over_time: {kpi: orders_count, draw: line}
              sum_amount: {kpi: orders_sum_amount, draw: line}
              p95_amount: {kpi: orders_p95_amount, draw: line}
              by_country: {title: "By country", kpi: orders_count, by: country, draw: bar, top: 10}
            layout:
              - {total: 1, over_time: 1}
              - {sum_amount: 1, p95_amount: 1}
              - {by_country: 1}
        "#]]
        .assert_eq(&proposal.dashboard_yaml);
    }

    #[test]
    fn columns_are_named_as_they_are_stored() {
        let seen = profile(
            "a.b",
            &[&[("version", Cell::Int(1))], &[("version", Cell::Int(2))]],
        );
        let proposal = propose("x", &seen, &[]);
        assert!(
            proposal.kpis_yaml.contains("measure: sum(data_version)"),
            "{}",
            proposal.kpis_yaml
        );
    }

    #[test]
    fn what_is_proposed_passes_the_check_and_is_never_overwritten() {
        let text = |text: &'static str| Cell::Text(Cow::Borrowed(text));
        let log = profile(
            "http.request",
            &[&[
                ("client", text("a")),
                ("path", text("/")),
                ("status", Cell::Int(200)),
                ("bytes", Cell::Int(5)),
            ]],
        );
        let folder = tempfile::tempdir().expect("a folder");
        let proposal = propose("access", &log, &[]);
        proposal.write(folder.path()).expect("written");
        let report = serin_dashboards::check(folder.path());
        assert!(!report.has_errors(), "{:?}", report.problems);
        let read = |path| std::fs::read_to_string(folder.path().join(path)).expect("there");
        assert!(read("kpis/access.yaml").starts_with(&schemas::line("kpis", 1)));
        assert!(read("dashboards/access.yaml").starts_with(&schemas::line("dashboard", 1)));
        let path = folder.path().join("kpis/access.yaml");
        std::fs::write(&path, "kpis: {}\n").expect("changed");
        proposal.write(folder.path()).expect("again");
        assert_eq!(std::fs::read_to_string(path).expect("there"), "kpis: {}\n");
    }

    #[test]
    fn a_file_of_other_events_gets_a_dashboard_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = |file: &str, profile: &Profile| {
            place(folder.path(), file, profile, &[]).expect("placed")
        };
        let orders = profile("orders", &[&[("amount", Cell::Int(1))]]);
        let others = profile("orders", &[&[("weight", Cell::Int(1))]]);
        for (seen, dashboard, said) in [
            (
                &orders,
                "orders",
                "proposed are kpis/orders.yaml and dashboards/orders.yaml",
            ),
            (&orders, "orders", "was proposed before and is kept"),
            (
                &others,
                "orders_2",
                "dashboards/orders.yaml shows other events",
            ),
            (&others, "orders_2", "was proposed before and is kept"),
            (&orders, "orders", "was proposed before and is kept"),
        ] {
            let placed = place("orders.csv", seen);
            assert_eq!(placed.dashboard, dashboard);
            assert!(placed.said.contains(said), "{}", placed.said);
        }
        let report = serin_dashboards::check(folder.path());
        assert!(!report.has_errors(), "{:?}", report.problems);
        let own = folder.path().join("dashboards/own.yaml");
        std::fs::write(&own, "dashboard: own\n").expect("written");
        let placed = place("own.csv", &orders);
        assert_eq!(placed.dashboard, "own");
        assert!(placed.said.contains("your own"), "{}", placed.said);
    }
}
