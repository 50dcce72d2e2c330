//! The greatest groups of an answer, as they are worked out one after the other; the rest is counted.
//!
//! A KPI may have a hundred thousand groups of which ten are shown: no more series are held than twice
//! those that are kept, however many there are. Pure; start at [`Ranked`].

use super::answer::{KpiAnswer, KpiRequest, Series, ServedFrom};
use super::plan::KpiPlan;

/// How many groups an answer keeps: those asked for, as long as `points_max` holds them all.
pub(crate) fn groups_max(
    request: &KpiRequest,
    points_per_group: usize,
    points_max: usize,
) -> usize {
    let fits = points_max / points_per_group.max(1);
    request.series_max.min(fits).max(1)
}

/// Series that belong together: one of most KPIs, one a step of a funnel.
struct Group {
    rank: f64,
    number: usize,
    series: Vec<Series>,
}

/// Takes groups in any order and keeps the greatest.
pub(crate) struct Ranked {
    groups_max: usize,
    kept: Vec<Group>,
    taken: usize,
    /// Which steps any series could be measured in.
    measured: Vec<bool>,
    samples: u64,
    series_dropped: usize,
}

impl Ranked {
    pub(crate) fn new(groups_max: usize, steps: usize) -> Ranked {
        Ranked {
            groups_max,
            kept: Vec::new(),
            taken: 0,
            measured: vec![false; steps],
            samples: 0,
            series_dropped: 0,
        }
    }

    /// The next group, with what it is ranked by.
    pub(crate) fn add(&mut self, rank: f64, series: Vec<Series>) {
        for series in &series {
            self.samples += series.samples;
            for (is_measured, (_, value)) in self.measured.iter_mut().zip(&series.points) {
                *is_measured |= value.is_some();
            }
        }
        let number = self.taken;
        self.taken += 1;
        self.kept.push(Group {
            rank,
            number,
            series,
        });
        // Cut only now and then: sorting costs each group a constant share.
        if self.kept.len() >= self.groups_max.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let order = |a: &Group, b: &Group| b.rank.total_cmp(&a.rank).then(a.number.cmp(&b.number));
        self.kept.sort_by(order);
        let left_out = self.kept.drain(self.groups_max.min(self.kept.len())..);
        self.series_dropped += left_out.map(|group| group.series.len()).sum::<usize>();
    }

    /// The answer, greatest groups first.
    pub(crate) fn answer(
        mut self,
        plan: &KpiPlan,
        request: &KpiRequest,
        watermark_us: Option<i64>,
    ) -> KpiAnswer {
        self.cut();
        let measured = self.measured.iter().filter(|measured| **measured).count();
        KpiAnswer {
            name: plan.name().to_owned(),
            unit: plan.unit().map(str::to_owned),
            step_us: request.step_us,
            series: self
                .kept
                .into_iter()
                .flat_map(|group| group.series)
                .collect(),
            coverage: measured as f64 / self.measured.len().max(1) as f64,
            samples: self.samples,
            watermark_us,
            series_dropped: self.series_dropped,
            served_from: ServedFrom::Raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(value: Option<f64>) -> Vec<Series> {
        vec![Series {
            by: vec![],
            points: vec![(0, value)],
            parts: None,
            samples: 1,
        }]
    }

    #[test]
    fn no_more_than_twice_the_kept_are_held() {
        let mut ranked = Ranked::new(3, 1);
        for rank in 0..1_000 {
            ranked.add(f64::from(rank % 500), series(Some(f64::from(rank))));
            assert!(ranked.kept.len() < 6);
        }
        ranked.cut();
        assert_eq!((ranked.series_dropped, ranked.samples), (997, 1_000));
        let values: Vec<_> = ranked
            .kept
            .iter()
            .map(|g| g.series[0].points[0].1)
            .collect();
        // Equals stand in the order they came.
        assert_eq!(values, [Some(499.0), Some(999.0), Some(498.0)]);
    }

    #[test]
    fn an_answer_has_so_many_points_and_no_more() {
        let request = KpiRequest {
            range: crate::limits::Range {
                from_us: 0,
                to_us: 1,
            },
            step_us: None,
            by: vec![],
            filters: vec![],
            shift_us: 0,
            series_max: 1_000,
        };
        assert_eq!(groups_max(&request, 1, 100_000), 1_000);
        assert_eq!(groups_max(&request, 300, 100_000), 333);
        assert_eq!(groups_max(&request, 100_001, 100_000), 1);
    }
}
