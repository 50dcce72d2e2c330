//! What a country's value added tax makes of prices: whole cents, rounded for each piece, so that
//! the lines of an order add up to its total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serin_sdk::{Endpoint, Failure, Incoming, Packet, Serin};

#[derive(Deserialize)]
struct Page {
    country: String,
    price: Price,
}

#[derive(Deserialize)]
struct Price {
    net: i64,
}

#[derive(Deserialize)]
struct Order {
    country: String,
    lines: Vec<Line>,
    price: Prices,
}

#[derive(Deserialize)]
struct Line {
    sku: String,
    count: i64,
}

#[derive(Deserialize)]
struct Prices {
    by_sku: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Shelf {
    country: String,
    prices: BTreeMap<String, i64>,
}

#[derive(Serialize)]
struct Taxed {
    tax: Tax,
    gross: i64,
}

#[derive(Serialize)]
struct Tax {
    /// In percent.
    rate: f64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serin = Serin::from_env()?;
    serin
        .service()
        .description("what the state adds to a price")
        .endpoint(Endpoint::new("item").idempotent(), item)
        .endpoint(Endpoint::new("order").idempotent(), order)
        .endpoint(Endpoint::new("list").idempotent(), list)
        .run()
        .await?;
    Ok(())
}

/// Enhances a page with what its item costs in the visitor's country.
async fn item(_: Incoming, page: Packet<Page>) -> Result<Taxed, Failure> {
    let rate = Rate::of(&page.data.country)?;
    Ok(rate.taxed(rate.gross(page.data.price.net)))
}

/// Enhances an order with what is to be paid.
async fn order(_: Incoming, order: Packet<Order>) -> Result<Taxed, Failure> {
    let Order {
        country,
        lines,
        price,
    } = order.data;
    let rate = Rate::of(&country)?;
    let mut gross = 0;
    for line in &lines {
        let net = price.by_sku.get(&line.sku);
        let net = net.ok_or_else(|| Failure::new(400, format!("{} has no price", line.sku)))?;
        gross += rate.gross(*net) * line.count;
    }
    Ok(rate.taxed(gross))
}

/// Prices of many items, with tax.
async fn list(_: Incoming, shelf: Shelf) -> Result<BTreeMap<String, i64>, Failure> {
    let rate = Rate::of(&shelf.country)?;
    let taxed = shelf
        .prices
        .into_iter()
        .map(|(sku, net)| (sku, rate.gross(net)));
    Ok(taxed.collect())
}

/// The usual rate of a country, in thousandths.
#[derive(Clone, Copy)]
struct Rate(i64);

impl Rate {
    fn of(country: &str) -> Result<Rate, Failure> {
        match country {
            "de" => Ok(Rate(190)),
            "at" | "fr" => Ok(Rate(200)),
            "ch" => Ok(Rate(81)),
            "nl" => Ok(Rate(210)),
            "it" => Ok(Rate(220)),
            _ => Err(Failure::new(404, format!("nothing is sent to {country:?}"))),
        }
    }

    fn gross(self, net: i64) -> i64 {
        net + (net * self.0 + 500) / 1_000
    }

    fn taxed(self, gross: i64) -> Taxed {
        let rate = self.0 as f64 / 10.0;
        Taxed {
            tax: Tax { rate },
            gross,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tax_is_rounded_to_whole_cents() {
        let rate = Rate::of("ch").unwrap();
        assert_eq!(rate.gross(100), 108);
        assert_eq!(rate.gross(790), 854);
    }

    #[test]
    fn nothing_is_sent_elsewhere() {
        assert!(Rate::of("xx").is_err());
    }
}
