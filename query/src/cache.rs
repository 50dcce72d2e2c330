//! Answers of KPIs, kept until newer ones push them out: many viewers of a panel cost one scan.
//!
//! An answer is known by plan, request and state of the data, so it is never a stale one. Those who
//! ask while it is computed wait for it; when the one that computes goes away, another takes over.
//! Bounded in bytes; what was not asked for longest goes first. Start at [`Cache::answer`].

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serin_lake::Snapshot;
use tokio::sync::OnceCell;

use crate::error::QueryError;
use crate::kpi::{KpiAnswer, KpiPlan, KpiRequest, Series};

/// What one entry costs beside the texts and points in it: maps, cell and key, rounded up.
const ENTRY_BYTES: usize = 512;

/// The answers that are kept.
pub(crate) struct Cache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, Entry>,
    /// From the one that was not asked for longest.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    answer: Arc<OnceCell<KpiAnswer>>,
    /// As long as the plan lives no other can have its address.
    _plan: KpiPlan,
    used: u64,
    bytes: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Its address.
    plan: usize,
    request: KpiRequest,
    /// The rows, the files, and up to when they are complete.
    state: (u64, u64, Option<i64>),
}

impl Cache {
    /// An empty one that keeps up to so many bytes; with 0 it keeps nothing.
    pub(crate) fn new(bytes_max: usize) -> Cache {
        Cache {
            bytes_max,
            kept: Mutex::default(),
        }
    }

    /// How much it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// The answer that is kept, or else the one that `compute` finds.
    pub(crate) async fn answer(
        &self,
        snapshot: &Snapshot,
        plan: &KpiPlan,
        request: &KpiRequest,
        compute: impl Future<Output = Result<KpiAnswer, QueryError>>,
    ) -> Result<KpiAnswer, QueryError> {
        if self.bytes_max == 0 {
            return compute.await;
        }
        let key = Key {
            plan: Arc::as_ptr(&plan.0) as usize,
            request: request.clone(),
            state: (snapshot.version, snapshot.number, snapshot.watermark_us),
        };
        let cell = self.cell(&key, plan);
        if let Some(answer) = cell.get() {
            return Ok(answer.clone());
        }
        let answer = cell.get_or_try_init(|| compute).await?;
        self.weigh(&key, answer_bytes(answer));
        Ok(answer.clone())
    }

    /// Where the answer is, or will be.
    fn cell(&self, key: &Key, plan: &KpiPlan) -> Arc<OnceCell<KpiAnswer>> {
        let mut kept = self.kept();
        kept.uses += 1;
        let now = kept.uses;
        if let Some(entry) = kept.entries.get_mut(key) {
            let before = std::mem::replace(&mut entry.used, now);
            let cell = Arc::clone(&entry.answer);
            kept.by_use.remove(&before);
            kept.by_use.insert(now, key.clone());
            return cell;
        }
        let cell = Arc::new(OnceCell::new());
        let entry = Entry {
            answer: Arc::clone(&cell),
            _plan: plan.clone(),
            used: now,
            bytes: request_bytes(&key.request),
        };
        kept.bytes += entry.bytes;
        kept.by_use.insert(now, key.clone());
        kept.entries.insert(key.clone(), entry);
        kept.shrink(self.bytes_max);
        cell
    }

    /// Counts an answer that has come, unless its entry has gone meanwhile.
    fn weigh(&self, key: &Key, answer_bytes: usize) {
        let mut kept = self.kept();
        let Some(entry) = kept.entries.get_mut(key) else {
            return;
        };
        let bytes = request_bytes(&key.request) + answer_bytes;
        let before = std::mem::replace(&mut entry.bytes, bytes);
        kept.bytes = kept.bytes - before + bytes;
        kept.shrink(self.bytes_max);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max {
            let Some((_, key)) = self.by_use.pop_first() else {
                return;
            };
            if let Some(entry) = self.entries.remove(&key) {
                self.bytes -= entry.bytes;
            }
        }
    }
}

fn request_bytes(request: &KpiRequest) -> usize {
    let texts = request.by.iter().chain(
        request
            .filters
            .iter()
            .flat_map(|(name, values)| values.iter().chain([name])),
    );
    // The key is there twice.
    ENTRY_BYTES
        + 2 * texts
            .map(|text| size_of::<String>() + text.len())
            .sum::<usize>()
}

