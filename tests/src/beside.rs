//! A program that runs beside a test and is listened to, line by line.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;

/// It is killed when this is dropped.
#[derive(Debug)]
pub struct Beside {
    child: Child,
    lines: Lines<BufReader<Receiver>>,
}

impl Beside {
    /// Starts a program and listens to its standard output.
    pub fn output_of(mut command: Command) -> Result<Beside> {
        command.stdout(Stdio::piped());
        let mut child = started(command)?;
        let output = child.stdout.take().context("a pipe")?;
        listening(child, output.into_owned_fd()?)
    }

    /// Starts a program and listens to its standard error; its output is of no interest.
    pub fn remarks_of(mut command: Command) -> Result<Beside> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = started(command)?;
        let remarks = child.stderr.take().context("a pipe")?;
        listening(child, remarks.into_owned_fd()?)
    }

    /// Waits until it says a line with one of these words; the line.
    pub async fn says(&mut self, words: &[&str], deadline: Duration) -> Result<String> {
        let mut said = Vec::new();
        let told = tokio::time::timeout(deadline, async {
            while let Some(line) = self.lines.next_line().await? {
                if words.iter().any(|words| line.contains(words)) {
                    return anyhow::Ok(Some(line));
                }
                said.push(line);
            }
            Ok(None)
        });
        match told.await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => bail!("it ended with {said:?}, without one of {words:?}"),
            Ok(Err(error)) => Err(error.context("cannot hear what it says")),
            Err(_) => bail!("it said {said:?} for {deadline:?}, and none of {words:?}"),
        }
    }

    /// Listens to the rest; how it ended.
    pub async fn ended(mut self) -> Result<ExitStatus> {
        while self.lines.next_line().await?.is_some() {}
        Ok(self.child.wait().await?)
    }
}

fn started(command: Command) -> Result<Child> {
    let program = command.get_program().to_owned();
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let child = command.spawn();
    child.with_context(|| format!("cannot start {}", program.display()))
}

fn listening(child: Child, pipe: std::os::fd::OwnedFd) -> Result<Beside> {
    let lines = BufReader::new(Receiver::from_owned_fd(pipe)?).lines();
    Ok(Beside { child, lines })
}
