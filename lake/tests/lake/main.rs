//! The lake as others use it: what is committed is there exactly once, for us and for DuckDB.

mod duckdb;
mod faults;
mod kit;
mod readers;
mod tidy;
