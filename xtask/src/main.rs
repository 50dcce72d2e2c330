//! The developers' commands, `cargo xtask COMMAND`: get what is missing, build, test, measure.
//!
//! Each command is a file or a function named like it; `project` knows where things are, `tools`
//! and `system` get programs, `bundle` builds the browser application, `steps` runs commands and says so.
//! Needs cargo; says plainly when node, python or Chromium are missing. Start at [`main`].

#![expect(
    clippy::print_stdout,
    reason = "a developers' command talks to its caller"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "this is a program's edge: time and environment enter here"
)]

mod bench;
mod bundle;
mod dist;
mod licences;
mod measured;
mod postgres;
mod project;
mod slow;
mod steps;
mod system;
mod test;
mod tidy;
mod tools;
mod up;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  up [-- ARGS]   get what is missing, build browser application and binary, run `serin up ARGS`;
                 without ARGS the example: examples/weblog with its log
  build          the same without running; prints where the binary is
  check          for each commit: formatting, clippy, the quick tests (at most 3 minutes)
  test [-- ARGS] get what is missing and run every test; ARGS go to the Rust test runner
  ci             formatting, clippy with warnings as errors, cargo deny, tidy, test
  slow [-- ARGS] the slow tiers of the tests; writes docs/measured/slow.md
  bench [NAME] [--profile P]  the benchmarks, or one; its rows replace those in docs/measured/bench.md
  dist [--profile P]  one archive to hand out: serin, nats-server, licences; says where it is
  tidy           ARCHITECTURE.md against the crates, sizes and contents of files
";

fn main() -> Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let command = if args.is_empty() {
        "help".to_owned()
    } else {
        args.remove(0)
    };
    if args.first().is_some_and(|arg| arg == "--") {
        args.remove(0);
    }
    if matches!(command.as_str(), "help" | "--help" | "-h") {
        println!("{HELP}");
        return Ok(());
    }
    if command == "fill" {
        return up::fill(&args);
    }
    let project = project::Project::find()?;
    match command.as_str() {
        "up" => up::up(&project, &args),
        "build" => up::build(&project).map(|binary| println!("{}", binary.display())),
        "check" => test::check(&project),
        "test" => test::test(&project, &args),
        "ci" => test::ci(&project),
        "slow" => slow::slow(&project, &args),
        "bench" => bench::bench(&project, &args),
        "dist" => dist::dist(&project, &args),
        "tidy" => tidy::tidy(&project),
        other => bail!("no command {other:?}\n\n{HELP}"),
    }
}
