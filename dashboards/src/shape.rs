//! From answers of the query engine to what a panel shows. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Value, json};
use serin_query::calendar::rfc3339;
use serin_query::kpi::{KpiAnswer, KpiPlan, Series};
use serin_query::{Range, SqlAnswer, render};
use std::sync::Arc;

use crate::model::{Draw, Panel};
use crate::panel_data::{
    Axis, BarItem, Data, NO_VALUE, NamedSeries, PanelData, PanelState, Point, TableColumn,
    place_looks,
};
use serin_yaml::{parse_time, span_text};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// A panel before anything was asked.
pub(crate) fn nothing(panel: &Panel, range: Range) -> PanelData {
    PanelData {
        panel: panel.name.clone(),
        title: panel.title.clone(),
        description: panel.description.clone(),
        draw: panel.draw,
        unit: panel.unit.clone(),
        better: None,
        state: PanelState::Empty,
        error: None,
        data: None,
        thresholds: panel.thresholds.clone(),
        marks: Vec::new(),
        series_dropped: 0,
        truncated: false,
        approximate: false,
        range: (rfc3339(range.from_us), rfc3339(range.to_us)),
        watermark: None,
        served_from: "raw",
    }
}

pub(crate) fn points(points: &[(i64, Option<f64>)]) -> Vec<Point> {
    points
        .iter()
        .map(|(time, value)| (rfc3339(*time), *value))
        .collect()
}

fn shown(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| NO_VALUE.to_owned())
}

fn kpi_title(plan: &KpiPlan) -> String {
    plan.definition()
        .title
        .clone()
        .unwrap_or_else(|| plan.name().to_owned())
}

/// What a series is called: its dimensions' values, with the KPI in front where there are several.
fn label(plan: &KpiPlan, series: &Series, is_alone: bool) -> String {
    let values: Vec<String> = series.by.iter().map(|(_, value)| shown(value)).collect();
    match (values.is_empty(), is_alone) {
        (true, _) => kpi_title(plan),
        (false, true) => values.join(" · "),
        (false, false) => format!("{} · {}", kpi_title(plan), values.join(" · ")),
    }
}

/// Lines over time; with a shift they are what others are compared with.
pub(crate) fn series(
    plan: &KpiPlan,
    answer: &KpiAnswer,
    is_alone: bool,
    shift_us: Option<i64>,
) -> Vec<NamedSeries> {
    let of_one = |series: &Series| {
        let name = label(plan, series, is_alone);
        NamedSeries {
            name: match shift_us {
                Some(shift_us) => format!("{name}, {} before", span_text(shift_us)),
                None => name,
            },
            by: series.by.iter().cloned().collect(),
            dashed: shift_us.is_some(),
            look: 0,
            points: points(&series.points),
        }
    };
    answer.series.iter().map(of_one).collect()
}

/// The value of an answer without dimensions and steps.
pub(crate) fn only_value(answer: &KpiAnswer) -> Option<f64> {
    answer.series.first().and_then(value_of)
}

fn value_of(series: &Series) -> Option<f64> {
    series.points.first().and_then(|(_, value)| *value)
}

pub(crate) fn has_no_value(answer: &KpiAnswer) -> bool {
    answer
        .series
        .iter()
        .all(|series| value_of(series).is_none())
}

pub(crate) fn bars(plan: &KpiPlan, answer: &KpiAnswer, is_alone: bool) -> Vec<BarItem> {
    let bar = |series: &Series| BarItem {
        label: label(plan, series, is_alone),
        value: value_of(series),
    };
    answer.series.iter().map(bar).collect()
}

/// One row per group of the first KPI; the others are looked up by group.
pub(crate) fn table(
    by: &[String],
    plans: &[&Arc<KpiPlan>],
    answers: &[KpiAnswer],
) -> (Vec<TableColumn>, Vec<Vec<Value>>) {
    let text = |name: &String| TableColumn {
        name: name.clone(),
        kind: "text".to_owned(),
        unit: None,
    };
    let number = |plan: &&Arc<KpiPlan>| TableColumn {
        name: kpi_title(plan),
        kind: "double".to_owned(),
        unit: plan.unit().map(str::to_owned),
    };
    // A funnel's groups have its step beside what was asked for.
    let first_of = |answer: &KpiAnswer| Some(answer.series.first()?.by.clone());
    let named = answers.first().and_then(first_of);
    let names: Vec<String> = match named {
        Some(named) => named.into_iter().map(|(name, _)| name).collect(),
        None => by.to_vec(),
    };
    let columns = names
        .iter()
        .map(text)
        .chain(plans.iter().map(number))
        .collect();
    let by_group: Vec<BTreeMap<_, Option<f64>>> = answers
        .iter()
        .map(|answer| {
            answer
                .series
                .iter()
                .map(|series| (series.by.clone(), value_of(series)))
                .collect()
        })
        .collect();
    let Some(first) = answers.first() else {
        return (columns, Vec::new());
    };
    let rows = first.series.iter().map(|series| {
        let names = series.by.iter().map(|(_, value)| json!(value));
        let values = by_group
            .iter()
            .map(|values| json!(values.get(&series.by).copied().flatten()));
        names.chain(values).collect()
    });
    (columns, rows.collect())
}

