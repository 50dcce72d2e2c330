//! The few column types Serin stores, and what each is in Arrow and in DuckLake.

use std::fmt;
use std::str::FromStr;

use arrow::datatypes::{DataType, Field, TimeUnit};
use thiserror::Error;

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

/// Columns a table is to have even where no row has a value for them yet, as an import knows them.
///
/// Written `http.request:user=varchar,bytes=int64`, with DuckLake's names of types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// The event type.
    pub table: String,
    /// Names of ASCII letters, digits and `_`.
    pub columns: Vec<Column>,
}

/// The text does not declare columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("columns are declared as <type>:<name>=<kind>,…, such as http.request:user=varchar")]
pub struct DeclaredError;

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.table)?;
        for (at, column) in self.columns.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", column.name, column.kind.ducklake())?;
        }
        Ok(())
    }
}

impl FromStr for Declared {
    type Err = DeclaredError;

    fn from_str(text: &str) -> Result<Declared, DeclaredError> {
        let (table, columns) = text.split_once(':').ok_or(DeclaredError)?;
        let columns = columns.split(',').map(|column| {
            let (name, kind) = column.split_once('=').ok_or(DeclaredError)?;
            let is_name = (1..=64).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let kind = ColumnKind::from_ducklake(kind).ok_or(DeclaredError)?;
            is_name
                .then(|| Column::new(name, kind))
                .ok_or(DeclaredError)
        });
        Ok(Declared {
            table: table.to_owned(),
            columns: columns.collect::<Result<_, _>>()?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_columns_read_back() {
        let text = "http.request:user=varchar,bytes=int64";
        let declared: Declared = text.parse().expect("declared");
        assert_eq!(declared.table, "http.request");
        assert_eq!(declared.columns[1], Column::new("bytes", ColumnKind::Int));
        assert_eq!(declared.to_string(), text);
        for bad in [
            "",
            "a",
            "a:",
            "a:b",
            "a:b=text",
            "a:b c=varchar",
            "a:=varchar",
            "a:b=varchar,",
        ] {
            assert_eq!(bad.parse::<Declared>(), Err(DeclaredError), "{bad}");
        }
    }
}
