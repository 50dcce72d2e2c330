//! A lake with orders and nothing else.

use std::sync::Arc;

use serin_lake::{Column, ColumnKind, Known, Position, Snapshot, TableView};

/// See the module.
pub(crate) fn snapshot() -> Arc<Snapshot> {
    let table = TableView {
        name: String::from("order.paid"),
        columns: vec![
            Column::new("time", ColumnKind::Time),
            Column::new("amount", ColumnKind::Double),
        ],
        files: Vec::new(),
        fresh: Vec::new(),
        known: Known::default(),
    };
    Arc::new(Snapshot {
        number: 1,
        version: 1,
        position: Position::default(),
        watermark_us: None,
        tables: [(table.name.clone(), Arc::new(table))].into(),
    })
}