/// Cells by two dimensions. Hours and days are there in full and in order, even where nothing was.
pub(crate) fn heatmap(x: &str, y: &str, answer: &KpiAnswer) -> Data {
    let mut values: BTreeMap<(String, String), Option<f64>> = BTreeMap::new();
    for series in &answer.series {
        if let [(_, across), (_, upward)] = &series.by[..] {
            values.insert((shown(across), shown(upward)), value_of(series));
        }
    }
    cells(x, y, values)
}

fn cells(x: &str, y: &str, values: BTreeMap<(String, String), Option<f64>>) -> Data {
    let across = places(x, values.keys().map(|(across, _)| across));
    let upward = places(y, values.keys().map(|(_, upward)| upward));
    let cells = upward
        .iter()
        .map(|row| {
            let cell = |column: &String| {
                values
                    .get(&(column.clone(), row.clone()))
                    .copied()
                    .flatten()
            };
            across.iter().map(cell).collect()
        })
        .collect();
    Data::Heatmap {
        x: axis(x, across),
        y: axis(y, upward),
        cells,
    }
}

/// The places of a dimension in order: all of the calendar's, else those found, numbers by size and
/// before texts.
fn places<'a>(dimension: &str, found: impl Iterator<Item = &'a String>) -> Vec<String> {
    match dimension {
        "hour_of_day" => (0..24).map(|hour| hour.to_string()).collect(),
        "day_of_week" => (1..=7).map(|day| day.to_string()).collect(),
        _ => {
            let mut places: Vec<String> = found.cloned().collect();
            places.sort_by(|a, b| match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(x), Ok(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            });
            places.dedup();
            places
        }
    }
}

fn axis(dimension: &str, places: Vec<String>) -> Axis {
    let (title, labels) = match dimension {
        "hour_of_day" => (
            "hour (UTC)",
            places.iter().map(|hour| format!("{hour:0>2}")).collect(),
        ),
        "day_of_week" => ("", DAYS.iter().map(|day| (*day).to_owned()).collect()),
        other => (other, places),
    };
    Axis {
        title: title.to_owned(),
        labels,
    }
}

/// The columns of an answer to a statement.
pub(crate) fn columns(answer: &SqlAnswer) -> Vec<TableColumn> {
    let columns = render::columns(answer).into_iter();
    columns
        .map(|(name, kind)| TableColumn {
            name,
            kind: kind.to_owned(),
            unit: None,
        })
        .collect()
}

