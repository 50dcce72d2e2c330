//! From a dashboard as written to one that is used: every name is looked up, every fault told.
//!
//! A panel with a fault stays in its place and shows what is wrong; the others work. Pure.

use std::collections::BTreeSet;

use serin_query::kpi::{Bound, Catalog, Rule};
use serin_yaml::{Place, Problem, Spanned, code, meant, span_text};

use crate::draw::theme::THRESHOLD_COLORS;
use crate::model::{Dashboard, Draw, MarksOf, Panel, Source, Threshold};
use crate::spec::{DefaultRange, RawDashboard, RawPanel, RawRule, RawThen};
use crate::variable::Variable;

/// Shown where a dashboard names no range: six hours.
const RANGE_US: i64 = 6 * 3_600_000_000;
/// Drawn anew where it names no pace: five seconds.
const REFRESH_US: i64 = 5_000_000;
/// Shortest pace; a snapshot is seldom newer than that.
const REFRESH_US_MIN: i64 = 1_000_000;
/// Groups shown where a panel names no number.
const TOP: u32 = 10;
/// Most groups of one panel: rows of a long table. More are for a query.
const TOP_MAX: u32 = 500;
/// Longest name of a dashboard, a panel, a KPI or a rule.
const NAME_BYTES_MAX: usize = 64;
/// Most panels of one dashboard.
const PANELS_MAX: usize = 200;

/// What is known of the KPIs while a dashboard is resolved.
pub(crate) struct Names<'a> {
    pub(crate) kpis: &'a Catalog,
    /// KPIs that are defined but do not compile; their faults are told elsewhere.
    pub(crate) broken: &'a BTreeSet<String>,
}

/// Resolves one dashboard. Faults go to `problems`.
pub(crate) fn dashboard(
    file: &str,
    raw: &RawDashboard,
    names: &Names<'_>,
    problems: &mut Vec<Problem>,
) -> Dashboard {
    let mut faults = Faults { file, problems };
    let name = raw.dashboard.value.clone();
    if let Err(why) = check_name(&name) {
        let message = format!("the dashboard {name:?}: {why}");
        faults.tell(Place::of(&raw.dashboard), code::VALUE, message);
    }
    let variables = variables(raw, &mut faults);
    if raw.panels.0.len() > PANELS_MAX {
        let message = format!(
            "{} panels are more than {PANELS_MAX}; make two dashboards",
            raw.panels.0.len()
        );
        faults.tell(Place::of(&raw.dashboard), code::VALUE, message);
    }
    let refresh_us = raw
        .refresh
        .as_ref()
        .map_or(REFRESH_US, |refresh| refresh.value.0);
    if let Some(refresh) = raw.refresh.as_ref().filter(|_| refresh_us < REFRESH_US_MIN) {
        let message =
            String::from("a dashboard is drawn anew at most once a second; write 1s or more");
        faults.tell(Place::of(refresh), code::VALUE, message);
    }
    let panels = raw.panels.0.iter().take(PANELS_MAX);
    let marks_of = marks_of(raw);
    let panels: Vec<Panel> = panels
        .map(|(name, raw)| Panel {
            marks_of: marks_of.clone(),
            ..panel(name, raw, names, &mut faults)
        })
        .collect();
    let layout = layout(raw, &panels, &mut faults);
    Dashboard {
        title: raw.title.clone().unwrap_or_else(|| name.clone()),
        name,
        description: raw.description.clone(),
        range: raw.range.unwrap_or(DefaultRange::Last(RANGE_US)),
        refresh_us: refresh_us.max(REFRESH_US_MIN),
        variables,
        panels,
        layout,
        file: Some(file.to_owned()),
    }
}

/// Whose deploys are marked: `all`, or the services named.
fn marks_of(raw: &RawDashboard) -> MarksOf {
    let named = raw.marks_of.as_ref().map(|names| names.0.as_slice());
    match named.unwrap_or_default() {
        [] => MarksOf::Shown,
        [all] if all == "all" => MarksOf::All,
        names => MarksOf::These(names.to_vec()),
    }
}

/// What readers choose: `name: {values_of: TABLE.COLUMN}`.
fn variables(raw: &RawDashboard, faults: &mut Faults<'_>) -> Vec<Variable> {
    let mut found = Vec::new();
    for (name, raw) in &raw.variables.0 {
        let label = &name.value;
        let is_word = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_word || label.starts_with("__") || label.is_empty() {
            let message =
                format!("variable {label:?} cannot stand as ${label} in SQL; use a-z, 0-9 and _");
            faults.tell(Place::of(name), code::VALUE, message);
            continue;
        }
        let values_of = &raw.values_of;
        let Some((event, column)) = values_of
            .value
            .rsplit_once('.')
            .filter(|(event, column)| !event.is_empty() && !column.is_empty())
        else {
            let message = format!(
                "variable {label:?}: values_of must be a table and a column, such as order.paid.country, not {:?}",
                values_of.value
            );
            faults.tell(Place::of(values_of), code::VALUE, message);
            continue;
        };
        found.push(Variable {
            name: label.clone(),
            title: raw.title.clone().unwrap_or_else(|| label.clone()),
            event: event.to_owned(),
            column: column.to_owned(),
            is_multi: raw.multi,
        });
    }
    found
}

