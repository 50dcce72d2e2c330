//! The first steps of a folder that began with the first service: visitors, a kill, and closing it
//! all.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serin_control::runtime::Runtime;
use serin_ui::{FirstStepsView, Killed};

use super::visitors::Visitors;

/// How long visitors under way at a replacement may still take before it is counted who was lost.
const SETTLES_WITHIN: Duration = Duration::from_secs(5);
/// Between two looks whether they all have their answer.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What the panel is about.
pub(crate) struct FirstSteps {
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) service: &'static str,
    /// Where visitors come.
    pub(crate) url: String,
    pub(crate) visitors: Visitors,
    /// What DuckDB is told.
    pub(crate) attach: String,
    /// There once the panel was closed.
    pub(crate) closed_file: PathBuf,
}

impl FirstSteps {
    /// Returns once everyone who had come by now has an answer or lost patience.
    async fn settle(&self) {
        let sent = self.visitors.fared().sent;
        let settled = async {
            loop {
                let fared = self.visitors.fared();
                if fared.answered + fared.failed >= sent {
                    return;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Those who were sent away have no answer and never will.
        drop(tokio::time::timeout(SETTLES_WITHIN, settled).await);
    }
}

impl serin_ui::FirstSteps for FirstSteps {
    fn view(&self) -> FirstStepsView {
        let views = self.runtime.views().borrow().clone();
        let is_there = views.iter().any(|service| service.name == self.service);
        let fared = self.visitors.fared();
        FirstStepsView {
            is_open: is_there && !self.closed_file.exists(),
            service: self.service.to_owned(),
            url: self.url.clone(),
            attach: self.attach.clone(),
            are_coming: self.visitors.are_coming(),
            answered: fared.answered,
            failed: fared.failed,
        }
    }

    fn send_visitors(&self, are_wanted: bool) {
        self.visitors.send(are_wanted);
    }

    fn kill_one(&self) -> BoxFuture<'_, Result<Killed, String>> {
        Box::pin(async {
            let failed = self.visitors.fared().failed;
            let replaced = self.runtime.kill_one(self.service).await;
            let replaced = replaced.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
            let lost = if self.visitors.are_coming() {
                self.settle().await;
                Some(self.visitors.fared().failed - failed)
            } else {
                None
            };
            Ok(Killed {
                killed: replaced.killed,
                replacement: replaced.replacement,
                took_us: replaced.took_us,
                lost,
            })
        })
    }

    fn close(&self) -> Result<(), String> {
        std::fs::write(&self.closed_file, "").map_err(|error| {
            format!(
                "cannot write {} to remember that it is closed: {error}",
                self.closed_file.display()
            )
        })
    }
}
