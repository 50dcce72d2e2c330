//! Collects what tests and benchmarks measured into a page under `docs/measured/`.
//!
//! A measuring program prints lines `serin-bench | what | measured | to reach | reached | test`; we run
//! it, pass its output on, and keep those lines. `reached` is the program's own judgement: `yes`, `no`,
//! or nothing; `test` says which one it was, where the program has many. On the page, the rows of what
//! ran replace its rows of before; all others stay, each with the day and commit of its run. Start at
//! [`Measured::collect`].

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::project::Project;
use crate::steps::read;

const MARK: &str = "serin-bench |";
const HEAD: &str = "| program | what | measured | to reach | reached | when |\n\
                    | --- | --- | --- | --- | --- | --- |\n";

/// One line of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    /// A benchmark, or a test of many.
    program: String,
    /// What, measured, to reach, whether it was reached.
    cells: [String; 4],
    /// Day and commit.
    when: String,
}

/// What a run of programs measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    rows: Vec<Row>,
    /// Programs that ran.
    ran: Vec<String>,
    /// Programs that failed.
    failed: Vec<String>,
}

impl Measured {
    /// Runs a program and keeps the rows it prints.
    pub(crate) fn collect(
        &mut self,
        project: &Project,
        name: &str,
        command: &mut Command,
    ) -> Result<()> {
        let when = now(project);
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
            let Some((test, cells)) = cells(&line) else {
                continue;
            };
            let program = if test.is_empty() {
                name.to_owned()
            } else {
                test
            };
            if !self.ran.contains(&program) {
                self.ran.push(program.clone());
            }
            let row = Row {
                program,
                cells,
                when: when.clone(),
            };
            if !self.rows.contains(&row) {
                self.rows.push(row);
            }
        }
        if !self.ran.iter().any(|ran| ran == name) {
            self.ran.push(name.to_owned());
        }
        if !child.wait()?.success() {
            self.rows.push(Row {
                program: name.to_owned(),
                cells: ["the program", "failed", "to pass", "no"].map(str::to_owned),
                when,
            });
            self.failed.push(name.to_owned());
        }
        Ok(())
    }

    /// Prints the rows of this run.
    pub(crate) fn show(&self) {
        println!("\n{}", table(&self.rows));
    }

    /// An error where a program failed or a target was missed; which.
    pub(crate) fn verdict(&self) -> Result<()> {
        let missed = self.rows.iter().filter(|row| row.cells[3] == "no");
        let missed: Vec<String> = missed
            .filter(|row| !self.failed.contains(&row.program))
            .map(|Row { cells, .. }| format!("{}: {}, to reach {}", cells[0], cells[1], cells[2]))
            .collect();
        ensure!(self.failed.is_empty(), "failed: {}", self.failed.join(", "));
        ensure!(missed.is_empty(), "missed:\n  {}", missed.join("\n  "));
        Ok(())
    }

    /// Merges the rows into `docs/measured/NAME.md`.
    pub(crate) fn write(&self, project: &Project, name: &str, title: &str) -> Result<()> {
        let folder = project.root.join("docs/measured");
        fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{name}.md"));
        let before = fs::read_to_string(&path).unwrap_or_default();
        let text = format!(
            "# {title}\n\nWritten by `cargo xtask {name}`, last on {}. Each row says of which day and \
             commit it is; `+changes` means that files were not committed yet. A target that was \
             missed says **no**.\n\n{}",
            machine(project),
            table(&merged(&before, self.rows.clone(), &self.ran))
        );
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        println!("written to docs/measured/{name}.md");
        Ok(())
    }
}

/// The rows of a page, those of the programs that ran replaced.
fn merged(page: &str, new: Vec<Row>, ran: &[String]) -> Vec<Row> {
    let lines = page.lines().skip_while(|line| !line.starts_with("| ---"));
    let mut rows: Vec<Row> = lines.skip(1).filter_map(row).collect();
    rows.retain(|row| !ran.contains(&row.program));
    rows.extend(new);
    rows.sort_by(|a, b| a.program.cmp(&b.program));
    rows
}

