//! Asks an instance whether it takes work: by its port, or by a command in its environment.
//!
//! Beats are not asked for, they come by themselves.

use std::collections::BTreeMap;
use std::io;
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
/// What is read of an answer behind its status; a front page has less.
const REST_BYTES_MAX: u64 = 1 << 20;
/// How long that may take; its status says what was asked.
const REST_WITHIN: Duration = Duration::from_millis(250);

/// Whether the instance takes work now, or what was seen instead. A command is run in the instance's
/// folder and environment.
pub(super) async fn look(
    ready: &Ready,
    port: Option<u16>,
    folder: &Path,
    env: &BTreeMap<String, String>,
) -> Result<(), String> {
    let asked = async {
        match (ready, port) {
            (Ready::Started, _) => Ok(()),
            (Ready::Tcp, Some(port)) => match connect(port).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("port {port} is not listened on ({error})")),
            },
            (Ready::Http(path), Some(port)) => match status(path, port).await {
                Ok(status) if status < 500 => Ok(()),
                Ok(status) => Err(format!("GET {path} answered {status}")),
                Err(error) => Err(format!("GET {path} on port {port} failed ({error})")),
            },
            (Ready::Run(command), _) => ends_well(command, folder, env).await,
            (Ready::Tcp | Ready::Http(_), None) => Err(String::from("it has no port")),
            (Ready::Beat, _) => Err(String::from(
                "no beat said that it takes work; a program without an SDK wants `port:` or `ready: started`",
            )),
        }
    };
    let looked = tokio::time::timeout(WITHIN, asked).await;
    looked.unwrap_or_else(|_| {
        Err(format!(
            "{} was not answered within {} s",
            asks(ready),
            WITHIN.as_secs()
        ))
    })
}

/// What an instance is asked, for people.
fn asks(ready: &Ready) -> String {
    match ready {
        Ready::Http(path) => format!("GET {path}"),
        Ready::Run(command) => format!("`{}`", command.join(" ")),
        Ready::Tcp => String::from("its port"),
        Ready::Started | Ready::Beat => String::from("it"),
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

/// The status of an answer to `GET path`.
async fn status(path: &str, port: u16) -> io::Result<u16> {
    let mut stream = connect(port).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: serin\r\n{}: {}\r\nConnection: close\r\n\r\n",
        call::TRACEPARENT,
        call::UNTRACED
    );
    stream.write_all(request.as_bytes()).await?;
    // `HTTP/1.1 200`
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    // The rest too: a program whose answer nobody takes logs that as an error of its own.
    let (mut rest, mut nowhere) = (stream.take(REST_BYTES_MAX), tokio::io::sink());
    let taking = tokio::io::copy(&mut rest, &mut nowhere);
    if tokio::time::timeout(REST_WITHIN, taking).await.is_err() {
        tracing::debug!(port, "an answer goes on behind its status");
    }
    let status = std::str::from_utf8(&head)
        .ok()
        .and_then(|head| head.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok());
    status.ok_or_else(|| io::Error::other("the answer is no HTTP"))
}

async fn ends_well(
    command: &[String],
    folder: &Path,
    env: &BTreeMap<String, String>,
) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(String::from("its command is empty"));
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
    let command = command.join(" ");
    match status.await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{command}` ended with {status}")),
        Err(error) => Err(format!("`{command}` cannot be run ({error})")),
    }
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
            ("HTTP/1.1 404 Not Found\r\n\r\n", Ok(())),
            ("HTTP/1.0 200 OK\r\n\r\n", Ok(())),
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n",
                Err("GET / answered 503"),
            ),
            ("SSH-2.0-OpenSSH\r\n", Err("the answer is no HTTP")),
            ("HTTP", Err("GET / on port")),
        ] {
            let port = answering(answer).await;
            let looked = look(&http, Some(port), Path::new("."), &env).await;
            match (looked, expected) {
                (Ok(()), Ok(())) => {}
                (Err(why), Err(part)) => assert!(why.contains(part), "{answer}: {why}"),
                (looked, _) => panic!("{answer}: {looked:?}"),
            }
        }
        let looked = look(&http, None, Path::new("."), &env).await;
        assert_eq!(looked, Err(String::from("it has no port")));
    }

    #[tokio::test]
    async fn a_command_is_run_in_the_environment_of_its_instance() {
        let env = BTreeMap::from([(String::from("PORT"), String::from("7"))]);
        let run = async |command: &[&str]| {
            let command = command.iter().copied().map(str::to_owned).collect();
            look(&Ready::Run(command), None, Path::new("."), &env).await
        };
        let line = "[ \"$PORT\" = 7 ] && [ -z \"$CARGO_PKG_NAME\" ]";
        assert_eq!(run(&["sh", "-c", line]).await, Ok(()));
        assert_eq!(run(&["true"]).await, Ok(()));
        assert_eq!(
            run(&["false"]).await,
            Err(String::from("`false` ended with exit status: 1"))
        );
        let absent = run(&["no-such-program", "x"]).await.expect_err("not there");
        assert!(
            absent.starts_with("`no-such-program x` cannot be run (No such file"),
            "{absent}"
        );
    }
}
