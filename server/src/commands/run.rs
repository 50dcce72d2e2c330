//! `serin run`: an instance of a service in this terminal, called beside the deployed ones.
//!
//! The server gives the name, the environment and the command, and holds the place as long as its
//! answer is open. At the end the instance leaves the routes before it is asked to stop. Start at
//! [`run`].

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use reqwest::{Method, Response};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde::Deserialize;
use serde_json::json;
use serin_control::shim::StopSignal;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::{print, remark};
use crate::cli::{Global, Run};
use crate::client::Client;

/// The pause between two attempts to join again, after the server went away.
const JOIN_AGAIN_EVERY: Duration = Duration::from_millis(500);
/// What the server says first is a line of this at most.
const PASS_BYTES_MAX: usize = 1 << 20;

/// What an instance needs, as the server says.
#[derive(Debug, Deserialize)]
struct Pass {
    instance: String,
    command: Vec<String>,
    build: Option<Vec<String>>,
    dir: PathBuf,
    env: BTreeMap<String, String>,
    stop_within_ms: u64,
    #[serde(default)]
    stop_signal: StopSignal,
}

/// The process of the instance.
#[derive(Debug)]
struct Instance {
    process: Option<Pid>,
    /// Whether it leads a group of its own; else it is in ours, with the terminal.
    has_group: bool,
}

pub(crate) async fn run(global: &Global, run: &Run) -> Result<ExitCode> {
    let client = Client::find(global)?;
    let (pass, held) = join(&client, run, None).await?;
    if run.print_env {
        print_env(global, &pass);
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(build) = &pass.build {
        remark(&format!("building: {}", build.join(" ")));
        let status = command(&pass, build)?.status().await;
        let status = status.with_context(|| format!("cannot start {:?}", build[0]))?;
        if !status.success() {
            bail!("the build of {} failed, {status}", run.name);
        }
    }
    let mut command = command(&pass, &pass.command)?;
    match run.interactive {
        // In our group, which has the terminal.
        true => command.stdin(Stdio::inherit()),
        false => command.process_group(0),
    };
    // Heard before there is an instance that would outlive us.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let child = command.kill_on_drop(true).spawn();
    let mut child = child.with_context(|| format!("cannot start {:?}", pass.command[0]))?;
    let process = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let instance = Instance {
        process,
        has_group: !run.interactive,
    };
    let how = match run.interactive {
        true => "what you type, Ctrl-C too, goes to it",
        false => "Ctrl-C ends it",
    };
    say(global, run, &pass, "started").await;
    remark(&format!(
        "{} runs beside the deployed instances of {}; {how}",
        pass.instance, run.name
    ));
    let asked = async {
        loop {
            tokio::select! {
                _ = interrupt.recv() => if !run.interactive { return },
                _ = terminate.recv() => return,
            }
        }
    };
    // The place is held until the instance has left it.
    let mut staying = pin!(stay(global, run, &pass, held));
    let status = tokio::select! {
        status = child.wait() => Some(status.context("cannot wait for the instance")?),
        () = asked => None,
        () = &mut staying => None,
    };
    let Some(status) = status else {
        // Without a server nobody routes to it.
        say(global, run, &pass, "leave").await;
        return end(&mut child, &instance, &pass).await;
    };
    // What it may have started itself.
    instance.tell(Signal::KILL);
    match status.success() || (run.interactive && was_interrupted(status)) {
        true => Ok(ExitCode::SUCCESS),
        false => bail!("{} ended by itself, {status}", pass.instance),
    }
}

/// Whether it ended by Ctrl-C, of which a terminal tells it too: by the signal, or as shells have it.
fn was_interrupted(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::INT.as_raw())
        || status.code() == Some(128 + Signal::INT.as_raw())
}

