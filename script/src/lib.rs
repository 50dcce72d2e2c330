//! Services written as a script and its pages, run by Serin's own binary: `run: serin serve`.
//!
//! No interpreter and no build is needed to see one run or to change it. The language is Rhai; a
//! script has `fn web(request)` for the web, and `fn on_add(data)` for an endpoint `add` on the bus.
//! What it may use is bounded, and it reads no file but the pages beside it. Start at [`Script`].

mod answer;
mod functions;
mod script;
mod serve;

pub use answer::{Answer, Asked};
pub use script::{Script, ScriptError};
pub use serve::{ServeError, serve};