struct Faults<'a> {
    file: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Faults<'_> {
    fn tell(&mut self, place: Place, code: &'static str, message: String) {
        self.problems
            .push(Problem::new(self.file, place, code, message));
    }

    fn tell_hint(&mut self, place: Place, code: &'static str, message: String, hint: String) {
        self.problems
            .push(Problem::new(self.file, place, code, message).hint(hint));
    }
}

/// Whether a name may stand in an address, in a file's name and in a list, or why not.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    match !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_fine) {
        true => Ok(()),
        false => Err("a name is 1 to 64 of a-z, A-Z, 0-9, - and _"),
    }
}

fn panel(
    name: &Spanned<String>,
    raw: &RawPanel,
    names: &Names<'_>,
    faults: &mut Faults<'_>,
) -> Panel {
    let place = Place::of(name);
    let label = &name.value;
    if let Err(why) = check_name(label) {
        faults.tell(place, code::VALUE, format!("panel {label:?}: {why}"));
    }
    let before = faults.problems.len();
    let mut source = source(label, place, raw, names, faults);
    let draw = raw.draw.as_ref().map_or(
        if matches!(source, Source::Sql(_)) {
            Draw::Table
        } else {
            Draw::Line
        },
        |draw| Draw::from(draw.value),
    );
    fits(label, place, raw, draw, &source, faults);
    let top = raw.top.as_ref().map_or(TOP, |top| top.value);
    if let Some(top) = raw
        .top
        .as_ref()
        .filter(|top| top.value == 0 || top.value > TOP_MAX)
    {
        let message = format!(
            "panel {label:?}: top must be 1 to {TOP_MAX}, not {}",
            top.value
        );
        faults.tell(Place::of(top), code::VALUE, message);
    }
    let thresholds = thresholds(label, raw, faults);
    if let Some(fault) = faults.problems.get(before) {
        source = Source::Broken(fault.to_string());
    }
    Panel {
        name: label.clone(),
        title: raw
            .title
            .clone()
            .unwrap_or_else(|| title(label, &source, names.kpis)),
        description: raw.description.clone(),
        draw,
        source,
        by: raw
            .by
            .as_ref()
            .map(|by| by.value.0.clone())
            .unwrap_or_default(),
        filters: Vec::new(),
        is_built_in: false,
        top: top.clamp(1, TOP_MAX) as usize,
        is_stacked: raw.stack.as_ref().is_some_and(|stack| stack.value),
        compare_us: raw.compare.as_ref().map(|compare| compare.value.0),
        thresholds,
        unit: raw.unit.clone(),
        units: raw
            .units
            .0
            .iter()
            .map(|(column, unit)| (column.value.clone(), unit.value.clone()))
            .collect(),
        x: raw.x.as_ref().map(|x| x.value.clone()),
        y: raw.y.as_ref().map(|y| y.value.clone()),
        step_us: raw.step.as_ref().map(|step| step.value.0),
        marks_of: MarksOf::default(),
        place,
    }
}

fn source(
    label: &str,
    place: Place,
    raw: &RawPanel,
    names: &Names<'_>,
    faults: &mut Faults<'_>,
) -> Source {
    let kpis: Vec<&Spanned<String>> = match (&raw.kpi, &raw.kpis, &raw.sql) {
        (Some(kpi), None, None) => vec![kpi],
        (None, Some(kpis), None) if !kpis.is_empty() => kpis.iter().collect(),
        (None, None, Some(sql)) => return Source::Sql(sql.value.clone()),
        _ => {
            let message =
                format!("panel {label:?}: exactly one of kpi, kpis and sql must be given");
            faults.tell(place, code::VALUE, message.clone());
            return Source::Broken(message);
        }
    };
    for kpi in &kpis {
        if names.kpis.contains_key(&kpi.value) {
            continue;
        }
        if names.broken.contains(&kpi.value) {
            return Source::Broken(format!(
                "the KPI {:?} has a fault; `serin check` shows it",
                kpi.value
            ));
        }
        let message = format!("panel {label:?}: no KPI {:?}", kpi.value);
        let hint = meant(&kpi.value, names.kpis.keys().map(String::as_str));
        faults.tell_hint(Place::of(kpi), code::NAME, message, hint);
    }
    Source::Kpis(kpis.into_iter().map(|kpi| kpi.value.clone()).collect())
}

