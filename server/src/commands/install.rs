//! `serin install`: a systemd unit that keeps `serin up` of a folder running.
//!
//! The unit is a function of values ([`unit`]); around it are where it goes, systemd's own check of
//! it, and what to do next.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use serin_control::confine::MAIN;

use super::{print, remark};
use crate::cli::{Global, Install};

/// What of our environment the unit keeps: programs that run in this shell run there too.
const KEPT: [&str; 2] = ["PATH", "SERIN_NATS_SERVER"];

/// Before, a unit whose cgroup has groups of instances could not be started again after a crash.
const SUBGROUPS_SINCE: u32 = 254;

pub(crate) fn run(global: &Global, install: &Install) -> Result<()> {
    let dir = std::path::absolute(&install.dir).context("cannot tell where we are")?;
    let dir = dir
        .canonicalize()
        .with_context(|| format!("{} is no folder", dir.display()))?;
    let kept = KEPT.iter().filter_map(|name| {
        let value = std::env::var_os(name)?.into_string().ok()?;
        Some(((*name).to_owned(), value))
    });
    let wanted = Wanted {
        program: std::env::current_exe().context("cannot tell where this program is")?,
        listen: install.listen.to_string(),
        gateway: install.gateway.to_string(),
        environment: kept.collect(),
        user: install.system.then(user).transpose()?,
        delegates: systemd_version().is_some_and(|version| version >= SUBGROUPS_SINCE),
        dir,
    };
    if !wanted.delegates {
        remark(&format!(
            "note: services cannot have a cgroup each: that takes systemd {SUBGROUPS_SINCE} or newer"
        ));
    }
    let text = unit(&wanted);
    if install.print {
        print(text.trim_end());
        return Ok(());
    }
    let name = format!("serin-{}.service", name_of(&wanted.dir));
    let folder = match install.system {
        true => PathBuf::from("/etc/systemd/system"),
        false => config_dir()?.join("systemd/user"),
    };
    let file = folder.join(&name);
    if fs::read_to_string(&file).is_ok_and(|old| old != text) && !install.force {
        bail!(
            "{} is there and says something else; look at it, then write it anew with --force",
            file.display()
        );
    }
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&file, &text))
        .with_context(|| format!("cannot write {}", file.display()))?;
    if let Some(found) = verify(&file, install.system) {
        remark(&format!("note: systemd-analyze says of it:\n{found}"));
    }
    let systemctl = match install.system {
        true => "systemctl",
        false => "systemctl --user",
    };
    if global.json {
        print(&serde_json::json!({"unit": file, "name": name}).to_string());
        return Ok(());
    }
    print(&format!("wrote {}", file.display()));
    print(&format!(
        "to start it now and with the machine:\n  {systemctl} daemon-reload\n  {systemctl} enable --now {name}"
    ));
    if !install.system {
        print("to keep it running while you are not signed in:\n  loginctl enable-linger");
    }
    Ok(())
}

/// What goes into a unit.
#[derive(Debug)]
struct Wanted {
    program: PathBuf,
    dir: PathBuf,
    listen: String,
    gateway: String,
    environment: Vec<(String, String)>,
    /// Whom a unit of the system runs as.
    user: Option<String>,
    /// Whether its cgroup is Serin's to divide, so that instances can have limits.
    delegates: bool,
}

/// The text of a unit. Services, gateway and bus outlive a crash (`KillMode=process`) and are adopted
/// by the restart; a stop is SIGTERM, after which Serin ends them all itself.
fn unit(wanted: &Wanted) -> String {
    let program = quoted(&wanted.program.to_string_lossy());
    let dir = wanted.dir.to_string_lossy();
    let mut text = format!(
        "[Unit]\n\
         Description=Serin in {}\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=exec\n\
         ExecStart={program} up {} --listen {} --gateway {}\n\
         WorkingDirectory={}\n",
        specifiers(&dir),
        quoted(&dir),
        wanted.listen,
        wanted.gateway,
        specifiers(&dir),
    );
    for (name, value) in &wanted.environment {
        // Writing to a string cannot fail.
        let _written = writeln!(
            text,
            "Environment={}",
            quoted_plain(&format!("{name}={value}"))
        );
    }
    if let Some(user) = &wanted.user {
        let _written = writeln!(text, "User={user}");
    }
    text.push_str(
        "Restart=on-failure\n\
         RestartSec=1\n\
         KillMode=process\n\
         TimeoutStopSec=60\n\
         LimitNOFILE=16384\n",
    );
    if wanted.delegates {
        let _written = write!(text, "Delegate=memory cpu\nDelegateSubgroup={MAIN}\n");
    }
    text.push_str("\n[Install]\n");
    let target = match wanted.user {
        Some(_) => "multi-user.target",
        None => "default.target",
    };
    let _written = writeln!(text, "WantedBy={target}");
    text
}

/// A word of a command line, as systemd reads it.
fn quoted(text: &str) -> String {
    quoted_plain(text).replace('$', "$$")
}

/// A quoted word in which `$` means nothing.
fn quoted_plain(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", specifiers(&escaped))
}

/// `%` begins a specifier.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// The folder's name in letters that a unit's name may have.
fn name_of(dir: &Path) -> String {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let plain = |c: char| match c.is_ascii_alphanumeric() || "-_.".contains(c) {
        true => c,
        false => '-',
    };
    name.chars().map(plain).collect()
}

fn config_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    let home = std::env::var_os("HOME").context("HOME is not set; use --print, or set it")?;
    Ok(PathBuf::from(home).join(".config"))
}

/// Whom a unit of the system is to run as: whoever calls sudo, else whoever runs this.
fn user() -> Result<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var_os(name)?.into_string().ok())
        .filter(|user| !user.is_empty())
        .context("USER is not set; set it to the user the service is to run as")
}

/// The version of this machine's systemd; `None` where it has none.
fn systemd_version() -> Option<u32> {
    let output = Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&output.stdout);
    // `systemd 252 (252.38-1~deb12u1)`
    said.split_whitespace().nth(1)?.parse().ok()
}

/// What systemd's own check finds; nothing where it is not there.
fn verify(file: &Path, is_system: bool) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    // Without a session there is no manager to ask as; what the system's says holds for both.
    if !is_system && std::env::var_os("XDG_RUNTIME_DIR").is_some() {
        command.arg("--user");
    }
    let output = command.arg("verify").arg(file).output().ok()?;
    let found = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let is_wrong = !output.status.success() && !found.is_empty();
    is_wrong.then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_would_read_otherwise_is_escaped() {
        let wanted = Wanted {
            program: PathBuf::from("/opt/my tools/serin"),
            dir: PathBuf::from("/data/100% \"shop\" $HOME"),
            listen: "127.0.0.1:7070".to_owned(),
            gateway: "127.0.0.1:8080".to_owned(),
            environment: vec![("PATH".to_owned(), "/a b:/c$d".to_owned())],
            user: Some("ada".to_owned()),
            delegates: true,
        };
        let text = unit(&wanted);
        for line in [
            r#"ExecStart="/opt/my tools/serin" up "/data/100%% \"shop\" $$HOME" --listen 127.0.0.1:7070 --gateway 127.0.0.1:8080"#,
            r#"WorkingDirectory=/data/100%% "shop" $HOME"#,
            r#"Environment="PATH=/a b:/c$d""#,
            "User=ada",
            "DelegateSubgroup=serin-main",
            "WantedBy=multi-user.target",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert_eq!(name_of(&wanted.dir), "100---shop---HOME");
    }
}
