//! `serin serve`: the instance of a service that is written as a page and a script.

use std::path::Path;

use anyhow::{Context, Result};
use serin_sdk::Serin;

use crate::cli::Serve;

pub(crate) async fn run(serve: &Serve) -> Result<()> {
    let serin = Serin::from_env().context(
        "`serin serve` is what service.yaml runs: `run: serin serve`, then `serin deploy`",
    )?;
    serin_script::serve(Path::new(&serve.folder), serin).await?;
    Ok(())
}