/// Whether the keys of a panel mean something for the way it is drawn.
fn fits(
    label: &str,
    place: Place,
    raw: &RawPanel,
    draw: Draw,
    source: &Source,
    faults: &mut Faults<'_>,
) {
    let is_sql = matches!(source, Source::Sql(_));
    let is_over_time = matches!(draw, Draw::Line | Draw::Bar);
    let has_axes = draw == Draw::Heatmap || is_sql;
    let written = [
        ("stack", raw.stack.as_ref().map(Place::of), is_over_time),
        (
            "compare",
            raw.compare.as_ref().map(Place::of),
            !is_sql && matches!(draw, Draw::Line | Draw::Stat),
        ),
        (
            "by",
            raw.by.as_ref().map(Place::of),
            !is_sql && !matches!(draw, Draw::Stat | Draw::Heatmap),
        ),
        ("top", raw.top.as_ref().map(Place::of), draw != Draw::Stat),
        (
            "units",
            raw.units.0.first().map(|(column, _)| Place::of(column)),
            is_sql && draw == Draw::Table,
        ),
        ("x", raw.x.as_ref().map(Place::of), has_axes),
        ("y", raw.y.as_ref().map(Place::of), has_axes),
        (
            "step",
            raw.step.as_ref().map(Place::of),
            !is_sql && (is_over_time || draw == Draw::Stat),
        ),
    ];
    for (key, at, is_of_use) in written {
        if let (Some(at), false) = (at, is_of_use) {
            let way = if is_sql { "an SQL panel" } else { "a panel" };
            let message = format!(
                "panel {label:?}: {key:?} has no meaning for {way} drawn as {}; remove it",
                draw.as_str()
            );
            faults.tell(at, code::VALUE, message);
        }
    }
    if draw == Draw::Heatmap && (raw.x.is_none() || raw.y.is_none()) {
        let message = format!(
            "panel {label:?}: a heat map needs x and y, for example x: hour_of_day, y: day_of_week"
        );
        faults.tell(place, code::VALUE, message);
    }
    if let (Source::Kpis(kpis), Draw::Stat | Draw::Heatmap) = (source, draw)
        && kpis.len() > 1
    {
        let message = format!(
            "panel {label:?}: {} shows one KPI, not {}",
            draw.as_str(),
            kpis.len()
        );
        faults.tell(place, code::VALUE, message);
    }
}

fn thresholds(label: &str, raw: &RawPanel, faults: &mut Faults<'_>) -> Vec<Threshold> {
    let mut read = Vec::new();
    for threshold in &raw.thresholds {
        let place = Place::of(&threshold.color);
        if threshold.above.is_some() == threshold.below.is_some() {
            let message = format!("panel {label:?}: a threshold has either above or below");
            faults.tell(place, code::VALUE, message);
        }
        let color = threshold.color.value.as_str();
        if !THRESHOLD_COLORS.contains(&color) {
            let message = format!("panel {label:?}: no colour {color:?}");
            faults.tell_hint(
                place,
                code::NAME,
                message,
                meant(color, THRESHOLD_COLORS.into_iter()),
            );
        }
        read.push(Threshold {
            above: threshold.above,
            below: threshold.below,
            color: color.to_owned(),
            name: threshold.name.clone(),
        });
    }
    read
}

fn title(label: &str, source: &Source, kpis: &Catalog) -> String {
    let of_kpi = match source {
        Source::Kpis(names) if names.len() == 1 => kpis
            .get(&names[0])
            .and_then(|plan| plan.definition().title.clone()),
        _ => None,
    };
    of_kpi.unwrap_or_else(|| label.to_owned())
}

