//! `kpis/*.yaml`: KPIs and the rules that watch them.
//!
//! A KPI becomes a [`Definition`] as soon as its keys fit together; whether its names exist is found
//! when all files are compiled together.

use std::collections::BTreeMap;

use serde::Deserialize;
use serin_query::is_type_name;
use serin_query::kpi::{Across, Better, Definition, FunnelStep, GaugeMeasure, Grain, Kind, Since};
use serin_yaml::{Entries, Names, Place, Problem, Span, Spanned, code};

use crate::resolve::check_name;

/// How long a gauge's sample holds unless said otherwise: some missed beats.
const HOLD_US: i64 = 10_000_000;
/// How long a funnel's steps may take unless said otherwise: a day.
const WITHIN_US: i64 = 86_400_000_000;

/// A file's content, as far as it could be understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct KpiFile {
    pub(crate) definitions: Vec<Placed>,
    /// KPIs whose keys do not fit together.
    pub(crate) unfit: Vec<(String, Place)>,
    pub(crate) rules: Vec<(Spanned<String>, RawRule)>,
}

/// A definition with the places of its name and of its fields.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) definition: Definition,
    pub(crate) place: Place,
    pub(crate) fields: BTreeMap<&'static str, Place>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    kpis: Entries<RawKpi>,
    #[serde(default)]
    rules: Entries<RawRule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKpi {
    title: Option<String>,
    unit: Option<String>,
    better: Option<RawBetter>,
    by: Option<Spanned<Names>>,
    event: Option<Spanned<String>>,
    measure: Option<Spanned<String>>,
    r#where: Option<Spanned<String>>,
    ratio: Option<RawRatio>,
    expr: Option<Spanned<String>>,
    cumulative: Option<RawCumulative>,
    funnel: Option<RawFunnel>,
    gauge: Option<Spanned<String>>,
    across: Option<RawAcross>,
    hold: Option<Spanned<Span>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawBetter {
    Higher,
    Lower,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRatio {
    numerator: Spanned<String>,
    denominator: Spanned<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCumulative {
    of: Spanned<String>,
    since: Option<RawSince>,
    window: Option<Spanned<Span>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawSince {
    Ever,
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFunnel {
    steps: Vec<RawStep>,
    by: String,
    within: Option<Span>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    event: String,
    r#where: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawAcross {
    Sum,
    Mean,
    Max,
}

/// A rule as written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRule {
    pub(crate) when: RawWhen,
    #[serde(default)]
    pub(crate) then: RawThen,
    pub(crate) message: Option<String>,
}

/// The condition of a rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWhen {
    pub(crate) kpi: Spanned<String>,
    pub(crate) above: Option<Spanned<f64>>,
    pub(crate) below: Option<Spanned<f64>>,
    pub(crate) r#for: Option<Spanned<Span>>,
    pub(crate) every: Option<Spanned<Span>>,
}

/// What a rule does; telling is all that rules do as yet.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RawThen {
    #[default]
    Notify,
}

/// Reads one file; KPIs whose keys do not fit together are set apart and told.
pub(crate) fn read_kpis(
    file: &str,
    text: &str,
    problems: &mut Vec<Problem>,
) -> Result<KpiFile, Vec<Problem>> {
    let raw: RawFile = serin_yaml::read(file, text)?;
    let mut read = KpiFile {
        definitions: Vec::new(),
        unfit: Vec::new(),
        rules: raw.rules.0,
    };
    for (name, kpi) in raw.kpis.0 {
        let place = Place::of(&name);
        let named = check_name(&name.value).map_err(|why| (None, why.to_owned()));
        match named.and_then(|()| kind(&kpi)) {
            Ok(kind) => read.definitions.push(placed(name.value, place, kpi, kind)),
            Err((at, message)) => {
                let message = format!("kpi {:?}: {message}", name.value);
                problems.push(Problem::new(
                    file,
                    at.unwrap_or(place),
                    code::VALUE,
                    message,
                ));
                read.unfit.push((name.value, place));
            }
        }
    }
    Ok(read)
}

fn placed(name: String, place: Place, kpi: RawKpi, kind: Kind) -> Placed {
    let mut fields = BTreeMap::new();
    let mut note = |field: &'static str, place: Option<Place>| {
        place.map(|place| fields.insert(field, place));
    };
    note("by", kpi.by.as_ref().map(Place::of));
    note("measure", kpi.measure.as_ref().map(Place::of));
    note("where", kpi.r#where.as_ref().map(Place::of));
    note("expr", kpi.expr.as_ref().map(Place::of));
    note("gauge", kpi.gauge.as_ref().map(Place::of));
    note("hold", kpi.hold.as_ref().map(Place::of));
    note("event", kpi.event.as_ref().map(Place::of));
    note(
        "ratio.numerator",
        kpi.ratio.as_ref().map(|ratio| Place::of(&ratio.numerator)),
    );
    note(
        "ratio.denominator",
        kpi.ratio
            .as_ref()
            .map(|ratio| Place::of(&ratio.denominator)),
    );
    note(
        "cumulative.of",
        kpi.cumulative
            .as_ref()
            .map(|running| Place::of(&running.of)),
    );
    let window = kpi
        .cumulative
        .as_ref()
        .and_then(|running| running.window.as_ref());
    note("cumulative.window", window.map(Place::of));
    let definition = Definition {
        name,
        title: kpi.title,
        unit: kpi.unit,
        better: kpi.better.map(|better| match better {
            RawBetter::Higher => Better::Higher,
            RawBetter::Lower => Better::Lower,
        }),
        kind,
        by: kpi.by.map(|by| by.value.0).unwrap_or_default(),
    };
    Placed {
        definition,
        place,
        fields,
    }
}

type Wrong = (Option<Place>, String);

/// What kind of KPI the keys say it is; only the keys of that kind may be there.
fn kind(kpi: &RawKpi) -> Result<Kind, Wrong> {
    let shapes = [
        ("ratio", kpi.ratio.is_some()),
        ("expr", kpi.expr.is_some()),
        ("cumulative", kpi.cumulative.is_some()),
        ("funnel", kpi.funnel.is_some()),
        ("gauge", kpi.gauge.is_some()),
    ];
    let said: Vec<&str> = shapes
        .iter()
        .filter(|(_, is_said)| *is_said)
        .map(|(name, _)| *name)
        .collect();
    if let [first, second, ..] = said[..] {
        return Err((
            None,
            format!("{first:?} and {second:?} are two kinds of KPI; keep one"),
        ));
    }
    let shape = said.first().copied();
    only_where(kpi, shape)?;
    if let Some(ratio) = &kpi.ratio {
        return Ok(Kind::Ratio {
            numerator: ratio.numerator.value.clone(),
            denominator: ratio.denominator.value.clone(),
        });
    }
    if let Some(expr) = &kpi.expr {
        return Ok(Kind::Derived {
            expr: expr.value.clone(),
        });
    }
    if let Some(running) = &kpi.cumulative {
        return cumulative(running);
    }
    if let Some(funnel) = &kpi.funnel {
        let mut events = funnel.steps.iter().map(|step| check_type(&step.event));
        events.try_for_each(|checked| checked.map_err(|why| (None, why)))?;
        return Ok(Kind::Funnel {
            steps: funnel.steps.iter().map(step).collect(),
            entity: funnel.by.clone(),
            within_us: funnel.within.map_or(WITHIN_US, |within| within.0),
        });
    }
    let Some(event) = &kpi.event else {
        let wanted = "\"event\" is missing; a KPI has event and measure, or one of ratio, expr, cumulative, funnel, gauge";
        return Err((None, wanted.to_owned()));
    };
    check_type(&event.value).map_err(|why| (Some(Place::of(event)), why))?;
    let (event, filter) = (
        event.value.clone(),
        kpi.r#where.as_ref().map(|text| text.value.clone()),
    );
    if let Some(value) = &kpi.gauge {
        let (value, measure) = (value.value.clone(), gauge_measure(kpi)?);
        let across = match kpi.across {
            None | Some(RawAcross::Sum) => Across::Sum,
            Some(RawAcross::Mean) => Across::Mean,
            Some(RawAcross::Max) => Across::Max,
        };
        let hold_us = kpi.hold.as_ref().map_or(HOLD_US, |hold| hold.value.0);
        return Ok(Kind::Gauge {
            event,
            value,
            filter,
            measure,
            across,
            hold_us,
        });
    }
    let Some(measure) = &kpi.measure else {
        return Err((
            None,
            "\"measure\" is missing; write for example measure: count()".to_owned(),
        ));
    };
    Ok(Kind::Simple {
        event,
        measure: measure.value.clone(),
        filter,
    })
}

/// Whether events may be of such a type at all; whether there are any, the data say.
fn check_type(event: &str) -> Result<(), String> {
    match is_type_name(event) {
        true => Ok(()),
        false => Err(format!(
            "{event:?} is no type of event: words of a-z, A-Z, 0-9, _ and - joined by dots, such as order.paid"
        )),
    }
}

/// Refuses keys that the kind of KPI has no use for: what is written must not be ignored.
fn only_where(kpi: &RawKpi, shape: Option<&str>) -> Result<(), Wrong> {
    let is_over_events = matches!(shape, None | Some("gauge"));
    let is_gauge = shape == Some("gauge");
    let written = [
        ("event", kpi.event.as_ref().map(Place::of), is_over_events),
        (
            "measure",
            kpi.measure.as_ref().map(Place::of),
            is_over_events,
        ),
        ("where", kpi.r#where.as_ref().map(Place::of), is_over_events),
        ("across", kpi.across.map(|_| Place::default()), is_gauge),
        ("hold", kpi.hold.as_ref().map(Place::of), is_gauge),
    ];
    for (key, place, is_of_use) in written {
        if let (Some(place), false) = (place, is_of_use) {
            let place = Some(place).filter(|place| place.line > 0);
            let kind = shape.unwrap_or("event and measure");
            return Err((
                place,
                format!("{key:?} has no meaning for a KPI with {kind}; remove it"),
            ));
        }
    }
    Ok(())
}

fn gauge_measure(kpi: &RawKpi) -> Result<GaugeMeasure, Wrong> {
    match &kpi.measure {
        None => Ok(GaugeMeasure::Mean),
        Some(measure) => match measure.value.as_str() {
            "last" => Ok(GaugeMeasure::Last),
            "mean" => Ok(GaugeMeasure::Mean),
            other => {
                let message = format!("{other:?} is no measure of a gauge; there are last, mean");
                Err((Some(Place::of(measure)), message))
            }
        },
    }
}

fn cumulative(running: &RawCumulative) -> Result<Kind, Wrong> {
    let since = match (running.since, &running.window) {
        (Some(_), Some(window)) => {
            let message = "\"since\" and \"window\" exclude each other; keep one";
            return Err((Some(Place::of(window)), message.to_owned()));
        }
        (_, Some(window)) => Since::Window(window.value.0),
        (None | Some(RawSince::Ever), None) => Since::Ever,
        (Some(RawSince::Hour), None) => Since::Grain(Grain::Hour),
        (Some(RawSince::Day), None) => Since::Grain(Grain::Day),
        (Some(RawSince::Week), None) => Since::Grain(Grain::Week),
        (Some(RawSince::Month), None) => Since::Grain(Grain::Month),
    };
    let of = running.of.value.clone();
    Ok(Kind::Cumulative { of, since })
}

fn step(step: &RawStep) -> FunnelStep {
    FunnelStep {
        event: step.event.clone(),
        filter: step.r#where.clone(),
    }
}
