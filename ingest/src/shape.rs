//! Which columns an event type has, and where each field of an event goes.
//!
//! The first value seen gives a column its type; integers widen to doubles. Nested keys join with
//! `_`, arrays are JSON text, an attribute named like a standard column gets `data_` before it.
//! What does not fit goes to `_rest` with the reason. A field repeated in one event keeps its first
//! value in the column, the others go to `_rest`, so that nothing is lost. Null equals absent.
//! Fields are found by guessing that they come in the order of the event before. Start at
//! [`Shape::place`].

use std::collections::{HashMap, HashSet};

use serin_lake::{Column, ColumnKind};

use crate::json::{Field, Kind, TOP, unescape};

/// The columns every table begins with.
pub(crate) const STANDARD: [(&str, ColumnKind); 7] = [
    ("time", ColumnKind::Time),
    ("id", ColumnKind::Text),
    ("service", ColumnKind::Text),
    ("version", ColumnKind::Text),
    ("instance", ColumnKind::Text),
    ("trace_id", ColumnKind::Text),
    ("_arm", ColumnKind::Text),
];
/// The column of what fits no other, as the text of a JSON object.
pub(crate) const REST: &str = "_rest";
/// Longest name of a column; DuckDB and Parquet take more, people do not.
const NAME_BYTES_MAX: usize = 128;
/// Keys remembered per column that is allowed. The others are found to belong to `_rest` each time.
const KEYS_PER_COLUMN: usize = 4;
/// Doubles hold integers exactly up to here.
const EXACT_MAX: u64 = 1 << 53;
const NO_KEY: u32 = u32::MAX;

/// Why a value went to `_rest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Misfit {
    /// The column has another type.
    Type,
    /// The name differs from another column's only in case.
    Case,
    /// The name cannot be a column's: empty, too long, control characters, half a surrogate pair.
    Name,
    /// A number neither an `i64` nor a double holds without loss.
    Number,
    /// A text with half a surrogate pair.
    Surrogate,
    /// An object that is empty or nested too deep.
    Nested,
    /// The field came before in the same event.
    Repeated,
}

impl Misfit {
    /// All, for counting.
    pub(crate) const ALL: [(Misfit, &'static str); 7] = [
        (Misfit::Type, "type"),
        (Misfit::Case, "case"),
        (Misfit::Name, "name"),
        (Misfit::Number, "number"),
        (Misfit::Surrogate, "surrogate"),
        (Misfit::Nested, "nested"),
        (Misfit::Repeated, "repeated"),
    ];
}

/// What becomes of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Cell {
    /// Null, or an object whose fields follow.
    Nothing,
    Bool(bool),
    Int(i64),
    Double(f64),
    /// The text as it stands.
    Text,
    /// The text once its escapes are undone.
    Escaped,
    /// The JSON text of an array.
    Json,
    Rest(Misfit),
}

/// A field's column, where it has one, and its value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Placed {
    pub(crate) column: u32,
    pub(crate) cell: Cell,
    key: u32,
}

/// The event has more attributes than its type may have columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TooManyColumns {
    pub(crate) name: String,
}

/// The columns of a type beyond the standard ones.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) columns: Vec<Column>,
    /// What a text column holds, beside `columns`.
    texts: Vec<Holds>,
    /// By name in lower case; standard columns have no place in `columns`.
    names: HashMap<String, Option<u32>>,
    keys: Vec<Key>,
}

/// A text column holds texts or arrays, so that the two can be told apart again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Known from the catalogue: the first value says.
    Either,
    Texts,
    Arrays,
}

/// A key at its place in the tree of keys.
#[derive(Debug)]
struct Key {
    parent: u32,
    raw: Box<str>,
    children: HashMap<Box<str>, u32>,
    home: Home,
    /// The key that came after this one last time.
    after: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Unknown,
    Column(u32),
    Rest(Misfit),
}

impl Key {
    fn new(parent: u32, raw: &str) -> Key {
        Key {
            parent,
            raw: raw.into(),
            children: HashMap::new(),
            home: Home::Unknown,
            after: NO_KEY,
        }
    }
}

impl Shape {
    /// A type with these attributes; standard columns among them are passed over.
    pub(crate) fn new(known: impl IntoIterator<Item = Column>) -> Shape {
        let standard = STANDARD.iter().map(|(name, _)| *name).chain([REST]);
        let mut shape = Shape {
            columns: Vec::new(),
            texts: Vec::new(),
            names: standard.map(|name| (name.to_owned(), None)).collect(),
            keys: vec![Key::new(NO_KEY, "")],
        };
        for column in known {
            if !is_standard(&column.name) {
                shape.add(column, Holds::Either);
            }
        }
        shape
    }

    /// All columns in the order readers see them.
    pub(crate) fn all_columns(&self) -> Vec<Column> {
        let standard = STANDARD.iter().map(|&(name, kind)| Column::new(name, kind));
        let rest = Column::new(REST, ColumnKind::Text);
        standard
            .chain(self.columns.iter().cloned())
            .chain([rest])
            .collect()
    }

