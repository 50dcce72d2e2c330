//! Every command of the README, the book and the examples runs, in the order of its page, as a
//! reader runs it.
//!
//! The blocks marked `sh` of a page become one script in a clone of its own: `serin` is on `PATH`
//! only where the page puts it there, nats-server is only where `cargo xtask` puts it, and ports are
//! those of the page, in a network of the script's own where the machine gives one. Readers keep
//! `up` in a terminal of its own: here it goes to the background. `cargo xtask` does everything but
//! build, which is done already, and run the tests, which are these.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serin_tests::place;
use serin_tests::report::skip;

/// What a script begins with. `up` waits for the server as a reader waits for its first line.
const PRELUDE: &str = r#"
set -euo pipefail
clone=$PWD
ready() {
  until [ -f "$1/.serin/run.json" ] && SERIN_HTTP=$(sed -n 's/.*"http": "\([^"]*\)".*/\1/p' \
    "$1/.serin/run.json") && curl -fs "$SERIN_HTTP/readyz" >/dev/null; do
    kill -0 "$2" 2>/dev/null || { cat "$clone/up.log" >&2; exit 1; }
    sleep 0.05
  done
}
# What it would fetch is there: the driver of databases.
pip() {
  [ "$1 $2 $3" = "install --quiet --target" ]
  mkdir -p "$4"
  cp -r "$SERIN_PSYCOPG"/. "$4"
}
cargo() {
  local command=$2
  shift 2
  case "$command" in
  up)
    xtask up "$@" & ready "$clone/examples/weblog" $!
    until grep -q "The example's log is in" "$clone/up.log"; do
      kill -0 $! || exit 1
      sleep 0.05
    done ;;
  build) xtask build ;;
  test) ;;
  *) echo "no test for cargo xtask $command" >&2; exit 1 ;;
  esac
}
xtask() {
  SERIN_BIN="$clone/target/up/serin" SERIN_NATS_SERVER="$NATS" CARGO_TARGET_DIR="$clone/target" \
    exec_in_subshell "$XTASK" "$@" >>"$clone/up.log" 2>&1 </dev/null
}
exec_in_subshell() { (cd "$clone" && exec "$@"); }
serin() {
  local tries=100 dir=. arg
  case "$1" in
  up)
    command serin "$@" >>"$clone/up.log" 2>&1 </dev/null &
    for arg in "${@:2}"; do case "$arg" in -*) ;; *) dir="$arg" ;; esac; done
    ready "$dir" $!
    return ;;
  # In a terminal of its own, until Ctrl-C once it is there.
  run)
    case " $* " in *" --print-env "*) ;; *)
      command serin "$@" >>"$clone/up.log" 2>&1 </dev/null &
      until command serin status | grep -q "$2-dev-1"; do
        kill -0 $! || exit 1
        sleep 0.05
      done
      kill -INT $!
      wait $!
      return ;;
    esac ;;
  # A reader types more slowly than saved files are noticed.
  kpi|render)
    until command serin "$@" >/dev/null 2>&1 || [ $((tries -= 1)) -eq 0 ]; do sleep 0.05; done ;;
  esac
  command serin "$@"
}
# Whatever a page leaves running ends with it.
ended() {
  for dir in "$clone" "$clone"/*/ "$clone"/examples/*/; do
    [ -d "$dir/.serin" ] && "$clone/target/up/serin" down "$dir" >/dev/null || true
  done
}
trap ended EXIT
"#;

/// What readers have done before they come to a page that does not say it itself.
const GOT_STARTED: &str = "cargo xtask build\nexport PATH=\"$clone/target/up:$PATH\"\n";

/// The page that has a PostgreSQL run.
const DATABASES: &str = "docs/databases.md";

/// Brings up the loopback of a new network and becomes the program that follows.
const LOOPBACK: &str = "import fcntl, socket, struct, sys, os
with socket.socket() as s:
    fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x49))
os.execvp(sys.argv[1], sys.argv[1:])";

