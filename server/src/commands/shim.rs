//! `serin shim`: the process that owns the instances of one service and outlives us.

use std::process::ExitCode;

use anyhow::{Context, Result};
use serin_control::shim::{ShimOptions, run};

use crate::cli::Shim;
use crate::edge;

pub(crate) fn main(shim: &Shim) -> Result<ExitCode> {
    // A session of its own: the terminal's Ctrl-C is for Serin, which stops us in order.
    rustix::process::setsid().context("cannot leave the terminal")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start")?;
    let options = ShimOptions {
        service: shim.service.clone(),
        socket: shim.socket.clone(),
        bus: shim.bus.clone(),
        now_us: edge::now_us,
    };
    runtime.block_on(run(options))?;
    Ok(ExitCode::SUCCESS)
}