    /// Finds the place of each field, making columns and widening them as needed. `placed` gets one
    /// entry for each field. On an error no column was made.
    pub(crate) fn place(
        &mut self,
        text: &str,
        fields: &[Field],
        columns_max: usize,
        placed: &mut Vec<Placed>,
    ) -> Result<(), TooManyColumns> {
        placed.clear();
        let columns_before = self.columns.len();
        let mut last = 0;
        for (at, field) in fields.iter().enumerate() {
            let parent = match field.parent {
                TOP => 0,
                place => placed[place as usize].key,
            };
            let key = self.key(last, parent, field.key.of(text), columns_max);
            let mut entry = Placed {
                column: 0,
                cell: Cell::Nothing,
                key,
            };
            if key != NO_KEY {
                last = key;
            }
            if !matches!(field.kind, Kind::Null | Kind::Object) {
                match self.settle(text, fields, at, key, columns_max) {
                    Ok((column, cell)) => {
                        entry.column = column;
                        entry.cell = cell;
                    }
                    Err(error) => {
                        self.forget_from(columns_before);
                        return Err(error);
                    }
                }
            }
            placed.push(entry);
        }
        Ok(())
    }

    /// The first attribute for which there is no room, as [`Shape::place`] would find it, without
    /// making any column.
    pub(crate) fn without_room(
        &self,
        text: &str,
        fields: &[Field],
        columns_max: usize,
    ) -> Option<TooManyColumns> {
        let room = columns_max.saturating_sub(self.columns.len());
        if fields.len() <= room {
            return None;
        }
        let mut new = HashSet::new();
        fields.iter().enumerate().find_map(|(at, field)| {
            let is_value = !matches!(field.kind, Kind::Null | Kind::Object);
            let is_new = is_value
                && self.known_home(text, fields, at) == Home::Unknown
                && first_of(field.kind, field.value.of(text)).0.is_some();
            let name = column_name(text, fields, at).filter(|_| is_new)?;
            new.insert(name.to_lowercase());
            (new.len() > room).then_some(TooManyColumns { name })
        })
    }

    /// The key below `parent`, guessed from the one before; [`NO_KEY`] where no more are remembered.
    fn key(&mut self, last: u32, parent: u32, raw: &str, columns_max: usize) -> u32 {
        if parent == NO_KEY {
            return NO_KEY;
        }
        let guess = self.keys[last as usize].after;
        if let Some(key) = self.keys.get(guess as usize)
            && key.parent == parent
            && *key.raw == *raw
        {
            return guess;
        }
        let found = match self.keys[parent as usize].children.get(raw) {
            Some(&found) => found,
            None if self.keys.len() > columns_max * KEYS_PER_COLUMN => return NO_KEY,
            None => {
                let made = self.keys.len() as u32;
                self.keys.push(Key::new(parent, raw));
                self.keys[parent as usize].children.insert(raw.into(), made);
                made
            }
        };
        self.keys[last as usize].after = found;
        found
    }

    fn settle(
        &mut self,
        text: &str,
        fields: &[Field],
        at: usize,
        key: u32,
        columns_max: usize,
    ) -> Result<(u32, Cell), TooManyColumns> {
        let field = &fields[at];
        let raw = field.value.of(text);
        let remembered = match self.keys.get(key as usize) {
            Some(key) => key.home,
            None => Home::Unknown,
        };
        let home = match remembered {
            Home::Unknown => self.known_home(text, fields, at),
            home => home,
        };
        let (home, cell) = match home {
            Home::Rest(misfit) => (home, Cell::Rest(misfit)),
            Home::Column(column) => (home, self.fit(column, field.kind, raw)),
            Home::Unknown => {
                let (kind, cell) = first_of(field.kind, raw);
                if let Some((kind, holds)) = kind {
                    let name = column_name(text, fields, at).unwrap_or_default();
                    if self.columns.len() >= columns_max {
                        return Err(TooManyColumns { name });
                    }
                    let column = self.add(Column::new(name, kind), holds);
                    (Home::Column(column), cell)
                } else {
                    (Home::Unknown, cell)
                }
            }
        };
        if let Some(key) = self.keys.get_mut(key as usize) {
            key.home = home;
        }
        let column = match home {
            Home::Column(column) => column,
            _ => 0,
        };
        Ok((column, cell))
    }

    /// Where a key belongs that is not remembered: a column there is, or `_rest` by its name.
    fn known_home(&self, text: &str, fields: &[Field], at: usize) -> Home {
        let Some(name) = column_name(text, fields, at) else {
            return Home::Rest(Misfit::Name);
        };
        match self.names.get(&name.to_lowercase()) {
            None => Home::Unknown,
            Some(Some(column)) if self.columns[*column as usize].name == name => {
                Home::Column(*column)
            }
            Some(_) => Home::Rest(Misfit::Case),
        }
    }

    /// Adds columns no value was seen for yet; names that are taken, in any case, are passed over.
    pub(crate) fn declare(&mut self, columns: Vec<Column>, columns_max: usize) {
        for column in columns {
            let is_taken = self.names.contains_key(&column.name.to_lowercase());
            if !is_taken && self.columns.len() < columns_max {
                self.add(column, Holds::Either);
            }
        }
    }