#[tokio::test]
async fn every_command_of_the_book_runs() -> Result<()> {
    let root = place::repository();
    let mut pages = vec![root.join("README.md")];
    pages.extend(files(&root.join("docs"), "md")?);
    for example in fs::read_dir(root.join("examples"))? {
        pages.extend(files(&example?.path(), "md")?);
    }
    pages.sort();
    let mut failures = Vec::new();
    for page in &pages {
        if page.ends_with(DATABASES)
            && let Err(why) = place::postgres()
        {
            skip(DATABASES, &why)?;
            continue;
        }
        if let Err(error) = run(page).await {
            failures.push(format!("{}: {error:#}", page.display()));
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

fn files(folder: &Path, end: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == end) {
            found.push(path);
        }
    }
    Ok(found)
}

async fn run(page: &Path) -> Result<()> {
    let mut script = script(&fs::read_to_string(page)?)?;
    if script.is_empty() {
        return Ok(());
    }
    if !script.contains("cargo xtask") {
        script.insert_str(0, GOT_STARTED);
    }
    let folder = tempfile::Builder::new().prefix("serin-docs-").tempdir()?;
    clone_into(folder.path())?;
    let mut command = own_network();
    command
        .args(["bash", "-c", &format!("{PRELUDE}{script}")])
        .current_dir(folder.path())
        .env("PATH", plain_path()?)
        .env("XTASK", place::serin()?.with_file_name("xtask"))
        .env("NATS", place::nats_server()?)
        .stdin(Stdio::null());
    for name in [
        "SERIN_SERVER",
        "SERIN_TOKEN",
        "SERIN_NATS_SERVER",
        "SERIN_BIN",
    ] {
        command.env_remove(name);
    }
    let output = tokio::process::Command::from(command).output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    let log = fs::read_to_string(folder.path().join("up.log")).unwrap_or_default();
    ensure!(
        output.status.success(),
        "a command failed: {}\n{log}\n{script}",
        said.trim()
    );
    Ok(())
}

/// What `git clone` gives, and the binary as a build leaves it.
fn clone_into(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(place::repository())? {
        let path = entry?.path().canonicalize()?;
        let name = path.file_name().context("an entry has a name")?;
        match name.to_str() {
            Some(".git" | ".serin" | "target") => {}
            // Servers run in there, and their data stay out of the repository.
            Some("examples") => copy_tracked(&path, &folder.join(name))?,
            _ => symlink(&path, folder.join(name))?,
        }
    }
    let up = folder.join("target/up");
    fs::create_dir_all(&up)?;
    let built = place::serin()?;
    // A link of the hard kind: a program learns its real place, where it looks for nats-server.
    fs::hard_link(&built, up.join("serin"))
        .or_else(|_| fs::copy(&built, up.join("serin")).map(drop))?;
    Ok(())
}

/// Copies a folder without the data of servers that ran in it.
fn copy_tracked(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("an entry has a name")?);
        match path.is_dir() {
            true if path.ends_with(".serin") || path.ends_with("node_modules") => {}
            true => copy_tracked(&path, &target)?,
            false => drop(fs::copy(&path, &target)?),
        }
    }
    Ok(())
}

/// `PATH` with a PostgreSQL, and without the folders that have what a page must bring itself.
fn plain_path() -> Result<std::ffi::OsString> {
    let inherited = match place::postgres() {
        Ok(postgres) => postgres.path.into(),
        Err(_) => std::env::var_os("PATH").unwrap_or_default(),
    };
    let has = |folder: &PathBuf, name| folder.join(name).exists();
    let folders = std::env::split_paths(&inherited)
        .filter(|folder| !has(folder, "nats-server") && !has(folder, "serin"));
    Ok(std::env::join_paths(folders)?)
}

/// Runs what follows in a network of its own, so that the ports of the pages are free; where the
/// machine gives none, they must be free on the machine.
pub(crate) fn own_network() -> Command {
    let python = place::python().get_program().to_owned();
    for unshare in [&["--net"][..], &["--map-root-user", "--net"]] {
        let mut command = Command::new("unshare");
        command.args(unshare).arg("--").arg(&python);
        command.args(["-c", LOOPBACK]);
        let mut probe = Command::new("unshare");
        probe.args(command.get_args()).arg("true");
        if probe.output().is_ok_and(|output| output.status.success()) {
            return command;
        }
    }
    Command::new("env")
}

/// The commands of a page.
fn script(text: &str) -> Result<String> {
    let mut script = String::new();
    let mut is_inside = false;
    for line in text.lines() {
        match (is_inside, line.trim_end()) {
            (false, "```sh") => is_inside = true,
            (false, other) => ensure!(!other.starts_with("```sh"), "a block marked {other:?}"),
            (true, "```") => is_inside = false,
            (true, command) => writeln!(script, "{command}")?,
        }
    }
    ensure!(!is_inside, "a block does not end");
    Ok(script)
}

#[test]
fn commands_of_a_page_are_found() -> Result<()> {
    let page = "text\n```sh\ncargo xtask up\n```\n```yaml\nx\n```\n```sh\nserin status\n```\n";
    assert_eq!(script(page)?, "cargo xtask up\nserin status\n");
    assert!(script("```sh no-run\nx\n```").is_err());
    Ok(())
}

/// Rust on a page is compiled as an example of this crate's documentation (`src/lib.rs`).
#[test]
fn every_page_with_rust_is_compiled() -> Result<()> {
    let compiled = fs::read_to_string(place::repository().join("tests/src/lib.rs"))?;
    let mut pages = files(place::repository(), "md")?;
    pages.extend(files(&place::repository().join("docs"), "md")?);
    for page in pages {
        let name = page
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let has_rust = fs::read_to_string(&page)?.contains("```rust");
        if has_rust && !compiled.contains(&format!("{name}\")")) {
            bail!("{name} has Rust that nothing compiles; add it to tests/src/lib.rs");
        }
    }
    Ok(())
}
