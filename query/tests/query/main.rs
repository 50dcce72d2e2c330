//! Tests of the whole crate over real Parquet files and a real worker process.

#![expect(clippy::unwrap_used, reason = "a test may stop at any error")]

mod bounds;
mod cases;
mod corpus;
mod damage;
mod examine;
mod fixture;
mod hostile;
mod kpi;
mod newest;
mod quantiles;
mod slide;
