//! Dashboards and KPIs in YAML: read, checked, watched, evaluated and drawn.
//!
//! Files come in, a [`Library`] goes out; a panel of it and a snapshot become [`PanelData`], which
//! the browser draws and `draw` turns into SVG and PNG. This crate never reads the lake itself and
//! never names the bus. Modules stand in the order a file passes them; start at [`load::Loader`].

mod spec;

mod builtin;
mod library;
mod model;
mod resolve;

mod check;
pub mod load;
mod watch;

pub mod variable;

pub mod evaluate;
pub mod marks;
mod panel_data;
mod shape;

pub mod draw;
pub mod format;

pub mod schema;

pub use builtin::text as built_in;
pub use check::{Report, check, check_with};
pub use library::Library;
pub use marks::Happened;
pub use model::{Dashboard, Draw, MarksOf, Panel, Source, Threshold};
pub use panel_data::{
    Axis, BarItem, Data, Mark, NO_VALUE, NamedSeries, PanelData, PanelError, PanelState, Point,
    TableColumn,
};
pub use spec::DefaultRange;
pub use variable::{Chosen, Variable};
pub use watch::Watch;
