//! The bus: a server that can be started, one that runs, and whether it answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::Report;
use crate::run_file::RunFile;

/// A NATS server greets at once; one that takes longer hangs, or is out of reach.
const GREETS_WITHIN: Duration = Duration::from_secs(3);
/// The first word of the protocol, which the server says.
const GREETING: [u8; 4] = *b"INFO";

/// Looks at the bus of a folder; `run` is what a running server wrote down.
pub(super) async fn bus(data: &Path, run: Option<&RunFile>, report: &mut Report) {
    let beside = std::env::current_exe().ok();
    let named = std::env::var_os("SERIN_NATS_SERVER").map(PathBuf::from);
    let search_path = std::env::var_os("PATH");
    let found = serin_bus::find_server(
        named.as_deref(),
        beside.as_deref().and_then(Path::parent),
        search_path.as_deref(),
    );
    match found.await {
        Ok(binary) => report.ok(
            "bus",
            format!(
                "nats-server {} at {}",
                binary.version,
                binary.path.display()
            ),
        ),
        Err(error) => report.bad(
            "bus",
            error.to_string(),
            "a running bus goes on; the next start needs one",
        ),
    }
    if let Some(run) = run {
        match tokio::time::timeout(GREETS_WITHIN, greeted(&run.bus)).await {
            Ok(Ok(())) => report.ok("bus", "answers"),
            Ok(Err(error)) => report.bad("bus", format!("does not answer: {error:#}"), ADVICE),
            Err(_) => report.bad(
                "bus",
                format!("does not answer within {} s", GREETS_WITHIN.as_secs()),
                ADVICE,
            ),
        }
    }
    let was_started = data.join("bus/nats.pid").exists();
    match (run, serin_bus::running(data)) {
        (Some(_), Some(pid)) => report.ok("bus", format!("process {pid} runs")),
        (Some(_), None) if was_started => {
            report.warn("bus", "our own nats-server does not run", ADVICE);
        }
        (None, Some(pid)) => report.ok(
            "bus",
            format!("process {pid} runs without Serin and keeps what is published"),
        ),
        _ => {}
    }
}

const ADVICE: &str = "Serin starts its own bus again within half a minute; if it does not, look at .serin/bus/nats.log; \
                    a joined one is for who runs it";

/// Connects and waits for the first word.
async fn greeted(url: &str) -> Result<()> {
    let address = url.rsplit_once("://").map_or(url, |(_, address)| address);
    // Whoever has credentials in the address has them before the last `@`.
    let address = address
        .rsplit_once('@')
        .map_or(address, |(_, address)| address);
    let address = address.trim_end_matches('/');
    let mut stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("cannot connect to {address}"))?;
    let mut said = [0; GREETING.len()];
    stream.read_exact(&mut said).await?;
    ensure!(
        said == GREETING,
        "what listens at {address} is no NATS server"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn only_a_nats_server_greets() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let answering = tokio::spawn(async move {
            for said in ["INFO {}\r\n", "HTTP/1.1 200"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                stream.write_all(said.as_bytes()).await.expect("said");
            }
        });
        greeted(&format!("nats://user:pass@{address}/"))
            .await
            .expect("it greets");
        let other = greeted(&format!("nats://{address}"))
            .await
            .expect_err("HTTP");
        assert!(other.to_string().contains("no NATS server"), "{other}");
        answering.await.expect("both were answered");
        let gone = greeted(&format!("nats://{address}"))
            .await
            .expect_err("gone");
        assert!(gone.to_string().contains("cannot connect"), "{gone}");
    }
}
