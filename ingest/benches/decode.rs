//! Events a second and core from a message of the bus to Arrow columns: `cargo bench -p serin-ingest`.

use std::time::Instant;

use serin_ingest::Limits;
use serin_ingest::bench::Decoder;
use serin_wire::batch::{BatchWriter, Head, Id};

const TYPES: [&str; 8] = [
    "order.paid",
    "order.placed",
    "cart.add",
    "cart.remove",
    "page.view",
    "http.request",
    "job.done",
    "mail.sent",
];
const EVENTS_PER_MESSAGE: u64 = 400;
const MESSAGES: u64 = 3000;

fn main() {
    let messages: Vec<Vec<u8>> = (0..64).map(message).collect();
    let bytes: usize = messages.iter().map(Vec::len).sum::<usize>() / messages.len();
    let mut decoder = Decoder::new(Limits::default());
    let (mut rows, mut arrow_bytes) = (0, 0);
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    let begin = Instant::now();
    for number in 1..=MESSAGES {
        let id = format!("bench/0/{number}");
        decoder.take(
            "ev.shop._batch",
            &id,
            &messages[(number % 64) as usize],
            1_000_000,
        );
        if number % 300 == 0 {
            let (taken, held) = decoder.flush(1_000_000);
            rows += taken;
            arrow_bytes = held;
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(
        rows,
        MESSAGES * EVENTS_PER_MESSAGE,
        "every event became a row"
    );
    #[expect(clippy::print_stdout, reason = "what a benchmark is for")]
    {
        println!(
            "serin-bench | bus message to Arrow columns, one core | {:.0} events/s, {:.0} MB/s, {} bytes an event on the bus, {} in Arrow | 75,000 events/s, so that two cores reach 150,000 | {}",
            rows as f64 / seconds,
            (bytes as u64 * MESSAGES) as f64 / seconds / 1e6,
            bytes as u64 / EVENTS_PER_MESSAGE,
            arrow_bytes as u64 / (300 * EVENTS_PER_MESSAGE),
            if rows as f64 / seconds >= 75_000.0 {
                "yes"
            } else {
                "no"
            },
        );
    }
}

fn message(seed: u64) -> Vec<u8> {
    let mut writer = BatchWriter::new("shop", "v7", "shop-v7-1", 0);
    for n in 0..EVENTS_PER_MESSAGE {
        let chance = (seed * EVENTS_PER_MESSAGE + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let kind = TYPES[(n % 8) as usize];
        let data = format!(
            r#"{{"customer":"c-{}","country":"{}","amount":{}.{:02},"items":{},"first":{},"duration_ms":{:.3},"path":"/shop/{}/checkout/{}","session":"{:016x}{:016x}","agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36","address":{{"city":"Berlin","zip":"{:05}","lines":["a street {}","floor 2"]}},"note":"some text of a usual length, so that an event has about half a kilobyte"}}"#,
            chance % 100_000,
            ["de", "fr", "it", "es"][(chance % 4) as usize],
            chance % 500,
            chance % 100,
            chance % 9,
            chance.is_multiple_of(7),
            (chance % 100_000) as f64 / 100.0,
            kind,
            chance % 1000,
            chance,
            chance.rotate_left(17),
            chance % 100_000,
            chance % 300,
        );
        let head = Head {
            id: Id::Ulid(u128::from(chance)),
            kind,
            service: None,
            time_us: 900_000 + n as i64,
            trace: None,
            arm: None,
        };
        writer.push(&head, data.as_bytes());
    }
    writer.take()
}