fn answer_bytes(answer: &KpiAnswer) -> usize {
    let of_series = |series: &Series| {
        let by = series.by.iter().map(|(name, value)| {
            2 * size_of::<String>() + name.len() + value.as_ref().map_or(0, String::len)
        });
        let parts = series.parts.as_ref().map_or(0, Vec::len);
        size_of::<Series>()
            + by.sum::<usize>()
            + series.points.len() * size_of::<(i64, Option<f64>)>()
            + parts * size_of::<(Option<f64>, Option<f64>)>()
    };
    answer.series.iter().map(of_series).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::kpi::{self, Definition, ServedFrom};
    use crate::limits::Range;

    fn plan() -> KpiPlan {
        let definition = Definition::simple("orders", "order.paid", "count()", None);
        KpiPlan::clone(&kpi::compile(vec![definition]).unwrap()["orders"])
    }

    fn snapshot(version: u64) -> Snapshot {
        Snapshot {
            number: 1,
            version,
            position: Default::default(),
            watermark_us: None,
            tables: BTreeMap::new(),
        }
    }

    fn request(to_us: i64) -> KpiRequest {
        KpiRequest {
            range: Range { from_us: 0, to_us },
            step_us: None,
            by: vec!["country".to_owned()],
            filters: vec![],
            shift_us: 0,
            series_max: 10,
        }
    }

    fn answer(points: usize) -> KpiAnswer {
        let series = Series {
            by: vec![],
            points: vec![(0, Some(1.0)); points],
            parts: None,
            samples: 1,
        };
        KpiAnswer {
            name: "orders".to_owned(),
            unit: None,
            step_us: None,
            series: vec![series],
            coverage: 1.0,
            samples: 1,
            watermark_us: None,
            series_dropped: 0,
            served_from: ServedFrom::Raw,
        }
    }

    /// A cache that counts how often something was computed.
    struct Counted {
        cache: Cache,
        computed: AtomicUsize,
    }

    impl Counted {
        fn new(bytes_max: usize) -> Counted {
            Counted {
                cache: Cache::new(bytes_max),
                computed: AtomicUsize::new(0),
            }
        }

        async fn ask(&self, version: u64, plan: &KpiPlan, to_us: i64, points: usize) {
            let compute = async {
                self.computed.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                Ok(answer(points))
            };
            let snapshot = snapshot(version);
            let found = self
                .cache
                .answer(&snapshot, plan, &request(to_us), compute)
                .await;
            assert_eq!(found.unwrap(), answer(points));
        }

        fn computed(&self) -> usize {
            self.computed.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn many_viewers_cost_one_evaluation_until_something_changes() {
        let (counted, plan, same) = (Counted::new(1 << 20), plan(), self::plan());
        let at_once = (0..10).map(|_| counted.ask(1, &plan, 60, 1));
        futures::future::join_all(at_once).await;
        assert_eq!(counted.computed(), 1);
        counted.ask(1, &plan, 61, 1).await;
        counted.ask(2, &plan, 60, 1).await;
        counted.ask(1, &same, 60, 1).await;
        assert_eq!(counted.computed(), 4);
        counted.ask(2, &plan, 60, 1).await;
        assert_eq!(counted.computed(), 4);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let (counted, plan) = (Counted::new(1 << 20), plan());
        let fail = async { Err(QueryError::Worker(std::io::Error::other("gone"))) };
        let failed = counted
            .cache
            .answer(&snapshot(1), &plan, &request(60), fail)
            .await;
        assert!(failed.is_err());
        counted.ask(1, &plan, 60, 1).await;
        assert_eq!(counted.computed(), 1);
    }

    #[tokio::test]
    async fn the_longest_unused_goes_first_and_bytes_stay_bounded() {
        let bytes_max = 10_000;
        let (counted, plan) = (Counted::new(bytes_max), plan());
        for to_us in 0..100 {
            counted.ask(1, &plan, to_us, 50).await;
            counted.ask(1, &plan, 0, 50).await;
            let kept = counted.cache.kept();
            assert!(kept.bytes <= bytes_max);
            assert_eq!(kept.entries.len(), kept.by_use.len());
            let sum: usize = kept.entries.values().map(|entry| entry.bytes).sum();
            assert_eq!(sum, kept.bytes);
        }
        // The first was asked for all the time and is still there.
        assert_eq!(counted.computed(), 100);
        // One that is larger than everything is answered, but not kept.
        counted.ask(1, &plan, 1000, 10_000).await;
        counted.ask(1, &plan, 1000, 10_000).await;
        assert_eq!(counted.computed(), 102);
    }
}
