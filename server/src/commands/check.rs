//! `serin check`: faults in YAML, one a line as `file:line:column: what; what would be right`.
//!
//! Where a server has run in the folder, statements and KPIs are held against the columns of its lake.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serin_dashboards::Report;
use serin_lake::check::Audit;
use serin_lake::{Column, Known, Snapshot, TableView};

use super::{print, remark};
use crate::cli::{Check, Global};
use crate::run_file::data_dir;
use crate::settings::{self, Settings};

pub(crate) fn run(global: &Global, check: &Check) -> Result<ExitCode> {
    if !check.dir.is_dir() {
        bail!("{} is not a folder", check.dir.display());
    }
    let report = match tables(&check.dir)? {
        Some(snapshot) => serin_dashboards::check_with(&check.dir, &snapshot),
        None => serin_dashboards::check(&check.dir),
    };
    let report = with_the_rest(report, &check.dir);
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

/// Services and settings beside KPIs and dashboards.
pub(super) fn with_the_rest(mut report: Report, dir: &Path) -> Report {
    let services = serin_control::service::check(dir);
    report.files += services.files;
    report.problems.extend(services.problems);
    if dir.join(settings::FILE).exists() {
        report.files += 1;
    }
    if let Err(problems) = Settings::load(dir) {
        report.problems.extend(problems);
    }
    report
}

/// The tables of the folder's lake with their columns, as of the last flush; none where nothing ran
/// there yet.
fn tables(dir: &Path) -> Result<Option<Snapshot>> {
    let lake = data_dir(dir).join("lake");
    if !lake.join("catalogue.sqlite").is_file() {
        return Ok(None);
    }
    let audit = Audit::open(&lake).with_context(|| {
        format!(
            "cannot read the lake in {}; `serin doctor` says more",
            lake.display()
        )
    })?;
    let view = |(name, columns): (String, Vec<Column>)| {
        let view = TableView {
            name: name.clone(),
            columns,
            files: Vec::new(),
            fresh: Vec::new(),
            known: Known::default(),
        };
        (name, Arc::new(view))
    };
    Ok(Some(Snapshot {
        number: 0,
        version: 0,
        position: audit.position(),
        watermark_us: None,
        tables: audit.tables().into_iter().map(view).collect(),
    }))
}
