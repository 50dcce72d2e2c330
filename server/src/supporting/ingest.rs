//! Ingest: what was taken, refused and lost, how far it is behind, what it holds.

use serin_ingest::IngestStats;
use serin_ui::Metric;

/// What the ingester counts, for `/metrics` and the table `metrics`.
pub(crate) fn metrics(stats: &IngestStats, now_us: i64) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::counter("serin_ingest_events_total", "Events taken.", stats.events),
        Metric::counter(
            "serin_ingest_late_events_total",
            "Events older than the watermark when they came.",
            stats.late,
        ),
        Metric::counter(
            "serin_ingest_duplicates_total",
            "Messages and events that were there already.",
            stats.duplicates,
        ),
        Metric::counter(
            "serin_ingest_flushes_total",
            "Flushes committed.",
            stats.flushes,
        ),
        Metric::counter(
            "serin_ingest_flush_failures_total",
            "Attempts to commit that failed.",
            stats.flush_failures,
        ),
        Metric::counter(
            "serin_ingest_lost_messages_total",
            "Messages that the bus lost.",
            stats.lost_messages,
        ),
        Metric::counter(
            "serin_ingest_lineages_total",
            "Times the stream was wiped, replaced or lost its tail.",
            stats.lineages,
        ),
        Metric::counter(
            "serin_ingest_refused_not_kept_total",
            "Refused events that are not in the table refused: too many.",
            stats.refused_not_kept,
        ),
        Metric::counter(
            "serin_ingest_telemetry_bad_total",
            "Beats, spans, logs, requests and metrics that could not be read.",
            stats.telemetry_bad,
        ),
        Metric::counter(
            "serin_ingest_telemetry_lost_total",
            "Messages of telemetry dropped before they were read.",
            stats.telemetry_lost,
        ),
        Metric::counter(
            "serin_ingest_identities_forgotten_total",
            "Identities of clients forgotten within their 24 hours: too many.",
            stats.identities_forgotten,
        ),
        Metric::counter(
            "serin_ingest_producers_forgotten_total",
            "Producers forgotten before their time: too many.",
            stats.producers_forgotten,
        ),
        Metric::gauge(
            "serin_ingest_rate",
            "Events taken a second, over the last seconds.",
            stats.rate,
        ),
        Metric::gauge(
            "serin_ingest_lag_messages",
            "Messages on the bus not taken yet.",
            stats.lag_messages as f64,
        ),
        Metric::gauge(
            "serin_ingest_buffer_bytes",
            "Bytes of the hot buffer.",
            stats.buffer_bytes as f64,
        ),
    ];
    for (reason, count) in stats.refused_by_reason() {
        let metric = Metric::counter("serin_ingest_refused_total", "Events refused.", count);
        metrics.push(metric.label("reason", reason));
    }
    for (reason, count) in stats.rest_by_reason() {
        let help = "Values that went to the column _rest.";
        metrics.push(
            Metric::counter("serin_ingest_rest_values_total", help, count).label("reason", reason),
        );
    }
    if let Some(watermark_us) = stats.watermark_us {
        let age_s = (now_us - watermark_us) as f64 / 1e6;
        let help = "How far the watermark is behind the clock.";
        metrics.push(Metric::gauge(
            "serin_ingest_watermark_age_seconds",
            help,
            age_s,
        ));
    }
    metrics
}