/// Asks the server for a place; the answer holds it.
async fn join(client: &Client, run: &Run, again: Option<&str>) -> Result<(Pass, Response)> {
    let path = format!("/api/v1/services/{}/run", run.name);
    // One that joins again has been running meanwhile.
    let asked = json!({
        "percent": run.percent, "instance": again, "held": !run.print_env, "started": again.is_some(),
    });
    let request = client.request(Method::POST, &path).json(&asked);
    let mut answer = client.send(request).await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let more = answer.chunk().await.context("the server went away")?;
        let more = more.context("the server stopped before it said what an instance needs")?;
        line.extend_from_slice(&more);
        if line.len() > PASS_BYTES_MAX {
            bail!("the server's answer is too long to be what an instance needs");
        }
    }
    let pass = serde_json::from_slice(&line).context("cannot understand the server's answer")?;
    Ok((pass, answer))
}

/// Holds the place for ever: joins again when the server was started anew.
async fn stay(global: &Global, run: &Run, pass: &Pass, held: Response) {
    let mut held = held.bytes_stream();
    loop {
        while let Some(Ok(_)) = held.next().await {}
        remark("the server went away; the instance goes on, and joins again when it is back");
        held = loop {
            tokio::time::sleep(JOIN_AGAIN_EVERY).await;
            // It may listen elsewhere now, with another token.
            let Ok(client) = Client::find(global) else {
                continue;
            };
            if let Ok((again, answer)) = join(&client, run, Some(&pass.instance)).await
                && again.instance == pass.instance
            {
                remark(&format!("{} is called again", pass.instance));
                break answer.bytes_stream();
            }
        };
    }
}

/// A command in the service's folder, with the environment of the instance.
fn command(pass: &Pass, words: &[String]) -> Result<Command> {
    let (program, arguments) = words.split_first().context("the command is empty")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(&pass.dir)
        .envs(&pass.env)
        // It is not in the terminal's foreground, so that Ctrl-C reaches it in order.
        .stdin(Stdio::null());
    Ok(command)
}

/// Tells the server that the instance has `started`, or is to `leave` the routes; returns once it has.
async fn say(global: &Global, run: &Run, pass: &Pass, what: &str) {
    let path = format!("/api/v1/services/{}/{what}", run.name);
    let asked = json!({"instance": pass.instance});
    let said = async {
        let client = Client::find(global)?;
        client
            .send(client.request(Method::POST, &path).json(&asked))
            .await
    };
    if let Err(error) = said.await {
        let meaning = match what {
            "leave" => "calls may still come",
            _ => "calls may not come",
        };
        remark(&format!("note: {meaning}: {error:#}"));
    }
}

/// Asks the instance to end, and ends it where it does not in time.
async fn end(child: &mut Child, instance: &Instance, pass: &Pass) -> Result<ExitCode> {
    instance.tell(pass.stop_signal.signal());
    let within = Duration::from_millis(pass.stop_within_ms);
    let is_over = tokio::time::timeout(within, child.wait()).await.is_ok();
    if !is_over {
        remark(&format!(
            "{} did not end within {} ms, and is killed",
            pass.instance, pass.stop_within_ms
        ));
    }
    instance.tell(Signal::KILL);
    child.wait().await.context("cannot wait for the instance")?;
    Ok(ExitCode::SUCCESS)
}

impl Instance {
    /// Sends a signal to the instance and, where it has a group of its own, to what it started.
    fn tell(&self, signal: Signal) {
        let Some(process) = self.process else { return };
        let told = match self.has_group {
            true => kill_process_group(process, signal),
            false => kill_process(process, signal),
        };
        if let Err(error) = told
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "cannot signal the instance");
        }
    }
}

/// `KEY=value` lines, quoted as a shell and most editors read them.
fn print_env(global: &Global, pass: &Pass) {
    if global.json {
        print(&json!(pass.env).to_string());
        return;
    }
    for (key, value) in &pass.env {
        print(&format!("{key}={}", quoted(value)));
    }
}

fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    match !value.is_empty() && value.chars().all(is_plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_where_a_shell_would_take_them_apart() {
        assert_eq!(
            quoted("nats://a:b@127.0.0.1:4222"),
            "nats://a:b@127.0.0.1:4222"
        );
        assert_eq!(quoted("two words"), "'two words'");
        assert_eq!(quoted("it's $HOME"), "'it'\\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
