//! Ticks over the rules, tells each decision as an event, and remembers it over a restart.
//!
//! Rules are looked at once a second; a rule is judged once per step, when the watermark has passed
//! the step's end. What was decided is read back from the table `decisions`: there is no other memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serin_query::kpi::{Rule, RuleSet};
use serin_query::{Engine, Newest, QueryError, Snapshot, render};
use serin_sdk::Serin;
use serin_wire::{Decision, decision};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::decide::{State, decide};
use crate::observe::{observe, window};

/// How often rules are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How many of the last decisions are read; more rules than this nobody writes by hand.
const LAST_DECISIONS: usize = 10_000;
/// What rules decide; deploys and the like are decisions too.
const RULE_ACTIONS: [&str; 2] = ["notify", "resolve"];

/// What the loop works with.
pub struct Parts {
    /// Answers KPIs.
    pub engine: Arc<Engine>,
    /// Tells decisions, like any service.
    pub serin: Serin,
    /// The newest snapshot.
    pub snapshot: Box<dyn Fn() -> Arc<Snapshot> + Send + Sync>,
    /// The rules as they are now.
    pub rules: Box<dyn Fn() -> Arc<RuleSet> + Send + Sync>,
    /// The time, microseconds since 1970.
    pub now_us: fn() -> i64,
}

/// Looks at the rules once a second, until the task is dropped.
pub async fn run(parts: Parts) {
    let mut control = Control::default();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let rules = (parts.rules)();
        if rules.rules.is_empty() {
            continue;
        }
        let snapshot = (parts.snapshot)();
        for decision in control
            .tick(&parts.engine, &snapshot, &rules, (parts.now_us)())
            .await
        {
            info!(
                rule = decision.rule,
                action = decision.action,
                why = decision.why,
                "decided"
            );
            parts.serin.emit(decision::EVENT_TYPE, &decision);
        }
    }
}

/// What the loop remembers.
#[derive(Debug, Default)]
pub struct Control {
    /// By rule. `None` until the table of decisions was read.
    states: Option<BTreeMap<String, State>>,
    /// The fault of a rule that was told last, so that it is told once and not every second.
    told: BTreeMap<String, String>,
}

impl Control {
    /// Judges every rule whose next step is complete; the decisions are the caller's to tell.
    pub async fn tick(
        &mut self,
        engine: &Engine,
        snapshot: &Arc<Snapshot>,
        rules: &RuleSet,
        now_us: i64,
    ) -> Vec<Decision> {
        // Without a watermark nothing is complete, the table of decisions not either.
        let Some(watermark_us) = snapshot.watermark_us else {
            return Vec::new();
        };
        if self.states.is_none() {
            match last_states(engine, snapshot).await {
                Ok(states) => self.states = Some(states),
                Err(error) => {
                    self.tell_once("decisions", &error);
                    return Vec::new();
                }
            }
        }
        let mut decided = Vec::new();
        for rule in &rules.rules {
            let to_us = window(rule, watermark_us).to_us;
            let state = self.state(rule).before(to_us);
            if to_us <= state.to_us {
                continue;
            }
            let Some(plan) = rules.kpis.get(&rule.kpi) else {
                continue;
            };
            match observe(engine, snapshot, plan, rule, now_us).await {
                Ok(Some(observation)) => {
                    let decision = decide(rule, &state, &observation);
                    let is_firing = match &decision {
                        Some(decision) => {
                            State::after(&decision.action, observation.to_us).is_firing
                        }
                        None => state.is_firing,
                    };
                    self.remember(
                        rule,
                        State {
                            is_firing,
                            to_us: observation.to_us,
                        },
                    );
                    decided.extend(decision);
                    self.told.remove(&rule.name);
                }
                Ok(None) => {}
                Err(error) => self.tell_once(&rule.name, &error),
            }
        }
        decided
    }

    fn state(&self, rule: &Rule) -> State {
        let known = self
            .states
            .as_ref()
            .and_then(|states| states.get(&rule.name));
        known.copied().unwrap_or_default()
    }

    fn remember(&mut self, rule: &Rule, state: State) {
        self.states
            .get_or_insert_default()
            .insert(rule.name.clone(), state);
    }

    fn tell_once(&mut self, rule: &str, error: &QueryError) {
        let text = error.to_string();
        if self.told.get(rule) != Some(&text) {
            warn!(
                rule,
                code = error.code(),
                error = text,
                "cannot judge a rule"
            );
            self.told.insert(rule.to_owned(), text);
        }
    }
}

/// What each rule decided last.
async fn last_states(
    engine: &Engine,
    snapshot: &Arc<Snapshot>,
) -> Result<BTreeMap<String, State>, QueryError> {
    let mut states = BTreeMap::new();
    let asked = Newest {
        table: "decisions",
        columns: &["rule", "action", "to_us"],
        range: None,
        having: RULE_ACTIONS.map(|action| ("action", action)).to_vec(),
        rows_max: LAST_DECISIONS,
    };
    let answer = engine.newest(snapshot, &asked).await?;
    for row in render::rows(&answer) {
        let [rule, action, to_us] = &row[..] else {
            continue;
        };
        let (Some(rule), Some(action), Some(to_us)) =
            (rule.as_str(), action.as_str(), to_us.as_i64())
        else {
            continue;
        };
        // Newest first: the first one counts.
        states
            .entry(rule.to_owned())
            .or_insert_with(|| State::after(action, to_us));
    }
    Ok(states)
}
