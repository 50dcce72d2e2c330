//! Runs commands in steps and says which step is under way and how long it took.
//!
//! Output of a command goes straight through; a failing one fails its step, and the message has both.
//! Nothing here knows what a step is for. Start at [`run`].

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Says what is being done, and afterwards how long it took.
pub(crate) fn step<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("── {what}");
    let start = Instant::now();
    let done = body().with_context(|| what.to_owned())?;
    println!("   {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// Has every one of these done, also behind a failed one, so that one run tells of all that fail.
pub(crate) fn each<T>(
    things: impl IntoIterator<Item = T>,
    mut body: impl FnMut(T) -> Result<()>,
) -> Result<()> {
    let failed: Vec<String> = things
        .into_iter()
        .filter_map(|thing| body(thing).err())
        .map(|error| format!("{error:#}"))
        .collect();
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Says a fact in passing.
pub(crate) fn note(text: &str) {
    println!("   {text}");
}

/// Runs to the end; standard input is closed so that nothing can wait for an answer.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", shown(command));
    }
    Ok(())
}

/// Runs to the end and returns what was written, both streams together; prints nothing.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        bail!(
            "{} ended with {}: {}",
            shown(command),
            output.status,
            text.trim()
        );
    }
    Ok(text)
}

/// Whether a program of this name is on `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| is_file(&folder.join(program)))
}

fn is_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file())
}

fn shown(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        write!(text, " {}", arg.to_string_lossy()).expect("writing to a string cannot fail");
    }
    text
}
