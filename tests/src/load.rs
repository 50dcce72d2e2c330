//! A seeded stream of events such as a shop's services emit: eight types, less than 1 KB each.
//!
//! The same seed gives the same events on every machine, so that benchmarks and crash tests can say
//! beforehand what must come out. Start at [`Load`].

use std::fmt::Write;

use crate::random::Random;

/// The types, in the order they take turns.
pub const TYPES: [&str; 8] = [
    "page.view",
    "cart.add",
    "order.placed",
    "order.paid",
    "payment.failed",
    "stock.moved",
    "mail.sent",
    "http.request",
];

const COUNTRIES: [&str; 6] = ["de", "fr", "es", "nl", "pl", "it"];
const PATHS: [&str; 8] = [
    "/",
    "/cart",
    "/search",
    "/product/17",
    "/product/23",
    "/help",
    "/login",
    "/checkout",
];

/// An endless stream of events.
#[derive(Debug, Clone)]
pub struct Load {
    random: Random,
    number: u64,
}

/// One event: its type and the text of its data.
#[derive(Debug)]
pub struct Made<'a> {
    /// The type, one of [`TYPES`].
    pub kind: &'static str,
    /// Counts from 0.
    pub number: u64,
    /// The JSON object, about 150 to 400 bytes.
    pub data: &'a str,
}

impl Load {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Load {
        Load {
            random: Random::new(seed),
            number: 0,
        }
    }

    /// Writes the next event's data into `text` and says what it is.
    pub fn next<'a>(&mut self, text: &'a mut String) -> Made<'a> {
        let number = self.number;
        self.number += 1;
        let kind = TYPES[(number % 8) as usize];
        let random = self.random.roll();
        let user = random % 50_000;
        let country = COUNTRIES[(random >> 20) as usize % COUNTRIES.len()];
        let path = PATHS[(random >> 28) as usize % PATHS.len()];
        let amount = (random >> 32) % 20_000;
        let duration = 1 + (random >> 40) % 900;
        text.clear();
        let written = match kind {
            "page.view" | "http.request" => write!(
                text,
                r#"{{"number":{number},"user":"u{user}","country":"{country}","path":"{path}","method":"GET","status":{},"bytes":{amount},"duration_ms":{duration}.{},"agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/{}","is_bot":{}}}"#,
                if random.is_multiple_of(50) { 500 } else { 200 },
                random % 10,
                100 + random % 30,
                random.is_multiple_of(7),
            ),
            "stock.moved" => write!(
                text,
                r#"{{"number":{number},"sku":"s{}","from":"hall-{}","to":"hall-{}","pieces":{},"by":{{"team":"night","robot":{}}}}}"#,
                random % 900,
                random % 7,
                (random >> 8) % 7,
                1 + random % 40,
                random.is_multiple_of(3),
            ),
            "mail.sent" => write!(
                text,
                r#"{{"number":{number},"user":"u{user}","template":"order-{}","country":"{country}","bytes":{amount},"duration_ms":{duration},"tags":["shop","{country}"]}}"#,
                random % 5,
            ),
            _ => write!(
                text,
                r#"{{"number":{number},"user":"u{user}","order":"o{}","country":"{country}","amount":{}.{:02},"currency":"EUR","items":{},"duration_ms":{duration},"is_first":{}}}"#,
                random % 1_000_000,
                amount / 100,
                amount % 100,
                1 + random % 9,
                random.is_multiple_of(5),
            ),
        };
        written.expect("writing to a string cannot fail");
        Made {
            kind,
            number,
            data: text,
        }
    }
}
