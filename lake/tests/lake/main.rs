//! The lake as others use it: what is committed is there exactly once, for us and for DuckDB.

#![expect(clippy::unwrap_used, reason = "a test may stop at any error")]

mod bits;
mod duckdb;
mod faults;
mod kit;
mod readers;
mod tidy;
mod tokens;
