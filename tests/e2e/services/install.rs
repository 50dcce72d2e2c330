//! `serin install`: a unit that systemd takes, and that is not written over by surprise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use anyhow::{Context, Result};
use serin_tests::Serin;

/// Runs it with a home of its own.
fn install(serin: &Serin, args: &[&str]) -> Result<(bool, String)> {
    let mut all = vec!["install"];
    all.extend(args);
    let mut command = serin.command(&all)?;
    command.env("XDG_CONFIG_HOME", serin.dir().join("config"));
    command.env_remove("XDG_RUNTIME_DIR");
    let output = command.output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8(said)?))
}

#[test]
fn a_unit_is_written_once_and_systemd_takes_it() -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("serin 100% test")
        .tempdir()?;
    let serin = Serin::prepared(folder.path())?;
    let (_, printed) = install(&serin, &["--print"])?;
    assert!(printed.contains("KillMode=process"), "{printed}");
    let (is_done, said) = install(&serin, &[])?;
    assert!(is_done && said.contains("enable --now serin-"), "{said}");
    assert!(!said.contains("systemd-analyze says"), "{said}");
    let units = folder.path().join("config/systemd/user");
    let unit = fs::read_dir(&units)?.next().context("a unit")??.path();
    if let Ok(verified) = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&unit)
        .output()
    {
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success(), "{said}");
    }
    assert!(install(&serin, &[])?.0, "the same once more");
    let (is_done, said) = install(&serin, &["--listen", "127.0.0.1:0"])?;
    assert!(!is_done && said.contains("--force"), "{said}");
    assert!(install(&serin, &["--listen", "127.0.0.1:0", "--force"])?.0);
    let joined = [
        "--bus",
        "nats://me:secret@10.0.0.5:4222",
        "--single",
        "--force",
    ];
    assert!(install(&serin, &joined)?.0);
    let text = fs::read_to_string(&unit)?;
    assert!(
        text.contains("--single") && !text.contains("secret"),
        "{text}"
    );
    let environment = text
        .lines()
        .find_map(|line| line.strip_prefix("EnvironmentFile="));
    let environment = environment
        .context("the unit names the file")?
        .replace("%%", "%");
    let mode = fs::metadata(&environment)?.permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let said = fs::read_to_string(environment)?;
    assert_eq!(said, "SERIN_BUS=\"nats://me:secret@10.0.0.5:4222\"\n");
    Ok(())
}