/// Reads a line of the page.
fn row(line: &str) -> Option<Row> {
    let inside = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<&str> = inside.split('|').map(str::trim).collect();
    let [program, what, measured, to_reach, reached, when] = cells[..] else {
        return None;
    };
    Some(Row {
        program: program.to_owned(),
        cells: [what, measured, to_reach, reached.trim_matches('*')].map(str::to_owned),
        when: when.to_owned(),
    })
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    for row in rows {
        let [what, measured, to_reach, reached] = &row.cells;
        let reached = match reached.as_str() {
            "no" => "**no**",
            other => other,
        };
        writeln!(
            text,
            "| {} | {what} | {measured} | {to_reach} | {reached} | {} |",
            row.program, row.when
        )
        .expect("a string takes all");
    }
    text
}

/// Test and cells of a line that a program printed; cells that are missing are empty.
fn cells(line: &str) -> Option<(String, [String; 4])> {
    let (_, rest) = line.split_once(MARK)?;
    let mut cells = rest.split('|').map(|cell| cell.trim().to_owned());
    let (what, measured) = (cells.next()?, cells.next()?);
    let mut next = || cells.next().unwrap_or_default();
    let cells = [what, measured, next(), next()];
    Some((next(), cells))
}

fn said(project: &Project, program: &str, args: &[&str]) -> String {
    let told = read(Command::new(program).args(args).current_dir(&project.root));
    told.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Day and commit. What the pages themselves say does not count as a change.
fn now(project: &Project) -> String {
    let changes = ["status", "--porcelain", "--", ".", ":!docs/measured"];
    format!(
        "{} {}{}",
        said(project, "date", &["-u", "+%Y-%m-%d"]),
        said(project, "git", &["rev-parse", "--short", "HEAD"]),
        if said(project, "git", &changes).is_empty() {
            ""
        } else {
            "+changes"
        }
    )
}

fn machine(project: &Project) -> String {
    format!(
        "{} with {} cores, {}",
        said(project, "uname", &["-sm"]),
        said(project, "nproc", &[]),
        memory()
    )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn made(program: &str, what: &str, reached: &str) -> Row {
        Row {
            program: program.to_owned(),
            cells: [what, "1 ms", "2 ms", reached].map(str::to_owned),
            when: "2026-01-01 abc".to_owned(),
        }
    }

    #[test]
    fn a_line_may_leave_its_last_cells_out() {
        let (test, cells) = cells("x serin-bench | a | 1 ms").expect("a row");
        assert_eq!(test, "");
        assert_eq!(cells, ["a", "1 ms", "", ""]);
        assert_eq!(super::cells("serin-bench"), None);
    }

    #[test]
    fn a_missed_target_is_an_error_that_names_it() {
        let of = |rows: &[Row]| Measured {
            rows: rows.to_vec(),
            ..Measured::default()
        };
        assert!(
            of(&[made("a", "x", "yes"), made("a", "y", "")])
                .verdict()
                .is_ok()
        );
        let missed = of(&[made("a", "x", "yes"), made("a", "y", "no")]).verdict();
        let told = missed.expect_err("y").to_string();
        assert_eq!(told, "missed:\n  y: 1 ms, to reach 2 ms");
    }

    #[test]
    fn rows_of_a_program_that_ran_replace_its_old_ones_and_others_stay() {
        let page = table(&[made("b", "old", "no"), made("a", "kept", "yes")]);
        assert!(page.contains("| **no** |"), "{page}");
        let rows = merged(&page, vec![made("b", "new", "")], &["b".to_owned()]);
        assert_eq!(rows, [made("a", "kept", "yes"), made("b", "new", "")]);
        // A program that ran and measured nothing has no rows.
        assert_eq!(merged(&page, vec![], &["a".to_owned(), "b".to_owned()]), []);
    }
}
