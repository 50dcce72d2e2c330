//! The few column types Serin stores, and what each is in Arrow and in DuckLake.

use arrow::datatypes::{DataType, Field, TimeUnit};

/// A named, typed column of a table; all columns may be null.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// The name, unique in its table without regard to case.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds. A column widens from `Int` to `Double` and in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Int,
    /// A 64-bit float.
    Double,
    /// UTF-8.
    Text,
    /// Microseconds since 1970 UTC.
    Time,
}

impl ColumnKind {
    /// The Arrow type.
    pub fn arrow(self) -> DataType {
        match self {
            ColumnKind::Bool => DataType::Boolean,
            ColumnKind::Int => DataType::Int64,
            ColumnKind::Double => DataType::Float64,
            ColumnKind::Text => DataType::Utf8,
            ColumnKind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The DuckLake type, as `ducklake_column.column_type` writes it.
    pub fn ducklake(self) -> &'static str {
        match self {
            ColumnKind::Bool => "boolean",
            ColumnKind::Int => "int64",
            ColumnKind::Double => "float64",
            ColumnKind::Text => "varchar",
            ColumnKind::Time => "timestamptz",
        }
    }

    /// Reads a DuckLake type; `None` for one Serin does not write.
    pub fn from_ducklake(name: &str) -> Option<ColumnKind> {
        [Self::Bool, Self::Int, Self::Double, Self::Text, Self::Time]
            .into_iter()
            .find(|kind| kind.ducklake() == name)
    }
}

impl Column {
    /// A column.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Column {
        Column {
            name: name.into(),
            kind,
        }
    }

    /// The Arrow field, nullable.
    pub fn field(&self) -> Field {
        Field::new(&self.name, self.kind.arrow(), true)
    }
}