    fn add(&mut self, column: Column, holds: Holds) -> u32 {
        let place = self.columns.len() as u32;
        self.names.insert(column.name.to_lowercase(), Some(place));
        self.columns.push(column);
        self.texts.push(holds);
        place
    }

    fn forget_from(&mut self, columns: usize) {
        for column in self.columns.drain(columns..) {
            self.names.remove(&column.name.to_lowercase());
        }
        self.texts.truncate(columns);
        for key in &mut self.keys {
            if matches!(key.home, Home::Column(column) if column as usize >= columns) {
                key.home = Home::Unknown;
            }
        }
    }

    /// The value as the column takes it; widens the column where that is what it needs.
    fn fit(&mut self, column: u32, kind: Kind, raw: &str) -> Cell {
        let place = column as usize;
        let has = &mut self.columns[place].kind;
        match (kind, *has) {
            (Kind::Bool(value), ColumnKind::Bool) => Cell::Bool(value),
            (Kind::Int, ColumnKind::Int) => match raw.parse() {
                Ok(value) => Cell::Int(value),
                Err(_) => Cell::Rest(Misfit::Number),
            },
            (Kind::Int, ColumnKind::Double) => match raw.parse::<i64>() {
                Ok(value) if value.unsigned_abs() <= EXACT_MAX => Cell::Double(value as f64),
                _ => Cell::Rest(Misfit::Number),
            },
            (Kind::Double, ColumnKind::Int | ColumnKind::Double) => match finite(raw) {
                Some(value) => {
                    *has = ColumnKind::Double;
                    Cell::Double(value)
                }
                None => Cell::Rest(Misfit::Number),
            },
            (Kind::Text { is_escaped }, ColumnKind::Text) => {
                let holds = &mut self.texts[place];
                if *holds == Holds::Arrays {
                    return Cell::Rest(Misfit::Type);
                }
                let cell = text_cell(raw, is_escaped);
                if !matches!(cell, Cell::Rest(_)) {
                    *holds = Holds::Texts;
                }
                cell
            }
            (Kind::Array, ColumnKind::Text) if self.texts[place] != Holds::Texts => {
                self.texts[place] = Holds::Arrays;
                Cell::Json
            }
            (Kind::Closed, _) => Cell::Rest(Misfit::Nested),
            _ => Cell::Rest(Misfit::Type),
        }
    }
}

/// What column a first value makes, if any, and the value.
fn first_of(kind: Kind, raw: &str) -> (Option<(ColumnKind, Holds)>, Cell) {
    let made = |kind, cell| (Some((kind, Holds::Either)), cell);
    match kind {
        Kind::Bool(value) => made(ColumnKind::Bool, Cell::Bool(value)),
        Kind::Int => match raw.parse() {
            Ok(value) => made(ColumnKind::Int, Cell::Int(value)),
            Err(_) => (None, Cell::Rest(Misfit::Number)),
        },
        Kind::Double => match finite(raw) {
            Some(value) => made(ColumnKind::Double, Cell::Double(value)),
            None => (None, Cell::Rest(Misfit::Number)),
        },
        Kind::Text { is_escaped } => match text_cell(raw, is_escaped) {
            rest @ Cell::Rest(_) => (None, rest),
            cell => (Some((ColumnKind::Text, Holds::Texts)), cell),
        },
        Kind::Array => (Some((ColumnKind::Text, Holds::Arrays)), Cell::Json),
        Kind::Closed => (None, Cell::Rest(Misfit::Nested)),
        Kind::Null | Kind::Object => (None, Cell::Nothing),
    }
}

fn finite(raw: &str) -> Option<f64> {
    raw.parse::<f64>().ok().filter(|value| value.is_finite())
}

fn text_cell(raw: &str, is_escaped: bool) -> Cell {
    if !is_escaped {
        return Cell::Text;
    }
    // Only a `\u` can be half a pair; the others cannot fail.
    if raw.contains("\\u") && !unescape(raw, &mut String::new()) {
        return Cell::Rest(Misfit::Surrogate);
    }
    Cell::Escaped
}

fn is_standard(name: &str) -> bool {
    name == REST || STANDARD.iter().any(|(standard, _)| *standard == name)
}

/// The keys down to a field joined with `_`, escapes as written.
pub(crate) fn raw_path(text: &str, fields: &[Field], at: usize, out: &mut String) {
    let field = &fields[at];
    if field.parent != TOP {
        raw_path(text, fields, field.parent as usize, out);
        out.push('_');
    }
    out.push_str(field.key.of(text));
}

/// The name of the column a field belongs to; `None` where it cannot be one.
fn column_name(text: &str, fields: &[Field], at: usize) -> Option<String> {
    let mut raw = String::new();
    raw_path(text, fields, at, &mut raw);
    let mut name = String::new();
    if !unescape(&raw, &mut name) {
        return None;
    }
    if is_standard(&name) {
        name.insert_str(0, "data_");
    }
    let is_good = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control);
    is_good.then_some(name)
}
