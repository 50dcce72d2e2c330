//! The binary `serin`: reads the command line and does what it says.
//!
//! `serin up` wires all parts together (`up`); every other command talks to it over HTTP. Exit
//! codes: 0 done, 1 refused or failed, 2 usage.

mod browser;
mod cli;
mod client;
mod commands;
mod edge;
mod import;
mod propose;
mod run_file;
mod scaffold;
mod schemas;
mod sdk_files;
mod settings;
mod supporting;
mod table;
mod up;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use commands::{
    check, config, copy, decisions, doctor, down, emit, flush, gateway, import as import_command,
    install, kpi, launch, logs, new, open, query, remark, render, run as run_here, schema, serve,
    service, shim, status, token,
};

/// Threads for the sockets; queries and encoders have their own.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    let cli = Cli::read();
    start_log(&cli);
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            remark(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    // A worker, a check, the settings and schemas want no runtime and no server.
    match &cli.command {
        Command::Shim(args) => return shim::main(args),
        Command::Launch(args) => return launch::main(args),
        Command::Gateway(args) => return gateway::main(args),
        Command::QueryWorker => return Ok(serin_query::worker_main()),
        Command::Check(args) => return check::run(&cli.global, args),
        Command::Config(args) => return config::run(&cli.global, args),
        Command::Schema(args) => return schema::run(args).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()?;
    let global = &cli.global;
    runtime.block_on(async {
        match &cli.command {
            Command::Up(args) => Box::pin(up::run(global, args)).await?,
            Command::Down(args) => down::run(global, args).await?,
            Command::Emit(args) => emit::run(global, args).await?,
            Command::Import(args) => return import_command::run(global, args).await,
            Command::Open(args) => open::run(global, args).await?,
            Command::Query(args) => query::run(global, args).await?,
            Command::Kpi(args) => kpi::run(global, args).await?,
            Command::Render(args) => render::run(global, args).await?,
            Command::Decisions(args) => decisions::run(global, args).await?,
            Command::Copy(args) => copy::run(global, args).await?,
            Command::Flush => flush::run(global).await?,
            Command::Status(args) => status::run(global, args).await?,
            Command::Token(args) => token::run(global, args).await?,
            Command::Install(args) => install::run(global, args)?,
            Command::Doctor(args) => return doctor::run(global, args).await,
            Command::Logs(args) => logs::run(global, args).await?,
            Command::New(args) => new::run(global, args)?,
            Command::Serve(args) => serve::run(args).await?,
            Command::Deploy(args) => service::deploy(global, args).await?,
            Command::Run(args) => return run_here::run(global, args).await,
            Command::Rollback(args) => service::rollback(global, args).await?,
            Command::Stop(args) => service::stop(global, args).await?,
            Command::Rm(args) => service::remove(global, args).await?,
            Command::Check(_)
            | Command::Config(_)
            | Command::Schema(_)
            | Command::Shim(_)
            | Command::Gateway(_)
            | Command::Launch(_)
            | Command::QueryWorker => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Logs go to standard error; the server tells warnings unless asked for more.
fn start_log(cli: &Cli) {
    let level = match cli.global.verbose {
        // What async-nats says of each try to connect, the error says once.
        0 => "warn,async_nats::connector=off",
        1 => "info,async_nats=warn",
        _ => "debug,hyper=info,hyper_util=info,datafusion=info,sqlparser=info",
    };
    let filter = EnvFilter::try_from_env("SERIN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let is_read_by_people = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_read_by_people)
        .with_target(cli.global.verbose > 1);
    if cli.global.json {
        log.json().init();
    } else if matches!(cli.command, Command::Serve(_)) && !is_read_by_people {
        // The shim takes the lines of an instance apart, and has times of its own.
        log.json().flatten_event(true).without_time().init();
    } else {
        log.init();
    }
}
