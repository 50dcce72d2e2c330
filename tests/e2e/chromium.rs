//! A Chromium that tests look through, driven by `tests/browser/chromium.mjs` over a pipe.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use serin_tests::place;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// A browser that cannot be reached is a failure, not a hang.
const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

/// Chromium with one page.
pub(crate) struct Browser {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Browser {
    pub(crate) fn start() -> Result<Browser> {
        let chosen = std::env::var("SERIN_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&folders).map(|folder| folder.join(&chosen));
        let path = found.into_iter().find(|path| path.is_file());
        let path = path.with_context(|| format!("no {chosen} on PATH; run `cargo xtask test`"))?;
        let mut child = Command::new("node")
            .arg(place::repository().join("tests/browser/chromium.mjs"))
            .env("SERIN_CHROMIUM_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start node")?;
        let input = child.stdin.take().context("a pipe")?;
        let output = child.stdout.take().context("a pipe")?;
        Ok(Browser {
            _child: child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    /// Gives a command and waits for its answer.
    pub(crate) async fn ask(&mut self, command: &str, given: Value) -> Result<Value> {
        let mut line = given.as_object().cloned().unwrap_or_else(Map::new);
        line.insert("command".to_owned(), Value::from(command));
        let text = format!("{}\n", Value::from(line.clone()));
        self.input.write_all(text.as_bytes()).await?;
        let answer = tokio::time::timeout(ANSWER_DEADLINE, self.output.next_line())
            .await
            .with_context(|| format!("no answer to {text}"))??;
        let mut answer: Value = serde_json::from_str(&answer.context("the browser went away")?)?;
        ensure!(answer.get("error").is_none(), "{text}: {}", answer["error"]);
        Ok(answer["ok"].take())
    }

    /// Opens a page.
    pub(crate) async fn open(&mut self, url: &str) -> Result<()> {
        self.ask("open", json!({"url": url})).await.map(drop)
    }

    /// Opens a dashboard, and waits until each panel has something to show.
    pub(crate) async fn dashboard(&mut self, url: &str) -> Result<()> {
        self.ask("dashboard", json!({"url": url})).await.map(drop)
    }

    pub(crate) async fn click(&mut self, selector: &str) -> Result<()> {
        let at = json!({"selector": selector});
        self.ask("click", at).await.map(drop)
    }

    /// Types a text into a field, in place of what was there.
    pub(crate) async fn fill(&mut self, selector: &str, text: &str) -> Result<()> {
        let given = json!({"selector": selector, "text": text});
        self.ask("type", given).await.map(drop)
    }

    /// Chooses a value of a list.
    pub(crate) async fn choose(&mut self, selector: &str, value: &str) -> Result<()> {
        let given = json!({"selector": selector, "value": value});
        self.ask("choose", given).await.map(drop)
    }

    pub(crate) async fn press(&mut self, keys: &[&str]) -> Result<()> {
        self.ask("press", json!({"keys": keys})).await.map(drop)
    }

    /// What an expression in the page comes to now.
    pub(crate) async fn tell(&mut self, expression: &str) -> Result<Value> {
        let asked = json!({"expression": expression});
        self.ask("tell", asked).await
    }

    /// Nothing went wrong in the page: no error, no warning.
    pub(crate) async fn is_faultless(&mut self) -> Result<()> {
        let faults = self.ask("faults", json!({})).await?;
        ensure!(faults == json!([]), "faults of the page: {faults}");
        Ok(())
    }

    /// Waits for an expression in the page; says how long it took.
    pub(crate) async fn until(&mut self, expression: &str) -> Result<Duration> {
        let answer = self.ask("until", json!({"expression": expression})).await?;
        Ok(Duration::from_secs_f64(
            answer["ms"].as_f64().unwrap_or_default() / 1000.0,
        ))
    }
}
