//! Does what was planned: instances are started and ended by their shims, versions change their phase.
//!
//! A step that fails is told to the log and planned again. Start at [`Runtime::act`].

use std::sync::Arc;
use std::time::Duration;

use super::plan::{Action, SILENT};
use super::reconcile::{Runtime, RuntimeError, member};
use super::told::{Act, Reason};
use super::wanted::Phase;

impl Runtime {
    /// Does one thing.
    pub(super) async fn act(self: &Arc<Runtime>, action: &Action) -> Result<(), RuntimeError> {
        match action {
            Action::Enter {
                service,
                version,
                since_us,
                phase,
                why,
            } => self.enter(service, version, *since_us, *phase, why.clone()),
            Action::Start {
                service,
                version,
                number,
                replaces,
            } => {
                // One that failed a moment ago, by the same plan, is not tried once more.
                let of = self.kept.all().get(service).and_then(|wanted| {
                    let of = wanted.version(version).filter(|_| !wanted.is_stopped)?;
                    let is_run = matches!(of.phase, Phase::Starting | Phase::Serving);
                    is_run.then(|| (of.service.clone(), of.hash.clone()))
                });
                let Some((of, hash)) = of else { return Ok(()) };
                let member = member(service, version, *number);
                let seen = self.seen();
                let started = self
                    .shims
                    .start(&self.options, &of, &member, &hash, *number);
                let status = started.await?;
                self.options.serin.emit(
                    "serin.instance_started",
                    &serde_json::json!({
                        "of": service, "version": version, "instance": status.instance,
                        "replaces": replaces,
                    }),
                );
                if let Some(dead) = replaces {
                    let exit = seen.exit_of(service, dead).map(|exit| exit.to_string());
                    let act = Act::Replaces {
                        version,
                        instance: &status.instance,
                        dead,
                        exit: exit.as_deref(),
                    };
                    self.tell_act(service, act);
                }
                Ok(())
            }
            Action::Stop {
                service,
                instance,
                grace_ms,
                why,
            } => {
                let grace = Duration::from_millis(*grace_ms);
                self.shims.stop(service, instance, grace).await?;
                self.options.serin.emit(
                    "serin.instance_stopped",
                    &serde_json::json!({"of": service, "instance": instance, "why": why}),
                );
                if *why == SILENT {
                    self.tell_act(service, Act::IsSilent(instance));
                }
                Ok(())
            }
        }
    }

    fn enter(
        &self,
        service: &str,
        version: &str,
        since_us: i64,
        phase: Phase,
        why: Option<String>,
    ) -> Result<(), RuntimeError> {
        let now_us = (self.options.now_us)();
        let told = why.clone();
        let entered = self.kept.change(service, |wanted| {
            let reason = wanted.as_planned(version, since_us)?.reason;
            match phase {
                Phase::Starting => wanted.start(version, Reason::Restored, now_us),
                _ => wanted.enter(version, phase, now_us, why),
            }
            Some((reason, wanted.forget_old()))
        });
        let (reason, gone) = match entered {
            // Changed or removed since this was planned: what it needs now is planned next.
            Ok(None) | Err(RuntimeError::Unknown { .. }) => return Ok(()),
            Ok(Some(entered)) => entered,
            Err(error) => return Err(error),
        };
        for hash in gone {
            self.remove_copy(service, &hash);
        }
        match phase {
            Phase::Serving => self.tell_act(service, Act::Serves(version, reason)),
            Phase::Failed => {
                let why = told.as_deref().unwrap_or("it ended");
                self.tell_act(service, Act::Fails(Some(version), why));
            }
            Phase::Starting | Phase::Draining | Phase::Retired => {}
        }
        Ok(())
    }
}
