//! Services from a folder to running instances.
//!
//! `lifecycle` is the usual life, `dying` what callers notice of a death, `scaffolds` what `serin new`
//! writes, `saved` deploys on save, `load` deploys and deaths under load, `attempts` versions that do
//! not get ready, `busy` what a busy machine makes of the living, `upgrade` what Serin's own death and
//! upgrade do to visitors, `left` what a killed one leaves behind, `shown` what people see of instances,
//! `bad_input` what services should not do, `limits` what they may use, `written` what they write, `install`
//! the unit of systemd, `by_hand` joins instances from a terminal, `joined` is a bus of others, `micro` what
//! the official client sees of them, `dependency` has a PostgreSQL, `rolling` and `many` are measured.

mod attempts;
mod bad_input;
mod busy;
mod by_hand;
mod dependency;
mod dying;
mod install;
mod joined;
mod left;
mod lifecycle;
mod limits;
mod load;
mod many;
mod micro;
mod rolling;
mod saved;
mod scaffolds;
mod shown;
mod upgrade;
mod written;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serin_tests::Serin;
use serin_tests::wait::until;

pub(crate) const SOON: Duration = Duration::from_secs(20);
pub(crate) const TICKS: &str =
    "run: sh -c 'while :; do echo tick; sleep 0.2; done'\nready: started\n";

pub(crate) fn write(serin: &Serin, name: &str, yaml: &str) -> Result<()> {
    serin.write(&format!("services/{name}/service.yaml"), yaml)
}

/// A service in Python: `more` follows the line that runs it.
pub(crate) fn write_python(serin: &Serin, name: &str, more: &str, program: &str) -> Result<()> {
    write(serin, name, &format!("run: python3 main.py\n{more}"))?;
    serin.write(&format!("services/{name}/main.py"), program)
}

/// Name and process of each instance of a service that is in a state.
pub(crate) async fn instances(
    serin: &Serin,
    name: &str,
    state: &str,
) -> Result<BTreeSet<(String, u32)>> {
    let service = serin.get(&format!("/api/v1/services/{name}")).await?;
    let all = service["instances"].as_array().context("instances")?;
    let of = all.iter().filter(|one| one["state"] == state);
    of.map(|one| {
        let pid = one["pid"].as_u64().context("a process")?;
        let name = one["name"].as_str().context("a name")?;
        Ok((name.to_owned(), u32::try_from(pid)?))
    })
    .collect()
}

/// Waits until a service is in a state.
pub(crate) async fn becomes(serin: &Serin, name: &str, state: &str) -> Result<()> {
    until(&format!("{name} becomes {state}"), SOON, async || {
        let service = serin.get(&format!("/api/v1/services/{name}")).await?;
        Ok((service["state"] == state).then_some(()))
    })
    .await
}