/// The rows as written; without any, two panels to a row.
fn layout(
    raw: &RawDashboard,
    panels: &[Panel],
    faults: &mut Faults<'_>,
) -> Vec<Vec<(String, f64)>> {
    if raw.layout.is_empty() {
        let rows = panels.chunks(2);
        return rows
            .map(|row| row.iter().map(|panel| (panel.name.clone(), 1.0)).collect())
            .collect();
    }
    let mut placed = BTreeSet::new();
    let mut rows = Vec::new();
    for raw_row in &raw.layout {
        let mut row = Vec::new();
        for (name, share) in &raw_row.0 {
            let place = Place::of(name);
            if !panels.iter().any(|panel| panel.name == name.value) {
                let hint = meant(&name.value, panels.iter().map(|panel| panel.name.as_str()));
                faults.tell_hint(
                    place,
                    code::NAME,
                    format!("layout: no panel {:?}", name.value),
                    hint,
                );
            } else if !placed.insert(name.value.clone()) {
                let message = format!("layout: the panel {:?} stands here twice", name.value);
                faults.tell(place, code::TWICE, message);
            } else if !share.value.is_finite() || share.value <= 0.0 {
                let message = format!("layout: the share of {:?} must be more than 0", name.value);
                faults.tell(Place::of(share), code::VALUE, message);
            } else {
                row.push((name.value.clone(), share.value));
            }
        }
        if !row.is_empty() {
            rows.push(row);
        }
    }
    for panel in panels.iter().filter(|panel| !placed.contains(&panel.name)) {
        let message = format!(
            "the panel {:?} has no place in the layout; add it to a row",
            panel.name
        );
        faults.tell(panel.place, code::VALUE, message);
        rows.push(vec![(panel.name.clone(), 1.0)]);
    }
    rows
}

/// Resolves one rule; `None` where it has a fault.
pub(crate) fn rule(
    file: &str,
    name: &Spanned<String>,
    raw: &RawRule,
    names: &Names<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Rule> {
    let mut faults = Faults { file, problems };
    let (label, when) = (&name.value, &raw.when);
    if let Err(why) = check_name(label) {
        faults.tell(
            Place::of(name),
            code::VALUE,
            format!("rule {label:?}: {why}"),
        );
        return None;
    }
    let bound = match (&when.above, &when.below) {
        (Some(above), None) => Bound::Above(above.value),
        (None, Some(below)) => Bound::Below(below.value),
        _ => {
            let message = format!("rule {label:?}: when needs either above or below");
            faults.tell(Place::of(name), code::VALUE, message);
            return None;
        }
    };
    if !bound.value().is_finite() {
        let message =
            format!("rule {label:?}: the bound must be a number that something can cross");
        let at = when.above.as_ref().or(when.below.as_ref());
        faults.tell(at.map_or(Place::of(name), Place::of), code::VALUE, message);
        return None;
    }
    if !names.kpis.contains_key(&when.kpi.value) {
        if !names.broken.contains(&when.kpi.value) {
            let message = format!("rule {label:?}: no KPI {:?}", when.kpi.value);
            let hint = meant(&when.kpi.value, names.kpis.keys().map(String::as_str));
            faults.tell_hint(Place::of(&when.kpi), code::NAME, message, hint);
        }
        return None;
    }
    // All that a rule does as yet is tell; more kinds will be told apart here.
    let RawThen::Notify = raw.then;
    let for_us = when.r#for.as_ref().map_or(RULE_FOR_US, |span| span.value.0);
    let every_us = when
        .every
        .as_ref()
        .map_or_else(|| rule_step_us(for_us), |span| span.value.0);
    let at = when
        .every
        .as_ref()
        .or(when.r#for.as_ref())
        .map_or(Place::of(name), Place::of);
    if let Some(at) = when.r#for.as_ref().filter(|_| for_us > RULE_FOR_US_MAX) {
        let message = format!(
            "rule {label:?}: for is at most 31d, not {}",
            span_text(for_us)
        );
        faults.tell(Place::of(at), code::VALUE, message);
        return None;
    }
    if every_us < RULE_STEP_US_MIN || for_us % every_us != 0 || for_us / every_us > RULE_STEPS_MAX {
        let message = format!(
            "rule {label:?}: for must be a whole number of steps (every), at most {RULE_STEPS_MAX} and none shorter than 1s"
        );
        faults.tell(at, code::VALUE, message);
        return None;
    }
    Some(Rule {
        name: label.clone(),
        kpi: when.kpi.value.clone(),
        bound,
        for_us,
        every_us,
        message: raw.message.clone(),
    })
}

/// How long a bound must be crossed where a rule names no time: a minute.
const RULE_FOR_US: i64 = 60_000_000;
/// Longest such time: all of it is read with each step.
const RULE_FOR_US_MAX: i64 = 31 * 86_400_000_000;
/// In how many steps a rule's time is looked at where it does not say.
const RULE_STEPS: i64 = 6;
/// Shortest step of a rule; rules are looked at once a second.
const RULE_STEP_US_MIN: i64 = 1_000_000;
/// Most steps of a rule's window.
const RULE_STEPS_MAX: i64 = 1_000;

/// A sixth of the time, or the next greater part of it that has whole seconds.
fn rule_step_us(for_us: i64) -> i64 {
    let parts = (1..=RULE_STEPS).rev();
    let mut steps = parts.filter(|parts| for_us % (parts * RULE_STEP_US_MIN) == 0);
    steps.next().map_or(for_us, |parts| for_us / parts)
}
