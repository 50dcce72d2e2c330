//! The functions a script has beside the language's own: emit, call, log, page, and who it is.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use pulldown_cmark_escape::escape_html;
use rhai::serde::{from_dynamic, to_dynamic};
use rhai::{Dynamic, Engine, EvalAltResult, ImmutableString, Map};
use serde_json::Value;
use serin_sdk::Serin;
use tokio::runtime::Handle;

/// What a script may use of one run: bounds that no honest handler meets.
const OPERATIONS_MAX: u64 = 5_000_000;
const CALL_LEVELS_MAX: usize = 48;
const TEXT_BYTES_MAX: usize = 4 << 20;
const ITEMS_MAX: usize = 100_000;

/// Pages beside the script, by name.
pub(crate) type Pages = Arc<BTreeMap<String, String>>;

/// An engine with Serin's functions; without a connection what is emitted goes nowhere.
pub(crate) fn engine(pages: Pages, serin: Option<Serin>) -> Engine {
    let mut engine = Engine::new();
    engine
        .set_max_operations(OPERATIONS_MAX)
        .set_max_call_levels(CALL_LEVELS_MAX)
        .set_max_string_size(TEXT_BYTES_MAX)
        .set_max_array_size(ITEMS_MAX)
        .set_max_map_size(ITEMS_MAX)
        .set_max_modules(0)
        .disable_symbol("eval");
    engine.on_print(say);
    engine.on_debug(|text, _, position| say(&format!("{position:?}: {text}")));
    engine.register_fn("log", |text: &str| say(text));
    engine.register_fn("escape", escaped);
    engine.register_fn("page", move |name: &str, values: Map| {
        page(&pages, name, &values)
    });
    let (emitting, calling) = (serin.clone(), serin);
    engine.register_fn(
        "emit",
        move |kind: &str, data: Map| -> Result<(), Box<EvalAltResult>> {
            let data: Value = from_dynamic(&Dynamic::from_map(data))?;
            if let Some(serin) = &emitting {
                serin.emit(kind, &data);
            }
            Ok(())
        },
    );
    engine.register_fn(
        "call",
        move |service: &str, endpoint: &str, data: Map| -> Result<Dynamic, Box<EvalAltResult>> {
            let data: Value = from_dynamic(&Dynamic::from_map(data))?;
            let serin = calling.as_ref().ok_or("no bus to call over")?;
            let call = serin.call::<Value>(service, endpoint, &data);
            // A script runs on a thread for work that blocks.
            let answer = Handle::current().block_on(call.into_future());
            to_dynamic(answer.map_err(|error| error.to_string())?)
        },
    );
    engine
}

/// A line of log: Serin reads our output.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{text}") {
        tracing::debug!(%error, "nobody reads what is said");
    }
}

/// A page with `{{name}}` replaced by the values of these names, so that text cannot become markup.
fn page(pages: &Pages, name: &str, values: &Map) -> Result<ImmutableString, Box<EvalAltResult>> {
    let Some(text) = pages.get(name) else {
        let known: Vec<&str> = pages.keys().map(String::as_str).collect();
        return Err(format!("there is no page {name:?}; there are {}", known.join(", ")).into());
    };
    let mut filled = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((key, tail)) = after.split_once("}}") else {
            break;
        };
        filled.push_str(before);
        match values.get(key.trim()) {
            Some(value) => filled.push_str(&escaped(&value.to_string())),
            None => return Err(format!("{name} wants a value for {:?}", key.trim()).into()),
        }
        rest = tail;
    }
    filled.push_str(rest);
    Ok(filled.into())
}

/// Text as it may stand in a page.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    escape_html(&mut safe, text).expect("writing to a String never fails");
    safe
}
