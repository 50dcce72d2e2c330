//! `serin check`: faults in YAML, one a line as `file:line:column: what; what would be right`.

use std::process::ExitCode;

use anyhow::{Result, bail};

use super::{print, remark};
use crate::cli::{Check, Global};
use crate::settings::{self, Settings};

pub(crate) fn run(global: &Global, check: &Check) -> Result<ExitCode> {
    if !check.dir.is_dir() {
        bail!("{} is not a folder", check.dir.display());
    }
    let mut report = serin_dashboards::check(&check.dir);
    if check.dir.join(settings::FILE).exists() {
        report.files += 1;
    }
    if let Err(problems) = Settings::load(&check.dir) {
        report.problems.extend(problems);
    }
    if global.json {
        print(&serde_json::to_string(&report.problems)?);
    } else {
        for problem in &report.problems {
            print(&problem.to_string());
        }
        let count = report
            .problems
            .iter()
            .filter(|problem| !problem.is_warning)
            .count();
        match count {
            0 => remark(&format!("{} files are right", report.files)),
            1 => remark("1 fault"),
            more => remark(&format!("{more} faults")),
        }
    }
    Ok(match report.has_errors() {
        true => ExitCode::from(1),
        false => ExitCode::SUCCESS,
    })
}
