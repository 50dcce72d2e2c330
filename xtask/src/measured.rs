//! Collects what tests and benchmarks measured and writes it as one table.
//!
//! A measuring program prints lines `serin-bench | what | measured | to reach`; we run it, pass its
//! output on, and keep those lines. Nothing here judges a number. Start at [`collect`].

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::project::Project;
use crate::steps::read;

const MARK: &str = "serin-bench |";

/// What a run of programs measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// What, measured, to reach.
    pub(crate) rows: Vec<[String; 3]>,
    /// Commands that failed.
    pub(crate) failed: Vec<String>,
}

impl Measured {
    /// Runs a program and keeps the rows it prints.
    pub(crate) fn collect(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let output = child
            .stdout
            .take()
            .context("standard output was asked for")?;
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("cannot read what {name} says"))?;
            println!("{line}");
            if let Some(row) = row(&line)
                && !self.rows.contains(&row)
            {
                self.rows.push(row);
            }
        }
        if !child.wait()?.success() {
            self.failed.push(name.to_owned());
        }
        Ok(())
    }

    /// The table as Markdown.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| what | measured | to reach |\n| --- | --- | --- |\n");
        for [what, measured, to_reach] in &self.rows {
            writeln!(text, "| {what} | {measured} | {to_reach} |").expect("a string takes all");
        }
        for name in &self.failed {
            writeln!(text, "| {name} | **failed** | to pass |").expect("a string takes all");
        }
        text
    }

    /// Writes `docs/measured/NAME.md`: when, where, of which commit, and the table.
    pub(crate) fn write(&self, project: &Project, name: &str, title: &str) -> Result<()> {
        let folder = project.root.join("docs/measured");
        fs::create_dir_all(&folder)?;
        let said = |program: &str, args: &[&str]| -> String {
            let told = read(Command::new(program).args(args).current_dir(&project.root));
            told.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
        };
        let text = format!(
            "# {title}\n\nMeasured {} at commit {} on {} with {} cores, {}. \
             Written by `cargo xtask {name}`.\n\n{}",
            said("date", &["-u", "+%Y-%m-%d"]),
            said("git", &["rev-parse", "--short", "HEAD"]),
            said("uname", &["-sm"]),
            said("nproc", &[]),
            memory(),
            self.table()
        );
        let path = folder.join(format!("{name}.md"));
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("\n{}\nwritten to docs/measured/{name}.md", self.table());
        Ok(())
    }
}

fn row(line: &str) -> Option<[String; 3]> {
    let (_, rest) = line.split_once(MARK)?;
    let mut cells = rest.split('|').map(|cell| cell.trim().to_owned());
    Some([
        cells.next()?,
        cells.next()?,
        cells.next().unwrap_or_default(),
    ])
}

fn memory() -> String {
    let text = fs::read_to_string(Path::new("/proc/meminfo")).unwrap_or_default();
    let total = text
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok());
    total.map_or_else(
        || "memory unknown".to_owned(),
        |kib| format!("{} GiB", kib >> 20),
    )
}
