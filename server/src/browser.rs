//! The browser of who sits at this machine.

use std::process::{Command, Stdio};

/// Opens a link where there is a browser; it is printed in any case.
pub(crate) fn open(link: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let started = Command::new(program)
        .arg(link)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(error) = started {
        tracing::debug!(%error, program, "cannot open a browser");
    }
}
