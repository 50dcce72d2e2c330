//! Queries: how many, how they end, how long they take, and the memory they hold.

use serin_query::{Asked, QueryStats, SECONDS};
use serin_ui::{Buckets, Metric};

/// What the query engine counts, for `/metrics` and the table `metrics`.
pub(crate) fn metrics(stats: &QueryStats) -> Vec<Metric> {
    let kinds = [("kpi", &stats.kpis), ("sql", &stats.statements)];
    let mut metrics: Vec<Metric> = kinds
        .into_iter()
        .flat_map(|(kind, asked)| of_kind(kind, asked))
        .collect();
    let steps = [("cache", stats.steps_kept), ("lake", stats.steps_read)];
    metrics.extend(steps.map(|(from, count)| {
        let help = "Steps of KPIs, by where they came from.";
        Metric::counter("serin_query_steps_total", help, count).label("from", from)
    }));
    metrics.extend([
        Metric::gauge(
            "serin_query_cache_bytes",
            "Answers of KPIs, and their steps, that are kept.",
            stats.cache_bytes as f64,
        ),
        Metric::gauge(
            "serin_query_memory_bytes",
            "Memory that queries in this process hold.",
            stats.memory_bytes as f64,
        ),
    ]);
    metrics
}

fn of_kind(kind: &'static str, asked: &Asked) -> [Metric; 5] {
    let ended = |end: &str, count| {
        let help = "Questions that ended, by kind and by how.";
        Metric::counter("serin_query_questions_total", help, count)
            .label("kind", kind)
            .label("end", end)
    };
    let buckets = Buckets {
        bounds: &SECONDS,
        counts: asked.buckets.clone(),
    };
    [
        ended("answered", asked.answered),
        ended("failed", asked.failed),
        ended("cancelled", asked.cancelled),
        Metric::gauge(
            "serin_query_running",
            "Questions under way.",
            asked.running as f64,
        )
        .label("kind", kind),
        Metric::histogram(
            "serin_query_duration_seconds",
            "How long questions took.",
            asked.seconds,
            buckets,
        )
        .label("kind", kind),
    ]
}
