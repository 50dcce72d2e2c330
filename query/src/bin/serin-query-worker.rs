//! The query worker alone, for tests and benches; `serin query-worker` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    serin_query::worker_main()
}
