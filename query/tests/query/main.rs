//! Tests of the whole crate over real Parquet files and a real worker process.

mod cases;
mod damage;
mod fixture;
mod hostile;
mod kpi;
