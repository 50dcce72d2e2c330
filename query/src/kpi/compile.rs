//! All definitions together become plans, or a list of everything that is wrong with them.
//!
//! Names are resolved to plans, so a cycle or an unknown name is found here and never at run time.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definition::{Definition, Kind, Since};
use super::parse::{self, ExpressionError};
use super::plan::{Compiled, Dimension, Funnel, Gauge, KpiPlan, Node, Simple};
use crate::calendar;

/// What is wrong with one definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KpiError {
    /// The KPI.
    pub kpi: String,
    /// Which of its fields, as YAML names it: `measure`, `where`, `ratio.numerator`, ….
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The compiled KPIs by name.
pub type Catalog = BTreeMap<String, Arc<KpiPlan>>;

/// Compiles all definitions, or says all that is wrong.
pub fn compile(definitions: Vec<Definition>) -> Result<Catalog, Vec<KpiError>> {
    let mut errors = Vec::new();
    let mut by_name: BTreeMap<String, Definition> = BTreeMap::new();
    for definition in definitions {
        let name = definition.name.clone();
        if by_name.insert(name.clone(), definition).is_some() {
            errors.push(KpiError {
                message: format!("there are two KPIs named {name:?}; rename one"),
                kpi: name,
                field: "name",
            });
        }
    }
    let mut compiler = Compiler {
        definitions: &by_name,
        states: BTreeMap::new(),
        errors,
    };
    for name in by_name.keys() {
        compiler.resolve(name);
    }
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    let done = compiler
        .states
        .into_iter()
        .filter_map(|(name, state)| match state {
            State::Done(plan) => Some((name.to_owned(), Arc::new(plan))),
            State::Started | State::Failed => None,
        });
    Ok(done.collect())
}

enum State {
    Started,
    Failed,
    Done(KpiPlan),
}

struct Compiler<'a> {
    definitions: &'a BTreeMap<String, Definition>,
    states: BTreeMap<&'a str, State>,
    errors: Vec<KpiError>,
}

impl<'a> Compiler<'a> {
    fn wrong(&mut self, kpi: &str, field: &'static str, message: String) {
        self.errors.push(KpiError {
            kpi: kpi.to_owned(),
            field,
            message,
        });
    }

    fn read<T>(
        &mut self,
        kpi: &str,
        field: &'static str,
        result: Result<T, ExpressionError>,
    ) -> Option<T> {
        result
            .map_err(|error| self.wrong(kpi, field, error.to_string()))
            .ok()
    }

    fn condition(
        &mut self,
        kpi: &str,
        field: &'static str,
        text: Option<&String>,
    ) -> Option<Option<datafusion::logical_expr::Expr>> {
        match text {
            None => Some(None),
            Some(text) => self.read(kpi, field, parse::condition(text)).map(Some),
        }
    }

    fn resolve(&mut self, name: &'a str) -> Option<KpiPlan> {
        match self.states.get(name) {
            Some(State::Done(plan)) => return Some(plan.clone()),
            Some(State::Failed) => return None,
            Some(State::Started) => {
                self.wrong(
                    name,
                    "kind",
                    format!("{name:?} is made of itself; break the circle"),
                );
                return None;
            }
            None => {}
        }
        let definition = self.definitions.get(name)?;
        self.states.insert(name, State::Started);
        let node = self.node(definition);
        let dimensions = self.dimensions(definition);
        let (Some(node), Some(dimensions)) = (node, dimensions) else {
            self.states.insert(name, State::Failed);
            return None;
        };
        let plan = KpiPlan(Arc::new(Compiled {
            definition: definition.clone(),
            dimensions,
            node,
        }));
        self.states.insert(name, State::Done(plan.clone()));
        Some(plan)
    }

    /// A KPI that another is made of.
    fn input(&mut self, kpi: &str, field: &'static str, name: &'a str) -> Option<KpiPlan> {
        if !self.definitions.contains_key(name) {
            let near = serin_yaml::nearest(name, self.definitions.keys().map(String::as_str));
            let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
            self.wrong(kpi, field, format!("no KPI {name:?}{hint}"));
            return None;
        }
        let plan = self.resolve(name)?;
        if matches!(plan.0.node, Node::Funnel(_)) {
            let message = format!("{name:?} is a funnel; other KPIs cannot be made of funnels");
            self.wrong(kpi, field, message);
            return None;
        }
        Some(plan)
    }

