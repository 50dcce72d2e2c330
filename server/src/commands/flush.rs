//! `serin flush`: every row taken so far is in a file when it ends.

use anyhow::Result;

use super::print;
use crate::cli::Global;
use crate::client::Client;

pub(crate) async fn run(global: &Global) -> Result<()> {
    Client::find(global)?.post("/api/v1/flush").await?;
    if global.json {
        print(r#"{"done":true}"#);
    }
    Ok(())
}
