//! How the server is, as its monitoring page says: connections, messages, memory, JetStream.
//!
//! Only of a private bus do we know where the page is. What the page does not say is 0: its names
//! are those of nats-server 2.10 and later. Start at [`read`].

use std::io;

use serde_json::Value;

use crate::services::page;

/// Numbers of a server, since its start where they are counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BusNumbers {
    /// Connections open now.
    pub connections: u64,
    /// Connections ever accepted.
    pub connections_total: u64,
    /// Subscriptions now.
    pub subscriptions: u64,
    /// Messages that came in.
    pub in_messages: u64,
    /// Messages that went out.
    pub out_messages: u64,
    /// Bytes that came in.
    pub in_bytes: u64,
    /// Bytes that went out.
    pub out_bytes: u64,
    /// Clients that read too slowly and were cut off.
    pub slow_consumers: u64,
    /// Resident memory of the server, bytes.
    pub memory_bytes: u64,
    /// Cores in use, as the server measures itself.
    pub cores: f64,
    /// Requests to JetStream.
    pub api_requests: u64,
    /// Of these, those that failed.
    pub api_errors: u64,
    /// The streams.
    pub streams: Vec<StreamNumbers>,
}

/// Numbers of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamNumbers {
    /// Its name.
    pub name: String,
    /// Messages it holds.
    pub messages: u64,
    /// Bytes it holds.
    pub bytes: u64,
    /// Bytes it may hold; 0 where nothing limits it.
    pub bytes_max: u64,
    /// The last message it took.
    pub last: u64,
    /// Consumers that read it.
    pub consumers: u64,
    /// Messages that its consumers have not been given yet; of the one that is furthest behind.
    pub pending: u64,
    /// Messages given and not acknowledged; of all consumers.
    pub unacknowledged: u64,
}

/// Asks the monitoring page.
pub(crate) async fn read(monitor_port: u16) -> io::Result<BusNumbers> {
    let server = page(monitor_port, "/varz").await?;
    let jetstream = page(monitor_port, "/jsz?streams=true&consumers=true&config=true").await?;
    Ok(numbers(&server, &jetstream))
}

fn numbers(server: &Value, jetstream: &Value) -> BusNumbers {
    let accounts = children(jetstream, "account_details");
    let streams = accounts.flat_map(|account| children(account, "stream_detail"));
    BusNumbers {
        connections: count(server, "/connections"),
        connections_total: count(server, "/total_connections"),
        subscriptions: count(server, "/subscriptions"),
        in_messages: count(server, "/in_msgs"),
        out_messages: count(server, "/out_msgs"),
        in_bytes: count(server, "/in_bytes"),
        out_bytes: count(server, "/out_bytes"),
        slow_consumers: count(server, "/slow_consumers"),
        memory_bytes: count(server, "/mem"),
        // A percentage of one core.
        cores: server["cpu"].as_f64().unwrap_or_default() / 100.0,
        api_requests: count(jetstream, "/api/total"),
        api_errors: count(jetstream, "/api/errors"),
        streams: streams.map(stream).collect(),
    }
}

fn stream(told: &Value) -> StreamNumbers {
    let consumers = || children(told, "consumer_detail");
    let pending = consumers().map(|consumer| count(consumer, "/num_pending"));
    let unacknowledged = consumers().map(|consumer| count(consumer, "/num_ack_pending"));
    StreamNumbers {
        name: told["name"].as_str().unwrap_or_default().to_owned(),
        messages: count(told, "/state/messages"),
        bytes: count(told, "/state/bytes"),
        // Unlimited is -1.
        bytes_max: count(told, "/config/max_bytes"),
        last: count(told, "/state/last_seq"),
        consumers: count(told, "/state/consumer_count"),
        pending: pending.max().unwrap_or_default(),
        unacknowledged: unacknowledged.fold(0, u64::saturating_add),
    }
}

fn children<'a>(told: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    told[name].as_array().into_iter().flatten()
}

fn count(told: &Value, pointer: &str) -> u64 {
    let found = told.pointer(pointer).and_then(Value::as_u64);
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_becomes_numbers_and_what_it_lacks_is_nothing() {
        let server = json!({"connections": 3, "in_msgs": 7, "cpu": 12.5, "mem": 4096});
        let jetstream = json!({"api": {"total": 9}, "account_details": [{"stream_detail": [{
            "name": "EVENTS",
            "state": {"messages": 2, "bytes": 80, "last_seq": 40, "consumer_count": 2},
            "config": {"max_bytes": -1},
            "consumer_detail": [
                {"num_pending": 1, "num_ack_pending": 4}, {"num_pending": 2, "num_ack_pending": 1}
            ]
        }]}]});
        let found = numbers(&server, &jetstream);
        assert_eq!((found.connections, found.in_messages), (3, 7));
        assert_eq!((found.cores, found.api_requests), (0.125, 9));
        let stream = StreamNumbers {
            name: String::from("EVENTS"),
            messages: 2,
            bytes: 80,
            bytes_max: 0,
            last: 40,
            consumers: 2,
            pending: 2,
            unacknowledged: 5,
        };
        assert_eq!(found.streams, [stream]);
        assert_eq!(numbers(&json!([]), &json!(null)), BusNumbers::default());
    }
}