    fn node(&mut self, definition: &'a Definition) -> Option<Node> {
        let kpi = definition.name.as_str();
        match &definition.kind {
            Kind::Simple {
                event,
                measure,
                filter,
            } => {
                let read = self.read(kpi, "measure", parse::measure(measure));
                let filter = self.condition(kpi, "where", filter.as_ref());
                let (measure, leaves) = read?;
                let (event, filter) = (event.clone(), filter?);
                Some(Node::Simple(Arc::new(Simple {
                    event,
                    filter,
                    leaves,
                    measure,
                })))
            }
            Kind::Ratio {
                numerator,
                denominator,
            } => {
                let upper = self.input(kpi, "ratio.numerator", numerator);
                let lower = self.input(kpi, "ratio.denominator", denominator);
                Some(Node::Ratio(upper?, lower?))
            }
            Kind::Derived { expr } => self.derived(kpi, expr),
            Kind::Cumulative { of, since } => self.cumulative(kpi, of, *since),
            Kind::Funnel {
                steps,
                entity,
                within_us,
            } => {
                if steps.len() < 2 || *within_us <= 0 {
                    let message = "a funnel has at least two steps and a time to go through them";
                    self.wrong(kpi, "funnel", message.to_owned());
                    return None;
                }
                let mut read = Vec::new();
                for step in steps {
                    let filter = self.condition(kpi, "funnel.steps", step.filter.as_ref())?;
                    read.push((step.event.clone(), filter));
                }
                Some(Node::Funnel(Arc::new(Funnel {
                    steps: read,
                    entity: entity.clone(),
                    within_us: *within_us,
                })))
            }
            Kind::Gauge {
                event,
                value,
                filter,
                measure,
                across,
                hold_us,
            } => {
                let value = self.read(kpi, "gauge", parse::condition(value));
                let filter = self.condition(kpi, "where", filter.as_ref());
                if *hold_us <= 0 {
                    self.wrong(kpi, "hold", "a sample must hold for some time".to_owned());
                    return None;
                }
                Some(Node::Gauge(Arc::new(Gauge {
                    event: event.clone(),
                    value: value?,
                    filter: filter?,
                    measure: *measure,
                    across: *across,
                    hold_us: *hold_us,
                })))
            }
        }
    }

    fn derived(&mut self, kpi: &str, expr: &str) -> Option<Node> {
        let (formula, names) = self.read(kpi, "expr", parse::formula(expr))?;
        let mut inputs = Vec::new();
        for name in &names {
            // The name must live as long as the definitions: take theirs where there is one.
            match self.definitions.get_key_value(name.as_str()) {
                Some((known, _)) => inputs.push(self.input(kpi, "expr", known)),
                None => {
                    let near =
                        serin_yaml::nearest(name, self.definitions.keys().map(String::as_str));
                    let hint =
                        near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                    self.wrong(kpi, "expr", format!("no KPI {name:?}{hint}"));
                    inputs.push(None);
                }
            }
        }
        let inputs = inputs.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Node::Derived(formula, inputs))
    }

    fn cumulative(&mut self, kpi: &str, of: &'a str, since: Since) -> Option<Node> {
        let plan = self.input(kpi, "cumulative.of", of)?;
        if matches!(since, Since::Window(window) if window <= 0) {
            self.wrong(
                kpi,
                "cumulative.window",
                "the window must be longer than 0".to_owned(),
            );
            return None;
        }
        if !is_mergeable(&plan) {
            let message = format!(
                "{of:?} cannot run up: quantiles, distinct counts and gauges of parts do not add up to those of the whole"
            );
            self.wrong(kpi, "cumulative.of", message);
            return None;
        }
        Some(Node::Cumulative(plan, since))
    }

    fn dimensions(&mut self, definition: &Definition) -> Option<Vec<Dimension>> {
        let mut read = Vec::new();
        for text in &definition.by {
            let (name, expr) = match text.split_once('=') {
                Some((name, expr)) => (name.trim(), parse::condition(expr)),
                None => (text.trim(), Ok(calendar::column_or_calendar(text.trim()))),
            };
            let expr = self.read(&definition.name, "by", expr)?;
            read.push(Dimension {
                name: name.to_owned(),
                expr,
            });
        }
        Some(read)
    }
}

fn is_mergeable(plan: &KpiPlan) -> bool {
    match &plan.0.node {
        Node::Simple(simple) => simple
            .leaves
            .iter()
            .all(|leaf| leaf.aggregate.is_mergeable()),
        Node::Gauge(_) | Node::Funnel(_) | Node::Cumulative(..) => false,
        Node::Ratio(..) | Node::Derived(..) => plan.inputs().into_iter().all(is_mergeable),
    }
}