/// What a statement's rows mean for the way the panel is drawn.
pub(crate) fn of_sql(
    panel: &Panel,
    mut columns: Vec<TableColumn>,
    rows: Vec<Vec<Value>>,
) -> Result<Data, String> {
    let find = |wanted: &Option<String>, fits: &dyn Fn(&TableColumn) -> bool, what: &str| {
        let found = match wanted {
            Some(name) => columns.iter().position(|column| column.name == *name),
            None => columns.iter().position(fits),
        };
        let known = || {
            columns
                .iter()
                .map(|column| column.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        found.ok_or_else(|| format!("the statement has no column for {what}; it has {}", known()))
    };
    let is_number = |column: &TableColumn| matches!(column.kind.as_str(), "int" | "double");
    match panel.draw {
        Draw::Table => {
            if let Some(last) = columns.iter_mut().rev().find(|column| is_number(column)) {
                last.unit = panel.unit.clone();
            }
            for column in &mut columns {
                if let Some(unit) = panel.units.get(&column.name) {
                    column.unit = Some(unit.clone());
                }
            }
            Ok(Data::Table { columns, rows })
        }
        Draw::Stat => {
            let y = find(&panel.y, &is_number, "the value")?;
            let value = rows.first().and_then(|row| row[y].as_f64());
            Ok(Data::Stat {
                value,
                compare: None,
                spark: Vec::new(),
            })
        }
        Draw::Bar if columns.iter().all(|column| column.kind != "time") => {
            let x = find(&panel.x, &|column| !is_number(column), "the label (x)").or_else(|e| {
                if panel.x.is_none() && columns.len() > 1 {
                    Ok(0)
                } else {
                    Err(e)
                }
            })?;
            let y = find(
                &panel.y,
                &|column| is_number(column) && column.name != columns[x].name,
                "the value (y)",
            )?;
            let bar = |row: &Vec<Value>| BarItem {
                label: plain(&row[x]),
                value: row[y].as_f64(),
            };
            Ok(Data::Bars {
                bars: rows.iter().take(panel.top).map(bar).collect(),
            })
        }
        Draw::Line | Draw::Bar => {
            let x = find(&panel.x, &|column| column.kind == "time", "the time (x)")?;
            Ok(lines(panel, &columns, &rows, x))
        }
        Draw::Heatmap => {
            let x = find(&panel.x, &|_| false, "x")?;
            let y = find(&panel.y, &|_| false, "y")?;
            let other = |column: &TableColumn| {
                is_number(column)
                    && column.name != columns[x].name
                    && column.name != columns[y].name
            };
            let value = find(&None, &other, "the value")?;
            let values = rows
                .iter()
                .map(|row| ((plain(&row[x]), plain(&row[y])), row[value].as_f64()));
            Ok(cells(&columns[x].name, &columns[y].name, values.collect()))
        }
    }
}

/// Series of a statement: one per number column, split by the columns of text and of yes or no.
fn lines(panel: &Panel, columns: &[TableColumn], rows: &[Vec<Value>], x: usize) -> Data {
    let of_kind = |wanted: &[&str]| -> Vec<usize> {
        let fits = |index: &usize| *index != x && wanted.contains(&columns[*index].kind.as_str());
        (0..columns.len()).filter(fits).collect()
    };
    let (groups, numbers) = (of_kind(&["text", "bool"]), of_kind(&["int", "double"]));
    let mut found: Vec<NamedSeries> = Vec::new();
    for row in rows {
        let by: BTreeMap<String, Option<String>> = groups
            .iter()
            .map(|&index| {
                let value = Some(&row[index]).filter(|value| !value.is_null());
                (columns[index].name.clone(), value.map(plain))
            })
            .collect();
        for &number in &numbers {
            let mut words: Vec<String> = by.values().map(shown).collect();
            if numbers.len() > 1 || words.is_empty() {
                words.insert(0, columns[number].name.clone());
            }
            let name = words.join(" · ");
            let point = (plain(&row[x]), row[number].as_f64());
            let has_room = found.len() < panel.top;
            match found.iter_mut().find(|series| series.name == name) {
                Some(series) => series.points.push(point),
                None if has_room => {
                    found.push(NamedSeries {
                        name,
                        by: by.clone(),
                        dashed: false,
                        look: 0,
                        points: vec![point],
                    });
                }
                None => {}
            }
        }
    }
    for series in &mut found {
        // As texts "00.5Z" would stand before "00Z".
        let moment = |(time, _): &Point| (parse_time(time), time.clone());
        series.points.sort_by_cached_key(moment);
    }
    place_looks(&mut found);
    let step_s = found.first().and_then(|series| {
        let first = parse_time(&series.points.first()?.0)?;
        let second = parse_time(&series.points.get(1)?.0)?;
        Some((second - first) as f64 / 1e6)
    });
    Data::Series {
        step_s: step_s.unwrap_or(60.0),
        stacked: panel.is_stacked,
        series: found,
    }
}

/// A cell as plain text.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Null => NO_VALUE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Source;

    #[test]
    fn places_of_numbers_and_texts_stand_once_and_in_order() {
        let found = ["10", "1a", "9", "10", "1a", "9"].map(str::to_owned);
        assert_eq!(places("size", found.iter()), ["9", "10", "1a"]);
    }

    fn panel() -> Panel {
        Panel {
            name: String::from("it"),
            title: String::from("It"),
            description: None,
            draw: Draw::Line,
            source: Source::Sql(String::new()),
            by: Vec::new(),
            filters: Vec::new(),
            top: 10,
            is_stacked: false,
            compare_us: None,
            thresholds: Vec::new(),
            unit: None,
            units: BTreeMap::new(),
            x: None,
            y: None,
            step_us: None,
            marks_of: Default::default(),
            is_built_in: false,
            place: Default::default(),
        }
    }

    /// The series of a statement with such columns and rows: names, times and values.
    fn drawn(columns: &[(&str, &str)], rows: &[Value]) -> Vec<(String, Vec<Point>)> {
        let column = |(name, kind): &(&str, &str)| TableColumn {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            unit: None,
        };
        let columns = columns.iter().map(column).collect();
        let rows = rows
            .iter()
            .map(|row| row.as_array().expect("a row").clone());
        match of_sql(&panel(), columns, rows.collect()) {
            Ok(Data::Series { series, .. }) => {
                let series = series.into_iter();
                series.map(|series| (series.name, series.points)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn yes_and_no_are_two_series_and_nothing_is_a_third() {
        let columns = [("t", "time"), ("ok", "bool"), ("n", "int")];
        let time = "2026-01-01T00:00:00Z";
        let rows = [
            json!([time, true, 3]),
            json!([time, false, 1]),
            json!([time, null, 2]),
        ];
        let point = |value| vec![(time.to_owned(), Some(value))];
        let wanted = [("true", 3.0), ("false", 1.0), (NO_VALUE, 2.0)]
            .map(|(name, value)| (name.to_owned(), point(value)));
        assert_eq!(drawn(&columns, &rows), wanted);
    }

    #[test]
    fn parts_of_a_second_stand_after_the_second() {
        let times = [
            "2026-01-01T00:00:01Z",
            "2026-01-01T00:00:00.500Z",
            "2026-01-01T00:00:00Z",
        ];
        let rows = times.map(|time| json!([time, 1]));
        let series = drawn(&[("t", "time"), ("n", "int")], &rows);
        let shown: Vec<&str> = series[0].1.iter().map(|(time, _)| time.as_str()).collect();
        assert_eq!(shown, [times[2], times[1], times[0]]);
    }
}
