//! Commands that Serin gives itself; they are hidden from the help.

use std::path::PathBuf;

use clap::Args;

/// What a shim is told.
#[derive(Debug, Args)]
pub(crate) struct Shim {
    #[arg(long)]
    pub(crate) service: String,
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// With credentials, so never on the command line.
    #[arg(long, env = "SERIN_BUS", hide_env_values = true)]
    pub(crate) bus: String,
}

/// What a shim starts instead of a program that has limits.
#[derive(Debug, Args)]
pub(crate) struct Launch {
    #[arg(long = "group")]
    pub(crate) groups: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) data_bytes: Option<u64>,
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

/// The process in front of web services, which outlives `serin up`.
#[derive(Debug, Args)]
pub(crate) struct Gateway {
    #[arg(long)]
    pub(crate) socket: PathBuf,
    /// With credentials, so never on the command line.
    #[arg(long, env = "SERIN_BUS", hide_env_values = true)]
    pub(crate) bus: String,
}

/// What an instance of a script serves.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The folder with main.rhai.
    #[arg(default_value = ".")]
    pub(crate) folder: PathBuf,
}
