//! The smallest service: one event a second until it is stopped.
//!
//! Run it against a running Serin: `SERIN_BUS=nats://… SERIN_SERVICE=hello cargo run --example hello`.

use std::time::Duration;

use serin_sdk::{Event, Serin, event};

#[derive(serde::Serialize, Event)]
#[event("greeting.sent")]
struct Greeting<'a> {
    name: &'a str,
    number: u64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), serin_sdk::ConnectError> {
    let serin = Serin::from_env()?;
    serin.drain_on_sigterm(Duration::from_secs(3))?;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    for number in 1.. {
        seconds.tick().await;
        let request = serin.request();
        serin.emit_event(&Greeting {
            name: "world",
            number,
        });
        event!(
            serin,
            "greeting.heard",
            number = number,
            is_even = number % 2 == 0
        );
        drop(request);
    }
    Ok(())
}
