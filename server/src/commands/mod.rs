//! What each command does, a file each. All but `check`, `config`, `schema` and
//! those that are hidden talk to a running server.

pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod decisions;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod emit;
pub(crate) mod flush;
pub(crate) mod gateway;
pub(crate) mod import;
pub(crate) mod install;
pub(crate) mod kpi;
pub(crate) mod launch;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod open;
pub(crate) mod query;
pub(crate) mod render;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod shim;
pub(crate) mod status;
pub(crate) mod token;

use std::io::Write;

/// Writes a line to the terminal; a reader that went away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    write_out(text.as_bytes());
    write_out(b"\n");
}

/// Writes bytes to the terminal as they are.
pub(crate) fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        tracing::debug!(%error, "nobody reads what is printed");
    }
}

/// Writes a remark beside the output.
pub(crate) fn remark(text: &str) {
    if let Err(error) = writeln!(std::io::stderr(), "{text}") {
        tracing::debug!(%error, "nobody reads what is remarked");
    }
}
