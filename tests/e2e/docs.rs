//! Every command of the README and the book runs, in the order of its page.
//!
//! The blocks marked `sh` of a page become one script in a fresh folder that has a copy of
//! `examples`. Readers keep `serin up` in a terminal of its own: here it goes to the background, at
//! a free port. Lines with `cargo xtask` build what is built already and are left out.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serin_tests::place;

/// The address the pages name.
const ADDRESS: &str = "http://127.0.0.1:7070";

/// What a script begins with. `up` waits for the server as a reader waits for its first line.
const PRELUDE: &str = r#"
set -euo pipefail
up() {
  command serin up "$@" --listen 127.0.0.1:0 >>up.log 2>&1 </dev/null &
  local dir=. arg
  for arg in "$@"; do case "$arg" in -*) ;; *) dir="$arg" ;; esac; done
  until [ -f "$dir/.serin/run.json" ] && SERIN_HTTP=$(sed -n 's/.*"http": "\([^"]*\)".*/\1/p' \
    "$dir/.serin/run.json") && curl -fs "$SERIN_HTTP/readyz" >/dev/null; do
    kill -0 $! 2>/dev/null || { cat up.log >&2; exit 1; }
    sleep 0.05
  done
}
# A reader types more slowly than saved files are noticed.
serin() {
  local tries=100
  case "$1" in kpi|render)
    until command serin "$@" >/dev/null 2>&1 || [ $((tries -= 1)) -eq 0 ]; do sleep 0.05; done ;;
  esac
  command serin "$@"
}
# Whatever a page leaves running ends with it.
ended() { for dir in . */; do [ -d "$dir/.serin" ] && serin down "$dir" >/dev/null || true; done; }
trap ended EXIT
"#;

#[tokio::test]
async fn every_command_of_the_book_runs() -> Result<()> {
    let mut pages = vec![place::repository().join("README.md")];
    for entry in fs::read_dir(place::repository().join("docs"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let mut failures = Vec::new();
    for page in &pages {
        if let Err(error) = run(page).await {
            failures.push(format!("{}: {error:#}", page.display()));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

async fn run(page: &Path) -> Result<()> {
    let script = script(&fs::read_to_string(page)?)?;
    if script.is_empty() {
        return Ok(());
    }
    let folder = tempfile::Builder::new().prefix("serin-docs-").tempdir()?;
    let examples = place::repository().join("examples");
    let copied = Command::new("cp")
        .arg("-r")
        .arg(examples)
        .arg(folder.path())
        .status()?
        .success();
    ensure!(copied, "cannot copy examples");
    let binary = place::serin()?;
    let beside = binary
        .parent()
        .context("a binary is in a folder")?
        .to_owned();
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let path = [beside]
        .into_iter()
        .chain(std::env::split_paths(&inherited));
    let output = tokio::process::Command::new("bash")
        .args(["-c", &format!("{PRELUDE}{script}")])
        .current_dir(folder.path())
        .env("PATH", std::env::join_paths(path)?)
        .env_remove("SERIN_SERVER")
        .env_remove("SERIN_TOKEN")
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "a command failed: {}\n{script}",
        said.trim()
    );
    Ok(())
}

/// The commands of a page, each told before it runs.
fn script(text: &str) -> Result<String> {
    let mut script = String::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        match (&mut block, line.trim_end()) {
            (None, "```sh") => block = Some(String::new()),
            (None, other) => ensure!(!other.starts_with("```sh"), "a block marked {other:?}"),
            (Some(lines), "```") => {
                script.push_str(lines);
                block = None;
            }
            (Some(lines), command) => {
                if command.starts_with("cargo xtask") {
                    continue;
                }
                let command = command.replace(ADDRESS, "$SERIN_HTTP");
                let command = match command.strip_prefix("serin up") {
                    Some(rest) => format!("up{rest}"),
                    None => command,
                };
                writeln!(lines, "{command}")?;
            }
        }
    }
    ensure!(block.is_none(), "a block does not end");
    Ok(script)
}

#[test]
fn commands_are_found_and_up_goes_to_the_background() -> Result<()> {
    let page =
        "text\n```sh\ncargo xtask up\nserin up shop\ncurl http://127.0.0.1:7070/healthz\n```\n";
    assert_eq!(script(page)?, "up shop\ncurl $SERIN_HTTP/healthz\n");
    assert!(script("```sh no-run\nx\n```").is_err());
    Ok(())
}
