//! `serin gateway`: the process in front of web services, which outlives us.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serin_gateway::Options;
use serin_gateway::process::{ProcessOptions, run};

use crate::cli::Gateway;
use crate::edge;

/// Bodies are copied from socket to socket: two threads fill two cores.
const WORKER_THREADS: usize = 2;

pub(crate) fn main(gateway: &Gateway) -> Result<ExitCode> {
    // A session of its own: the terminal's Ctrl-C is for Serin, which ends us in order.
    rustix::process::setsid().context("cannot leave the terminal")?;
    let listener = std::io::stdin().as_fd().try_clone_to_owned();
    let listener = listener.context("`serin up` starts this, with a listener as standard input")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start")?;
    let options = ProcessOptions {
        listener: TcpListener::from(listener),
        socket: gateway.socket.clone(),
        bus: gateway.bus.clone(),
        build: edge::build()?,
        gateway: options(),
    };
    runtime.block_on(run(options))?;
    Ok(ExitCode::SUCCESS)
}

fn options() -> Options {
    // A word of a subject, so that dots must go.
    let version = format!("v{}", env!("CARGO_PKG_VERSION").replace('.', "-"));
    Options::new(version, edge::now_us, edge::random)
}
