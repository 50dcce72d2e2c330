//! The bus: connections, messages, slow consumers, and what JetStream holds.

use serin_bus::{Bus, BusNumbers, StreamNumbers};
use serin_ui::Metric;

/// The metric that says whether the bus answers.
pub(super) const UP: &str = "serin_bus_up";

/// What is known of the bus now; a joined one says little.
pub(super) async fn metrics(bus: &Bus) -> Vec<Metric> {
    let (health, numbers) = tokio::join!(bus.health(), bus.numbers());
    let is_up = health.is_connected && health.has_jetstream;
    let mut metrics = vec![
        Metric::gauge(
            UP,
            "Whether the bus answers and JetStream with it.",
            f64::from(u8::from(is_up)),
        ),
        Metric::counter(
            "serin_bus_restarts_total",
            "Times nats-server had to be started again.",
            health.restarts,
        ),
    ];
    if let Some(numbers) = numbers {
        metrics.extend(of_server(&numbers));
        metrics.extend(numbers.streams.iter().flat_map(of_stream));
    }
    metrics
}

fn of_server(numbers: &BusNumbers) -> [Metric; 12] {
    let gauge = |name, help, value: u64| Metric::gauge(name, help, value as f64);
    [
        gauge(
            "serin_bus_connections",
            "Connections to the bus now.",
            numbers.connections,
        ),
        Metric::counter(
            "serin_bus_connections_total",
            "Connections accepted.",
            numbers.connections_total,
        ),
        gauge(
            "serin_bus_subscriptions",
            "Subscriptions now.",
            numbers.subscriptions,
        ),
        Metric::counter(
            "serin_bus_in_messages_total",
            "Messages that came in.",
            numbers.in_messages,
        ),
        Metric::counter(
            "serin_bus_out_messages_total",
            "Messages that went out.",
            numbers.out_messages,
        ),
        Metric::counter(
            "serin_bus_in_bytes_total",
            "Bytes that came in.",
            numbers.in_bytes,
        ),
        Metric::counter(
            "serin_bus_out_bytes_total",
            "Bytes that went out.",
            numbers.out_bytes,
        ),
        Metric::counter(
            "serin_bus_slow_consumers_total",
            "Clients that read too slowly and were cut off.",
            numbers.slow_consumers,
        ),
        gauge(
            "serin_bus_memory_bytes",
            "Resident memory of nats-server.",
            numbers.memory_bytes,
        ),
        Metric::gauge(
            "serin_bus_cores",
            "Cores that nats-server uses.",
            numbers.cores,
        ),
        Metric::counter(
            "serin_bus_api_requests_total",
            "Requests to JetStream.",
            numbers.api_requests,
        ),
        Metric::counter(
            "serin_bus_api_errors_total",
            "Requests to JetStream that failed.",
            numbers.api_errors,
        ),
    ]
}

fn of_stream(stream: &StreamNumbers) -> Vec<Metric> {
    let gauge = |name, help, value: u64| {
        Metric::gauge(name, help, value as f64).label("stream", &stream.name)
    };
    let mut metrics = vec![
        Metric::counter(
            "serin_bus_stream_taken_total",
            "Messages that a stream ever took.",
            stream.last,
        )
        .label("stream", &stream.name),
        gauge(
            "serin_bus_stream_messages",
            "Messages that a stream holds.",
            stream.messages,
        ),
        gauge(
            "serin_bus_stream_bytes",
            "Bytes that a stream holds.",
            stream.bytes,
        ),
        gauge(
            "serin_bus_stream_pending",
            "Messages of a stream not given to its slowest consumer yet.",
            stream.pending,
        ),
        gauge(
            "serin_bus_stream_unacknowledged",
            "Messages of a stream given and not acknowledged.",
            stream.unacknowledged,
        ),
        gauge(
            "serin_bus_stream_consumers",
            "Consumers of a stream.",
            stream.consumers,
        ),
    ];
    if stream.bytes_max > 0 {
        metrics.push(gauge(
            "serin_bus_stream_bytes_max",
            "Bytes that a stream may hold.",
            stream.bytes_max,
        ));
    }
    metrics
}
