//! What a KPI holds while it is computed, counted against the memory of all queries.
//!
//! DataFusion's pool sees its own operators only; cells, levels and tries that are gathered from what
//! they give out are reserved here, so that many groups end in an error and not in the system's.

use std::sync::Arc;

use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use crate::error::QueryError;
use crate::limits::Limits;

/// What is reserved ahead, so that not each event asks the pool.
const PIECE_BYTES: usize = 64 << 10;

/// A share of the memory of queries; given back when dropped.
pub(crate) struct Held {
    reservation: MemoryReservation,
    limit_bytes: usize,
    /// What finished scans hold.
    kept_bytes: usize,
}

impl Held {
    pub(crate) fn of(kpi: &str, pool: &Arc<dyn MemoryPool>, limits: &Limits) -> Held {
        Held {
            reservation: MemoryConsumer::new(format!("kpi {kpi}")).register(pool),
            limit_bytes: limits.memory_bytes,
            kept_bytes: 0,
        }
    }

    /// Says how much the scan under way holds by now. Cheap: the pool is asked for pieces at a time.
    pub(crate) fn now(&self, bytes: usize) -> Result<(), QueryError> {
        let all = self.kept_bytes.saturating_add(bytes);
        if all <= self.reservation.size() {
            return Ok(());
        }
        self.reservation
            .try_resize(all.saturating_add(PIECE_BYTES))
            .map_err(|_| QueryError::Memory {
                bytes: self.limit_bytes,
            })
    }

    /// What the scan holds stays, and the next one begins.
    pub(crate) fn keep(&mut self) {
        self.kept_bytes = self.reservation.size();
    }
}
