//! What a KPI is, as its YAML says it: plain values, nothing checked yet.
//!
//! `dashboards` reads the YAML and fills these in; `compile` checks them all together.

/// A KPI as defined.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its name, unique in the catalogue.
    pub name: String,
    /// What people call it.
    pub title: Option<String>,
    /// What its values are counted in; `ratio` is shown as percent.
    pub unit: Option<String>,
    /// Which direction is good, where one is.
    pub better: Option<Better>,
    /// How it is measured.
    pub kind: Kind,
    /// The dimensions it is meant to be split by: columns, or `name = expression`.
    pub by: Vec<String>,
}

/// Which direction is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// How a KPI is measured.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Aggregates over the events of one type.
    Simple {
        /// The event type, or one of our own tables.
        event: String,
        /// What is measured, such as `sum(amount)` or `count() / 60`.
        measure: String,
        /// Which events count, such as `status >= 500`.
        filter: Option<String>,
    },
    /// One KPI over another; both are kept through every aggregation.
    Ratio {
        /// The upper one's name.
        numerator: String,
        /// The lower one's name.
        denominator: String,
    },
    /// Arithmetic over other KPIs, such as `revenue - cost`.
    Derived {
        /// Names of KPIs, numbers, `+ - * /` and parentheses.
        expr: String,
    },
    /// The running total of a KPI.
    Cumulative {
        /// The KPI's name.
        of: String,
        /// From where it runs.
        since: Since,
    },
    /// How many of those who began went on, step by step.
    Funnel {
        /// The steps in their order, at least two.
        steps: Vec<FunnelStep>,
        /// The column that says who it is, such as `user`.
        entity: String,
        /// How long after the first step the last one may come.
        within_us: i64,
    },
    /// A level that holds until it is told anew, such as a queue's length.
    Gauge {
        /// The event type, or `beats`.
        event: String,
        /// The column, or an expression over columns.
        value: String,
        /// Which samples count.
        filter: Option<String>,
        /// What becomes of the samples of one instance within a step.
        measure: GaugeMeasure,
        /// What becomes of many instances.
        across: Across,
        /// How long a sample holds at most; older ones are a gap.
        hold_us: i64,
    },
}

/// From where a running total runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Since {
    /// From the first event there is.
    Ever,
    /// Over a trailing window of this many microseconds.
    Window(i64),
    /// From the start of the hour, day, ISO week or month (UTC).
    Grain(Grain),
}

/// A span of the calendar, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grain {
    /// The hour.
    Hour,
    /// The day.
    Day,
    /// The week, from Monday.
    Week,
    /// The month.
    Month,
}

/// One step of a funnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunnelStep {
    /// The event type.
    pub event: String,
    /// Which events count.
    pub filter: Option<String>,
}

/// What becomes of the samples of one instance within a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GaugeMeasure {
    /// The last one.
    Last,
    /// The mean, each weighted by how long it held.
    Mean,
}

/// What becomes of the levels of many instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// They add up, as queues do.
    Sum,
    /// Their mean, as for CPU.
    Mean,
    /// The greatest.
    Max,
}

impl Definition {
    /// A simple KPI without title, unit or dimensions: for tests and built-in ones.
    pub fn simple(name: &str, event: &str, measure: &str, filter: Option<&str>) -> Definition {
        Definition {
            name: name.to_owned(),
            title: None,
            unit: None,
            better: None,
            kind: Kind::Simple {
                event: event.to_owned(),
                measure: measure.to_owned(),
                filter: filter.map(str::to_owned),
            },
            by: Vec::new(),
        }
    }
}
