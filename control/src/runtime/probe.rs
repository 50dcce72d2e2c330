//! Asks an instance whether it takes work: by its port, or by a command in its environment.
//!
//! Beats are not asked for, they come by themselves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serin_wire::call;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::service::Ready;
use crate::shim::inherited;

/// One question takes no longer; the next follows at once.
const WITHIN: Duration = Duration::from_secs(2);

/// Whether the instance takes work now; `false` where it cannot be asked. A command is run in the
/// instance's folder and environment.
pub(super) async fn is_ready(
    ready: &Ready,
    port: Option<u16>,
    folder: &Path,
    env: &BTreeMap<String, String>,
) -> bool {
    let asked = async {
        match (ready, port) {
            (Ready::Started, _) => true,
            (Ready::Tcp, Some(port)) => TcpStream::connect(("127.0.0.1", port)).await.is_ok(),
            (Ready::Http(path), Some(port)) => {
                status(path, port).await.is_some_and(|status| status < 500)
            }
            (Ready::Run(command), _) => ends_well(command, folder, env).await,
            (Ready::Beat | Ready::Tcp | Ready::Http(_), _) => false,
        }
    };
    tokio::time::timeout(WITHIN, asked).await.unwrap_or(false)
}

/// The status of an answer to `GET path`.
async fn status(path: &str, port: u16) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: serin\r\n{}: {}\r\nConnection: close\r\n\r\n",
        call::TRACEPARENT,
        call::UNTRACED
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    // `HTTP/1.1 200`
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.ok()?;
    std::str::from_utf8(&head)
        .ok()?
        .strip_prefix("HTTP/1.")?
        .get(2..5)?
        .parse()
        .ok()
}

async fn ends_well(command: &[String], folder: &Path, env: &BTreeMap<String, String>) -> bool {
    let Some((program, arguments)) = command.split_first() else {
        return false;
    };
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(inherited())
        .envs(env)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    status.await.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that answers one connection with this.
    async fn answering(answer: &'static str) -> u16 {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_port_is_asked() {
        let env = BTreeMap::new();
        let http = Ready::Http(String::from("/"));
        for (answer, expected) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", true),
            ("HTTP/1.0 200 OK\r\n\r\n", true),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\n", false),
            ("SSH-2.0-OpenSSH\r\n", false),
            ("HTTP", false),
        ] {
            let port = answering(answer).await;
            assert_eq!(
                is_ready(&http, Some(port), Path::new("."), &env).await,
                expected,
                "{answer}"
            );
        }
        assert!(!is_ready(&http, None, Path::new("."), &env).await);
    }

    #[tokio::test]
    async fn a_command_is_run_in_the_environment_of_its_instance() {
        let env = BTreeMap::from([(String::from("PORT"), String::from("7"))]);
        let run = |program: &str| Ready::Run(vec![program.to_owned()]);
        let line = "[ \"$PORT\" = 7 ] && [ -z \"$CARGO_PKG_NAME\" ]";
        let asks = ["sh", "-c", line].map(str::to_owned);
        assert!(is_ready(&Ready::Run(asks.to_vec()), None, Path::new("."), &env).await);
        assert!(is_ready(&run("true"), None, Path::new("."), &env).await);
        assert!(!is_ready(&run("false"), None, Path::new("."), &env).await);
        assert!(!is_ready(&run("no-such-program"), None, Path::new("."), &env).await);
    }
}
