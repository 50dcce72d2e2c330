//! The lake as it rests on disk: its invariants, what was lost before it came in, and the clock its commits
//! were made by.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serin_lake::check::{Audit, CheckError, Lost};
use serin_wire::time::to_rfc3339;

use super::{AHEAD_S_MAX, Report, is_read_only};
use crate::edge;

/// A server at work has files that are not in the catalogue yet; a flush takes less than this.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Findings that are told one by one.
const SHOWN_MAX: usize = 20;
/// Older losses are told, but nothing is to be done about them any more: a week.
const RECENT_US: i64 = 7 * 86_400_000_000;

/// What a look at the lake found.
#[derive(Debug, Default)]
struct Looked {
    findings: BTreeSet<(&'static str, String)>,
    lost: Option<Lost>,
    last_commit_us: Option<i64>,
}

/// Every invariant of the lake, by a reader of its own, and what its catalogue remembers.
pub(super) async fn lake(dir: PathBuf, is_running: bool, report: &mut Report) -> Result<()> {
    if !dir.join("catalogue.sqlite").is_file() {
        report.ok("lake", "there is none yet");
        return Ok(());
    }
    let first = audited(dir.clone()).await?;
    let looked = match first {
        // What a server at work has not finished is gone at the second look.
        Ok(first) if is_running && !first.findings.is_empty() => {
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
            audited(dir.clone()).await?.map(|second| Looked {
                findings: &first.findings & &second.findings,
                ..second
            })
        }
        other => other,
    };
    match looked {
        Err(why) => unreadable(why, &dir, report),
        Ok(looked) => {
            invariants(&looked.findings, report);
            let now_us = edge::now_us();
            if let Some(lost) = &looked.lost {
                tell_lost(lost, now_us, report);
            }
            if let Some(last_us) = looked.last_commit_us {
                tell_ahead(last_us, now_us, report);
            }
        }
    }
    Ok(())
}

fn unreadable(why: String, dir: &Path, report: &mut Report) {
    // The catalogue's journal cannot be opened there, whatever is in it.
    let todo = match is_read_only(dir) {
        true => "nothing need be wrong with it: mount the file system for writing and ask again",
        false => "stop the server and restore the lake from a backup",
    };
    report.bad("lake", why, todo);
}

fn invariants(findings: &BTreeSet<(&'static str, String)>, report: &mut Report) {
    if findings.is_empty() {
        report.ok(
            "lake",
            "every invariant holds, every block has its checksum",
        );
        return;
    }
    for (invariant, what) in findings.iter().take(SHOWN_MAX) {
        report.bad("lake", format!("{invariant}: {what}"), todo_for(invariant));
    }
    if findings.len() > SHOWN_MAX {
        let more = format!("{} more findings", findings.len() - SHOWN_MAX);
        report.bad("lake", more, "");
    }
}

fn todo_for(invariant: &str) -> &'static str {
    match invariant {
        "I8" => {
            "the next `serin up` removes files that no catalogue row names; one that is missing must be restored"
        }
        "I12" => {
            "restore what is damaged from a backup; until then its rows are not served as data"
        }
        _ => "keep a copy of .serin/lake and tell us: this must never be",
    }
}

/// Messages that the bus had acknowledged and did not have any more.
fn tell_lost(lost: &Lost, now_us: i64, report: &mut Report) {
    let why = match lost.reason.as_str() {
        "purged" => "the stream was purged, or let its oldest go, before they were read",
        "regressed" => "the bus came back without its last messages",
        "wiped" => "the stream was wiped or replaced",
        other => other,
    };
    let told = format!(
        "{} messages of the bus were lost before they were read, the last at {}: {why}",
        lost.messages,
        to_rfc3339(lost.at_us)
    );
    match now_us.saturating_sub(lost.at_us) < RECENT_US {
        true => report.warn(
            "lost",
            told,
            "numbers of that time are too low: send these events again where their senders still have them",
        ),
        false => report.ok("lost", told),
    }
}

/// A commit that lies in the future was made by a clock that was ahead.
fn tell_ahead(last_us: i64, now_us: i64, report: &mut Report) {
    let ahead_s = last_us.saturating_sub(now_us) / 1_000_000;
    if ahead_s <= AHEAD_S_MAX {
        return;
    }
    let told = format!(
        "the lake was written at {}, {ahead_s} s in the future: the clock was ahead and was set back",
        to_rfc3339(last_us)
    );
    report.warn(
        "clock",
        told,
        "events of then have times that were not; nothing is deleted by age until a day after the clock was set",
    );
}

async fn audited(dir: PathBuf) -> Result<Result<Looked, String>> {
    let look = move || -> Result<Looked, CheckError> {
        let audit = Audit::open(&dir)?;
        let findings = audit.all()?.into_iter();
        Ok(Looked {
            findings: findings
                .map(|found| (found.invariant, found.what))
                .collect(),
            lost: audit.lost()?,
            last_commit_us: audit.last_commit_us()?,
        })
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let looked = looked.context("looking at the lake broke")?;
    Ok(looked.map_err(|error| format!("{:#}", anyhow::Error::new(error))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::State;
    use super::*;

    #[tokio::test]
    async fn a_lake_without_faults_is_found_so_and_one_that_is_none_is_bad() {
        let folder = tempfile::tempdir().expect("a folder");
        let options = serin_lake::LakeOptions {
            dir: folder.path().join("lake"),
            ..Default::default()
        };
        drop(serin_lake::Lake::open(options, 1).expect("opened"));
        let mut report = Report::default();
        lake(folder.path().join("lake"), false, &mut report)
            .await
            .expect("looked");
        assert_eq!(report.count(State::Ok), 1, "{report:?}");
        fs::write(folder.path().join("lake/catalogue.sqlite"), "no database").expect("written");
        lake(folder.path().join("lake"), false, &mut report)
            .await
            .expect("looked");
        assert_eq!(report.count(State::Bad), 1, "{report:?}");
        let todo = &report.findings[1].todo;
        assert!(todo.contains("backup"), "{todo}");
    }

    #[test]
    fn losses_and_commits_of_the_future_are_told() {
        let day_us = 86_400_000_000;
        let lost = |at_us| Lost {
            messages: 7,
            reason: String::from("regressed"),
            at_us,
        };
        let mut report = Report::default();
        tell_lost(&lost(39 * day_us), 40 * day_us, &mut report);
        tell_lost(&lost(0), 40 * day_us, &mut report);
        tell_ahead(40 * day_us, 40 * day_us, &mut report);
        tell_ahead(80 * day_us, 40 * day_us, &mut report);
        let states: Vec<State> = report.findings.iter().map(|found| found.state).collect();
        assert_eq!(states, [State::Warn, State::Ok, State::Warn], "{report:?}");
        let told = &report.findings[0].found;
        assert!(
            told.starts_with("7 messages of the bus were lost"),
            "{told}"
        );
        let told = &report.findings[2].found;
        assert!(told.contains("3456000 s in the future"), "{told}");
    }
}
