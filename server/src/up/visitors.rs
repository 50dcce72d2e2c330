//! Visitors who come to the first service through the gateway while they are wanted, so that its
//! charts move before it has any of its own.
//!
//! A steady trickle that swells and ebbs over a minute; it ends by itself. Start at
//! [`Visitors::open`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

/// Between two visitors when most come: 25 a second, a hundredth of what the gateway bears.
const PAUSE: Duration = Duration::from_millis(40);
/// The wave of a day, in little.
const WAVE_S: f64 = 60.0;
/// Nobody forgets them running over night.
const ENDS_AFTER: Duration = Duration::from_secs(15 * 60);
/// Longer than an instance is replaced in; then the visitor has lost patience.
const PATIENCE: Duration = Duration::from_secs(10);
/// Visitors under way at a time; more do not come. Twenty-five a second that wait for ten.
const UNDER_WAY_MAX: usize = 250;
/// They say who they are.
const NAMES: [&str; 6] = ["Ada", "Grace", "Edsger", "Barbara", "Alan", "Radia"];

/// Whether they come, and how they fared.
#[derive(Debug)]
pub(crate) struct Visitors {
    are_wanted: watch::Sender<bool>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

/// How visitors fared since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fared {
    /// Those who came.
    pub(crate) sent: u64,
    /// Those who got what they asked for.
    pub(crate) answered: u64,
    /// Those who got an error or nothing.
    pub(crate) failed: u64,
}

impl Visitors {
    /// The switch, and the work behind it, which has to run beside it.
    pub(crate) fn open(url: String) -> (Visitors, impl Future<Output = ()> + Send + 'static) {
        let are_wanted = watch::Sender::new(false);
        let counts = Arc::<Counts>::default();
        let work = run(url, are_wanted.clone(), Arc::clone(&counts));
        (Visitors { are_wanted, counts }, work)
    }

    pub(crate) fn send(&self, are_wanted: bool) {
        self.are_wanted.send_replace(are_wanted);
    }

    pub(crate) fn are_coming(&self) -> bool {
        *self.are_wanted.borrow()
    }

    pub(crate) fn fared(&self) -> Fared {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Fared {
            sent: read(&self.counts.sent),
            answered: read(&self.counts.answered),
            failed: read(&self.counts.failed),
        }
    }
}

async fn run(url: String, are_wanted: watch::Sender<bool>, counts: Arc<Counts>) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build();
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            tracing::warn!(%error, "no visitors can come");
            return;
        }
    };
    let mut wanted = are_wanted.subscribe();
    while wanted.wait_for(|wanted| *wanted).await.is_ok() {
        let ends = Instant::now() + ENDS_AFTER;
        tokio::select! {
            () = come(&client, &url, &counts) => {}
            _ = wanted.wait_for(|wanted| !*wanted) => {}
            () = tokio::time::sleep_until(ends) => {
                are_wanted.send_replace(false);
            }
        }
    }
}

/// Visitors, one after the other, until dropped.
async fn come(client: &reqwest::Client, url: &str, counts: &Arc<Counts>) {
    let began = Instant::now();
    let mut ticks = tokio::time::interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut under_way = JoinSet::new();
    let mut due = 0.0;
    for number in 0_usize.. {
        ticks.tick().await;
        while under_way.try_join_next().is_some() {}
        due += share(began.elapsed().as_secs_f64());
        if due < 1.0 || under_way.len() >= UNDER_WAY_MAX {
            continue;
        }
        due -= 1.0;
        counts.sent.fetch_add(1, Ordering::Relaxed);
        let name = NAMES[number % NAMES.len()];
        let request = client.get(format!("{url}?name={name}"));
        let counts = Arc::clone(counts);
        under_way.spawn(async move {
            let answer = request.send().await;
            let is_good = answer.is_ok_and(|answer| answer.status().is_success());
            let count = if is_good {
                &counts.answered
            } else {
                &counts.failed
            };
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// How many of the most visitors come after so many seconds: a half to all.
fn share(after_s: f64) -> f64 {
    0.75 - 0.25 * (after_s / WAVE_S * std::f64::consts::TAU).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_swell_and_ebb_and_never_stay_away() {
        assert!((share(0.0) - 0.5).abs() < 1e-9);
        assert!((share(WAVE_S / 2.0) - 1.0).abs() < 1e-9);
        assert!((0..240).all(|quarter| (0.5..=1.0).contains(&share(f64::from(quarter) / 4.0))));
    }
}
