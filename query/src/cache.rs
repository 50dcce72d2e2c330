//! Answers of KPIs, kept until newer ones push them out: many viewers of a panel cost one scan.
//!
//! An answer is known by plan, request and state of the data, so it is never a stale one. Those who
//! ask while it is computed wait for it; when the one that computes goes away, another takes over.
//! Bounded in bytes. Start at [`Cache::answer`].

use std::sync::Arc;

use serin_lake::Snapshot;
use tokio::sync::OnceCell;

use crate::error::QueryError;
use crate::kpi::{KpiAnswer, KpiPlan, KpiRequest, Series};
use crate::lru::Lru;

/// What one entry costs beside the texts and points in it: maps, cell and key, rounded up.
const ENTRY_BYTES: usize = 512;

/// The answers that are kept.
pub(crate) struct Cache {
    bytes_max: usize,
    kept: Lru<Key, Entry>,
}

#[derive(Clone)]
struct Entry {
    answer: Arc<OnceCell<KpiAnswer>>,
    /// As long as the plan lives no other can have its address.
    _plan: KpiPlan,
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
            kept: Lru::new(bytes_max),
        }
    }

    /// How much it keeps.
    pub(crate) fn bytes(&self) -> usize {
        self.kept.bytes()
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
        let asked_bytes = request_bytes(request);
        let entry = self.kept.get_or_put(&key, asked_bytes, || Entry {
            answer: Arc::default(),
            _plan: plan.clone(),
        });
        if let Some(answer) = entry.answer.get() {
            return Ok(answer.clone());
        }
        let answer = entry.answer.get_or_try_init(|| compute).await?;
        self.kept.weigh(&key, asked_bytes + answer_bytes(answer));
        Ok(answer.clone())
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
    use std::collections::BTreeMap;
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
    async fn what_is_larger_than_everything_is_answered_but_not_kept() {
        let (counted, plan) = (Counted::new(10_000), plan());
        for (points, computed) in [(50, 1), (50, 1), (10_000, 2), (10_000, 3)] {
            counted.ask(1, &plan, points as i64, points).await;
            assert_eq!(counted.computed(), computed);
        }
    }
}
