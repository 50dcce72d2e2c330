//! `serin install`: a systemd unit that keeps `serin up` of a folder running.
//!
//! The unit is a function of values ([`unit`]); around it are where it goes, systemd's own check of
//! it, and what to do next. The address of a bus to join may have credentials, and units are for all
//! to read, so that it goes into a file for its owner alone.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use serin_control::confine::MAIN;

use super::{print, remark};
use crate::cli::{At, Global, Install};

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
    let name = format!("serin-{}", name_of(&dir));
    let places = Places::of(install.system)?;
    let secret = install.at.joined().map(|bus| Secret {
        file: places.secrets.join(format!("{name}.env")),
        text: format!("SERIN_BUS={}\n", quoted_secret(bus)),
    });
    let wanted = Wanted {
        options: options(&install.at),
        secrets: secret.as_ref().map(|secret| secret.file.clone()),
        program: std::env::current_exe().context("cannot tell where this program is")?,
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
        if let Some(secret) = &secret {
            let file = secret.file.display();
            remark(&format!(
                "note: {file} is to say SERIN_BUS=URL, readable by its owner alone"
            ));
        }
        return Ok(());
    }
    let name = format!("{name}.service");
    let file = places.units.join(&name);
    write(&file, &text, 0o644, install.force)?;
    if let Some(secret) = &secret {
        write(&secret.file, &secret.text, 0o600, install.force)?;
    }
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

/// Where files go.
struct Places {
    units: PathBuf,
    secrets: PathBuf,
}

impl Places {
    fn of(is_system: bool) -> Result<Places> {
        let (units, secrets) = match is_system {
            true => ("/etc/systemd/system".into(), "/etc/serin".into()),
            false => {
                let config = config_dir()?;
                (config.join("systemd/user"), config.join("serin"))
            }
        };
        Ok(Places { units, secrets })
    }
}

/// A file of environment that nobody else may read.
struct Secret {
    file: PathBuf,
    text: String,
}

/// Writes a file, unless it is there and says something else.
fn write(file: &Path, text: &str, mode: u32, is_forced: bool) -> Result<()> {
    if fs::read_to_string(file).is_ok_and(|old| old != text) && !is_forced {
        bail!(
            "{} is there and says something else; look at it, then write it anew with --force",
            file.display()
        );
    }
    let aside = file.with_extension("new");
    let written = || {
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        let mut options = fs::File::options();
        options.write(true).create(true).truncate(true).mode(mode);
        options.open(&aside)?.write_all(text.as_bytes())?;
        fs::rename(&aside, file)
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}

/// The options of `serin up` that the unit has; none of them is a secret.
fn options(at: &At) -> Vec<String> {
    let mut options = vec![
        format!("--listen {}", at.listen),
        format!("--gateway {}", at.gateway),
    ];
    options.extend(at.bus_port().map(|port| format!("--bus {port}")));
    options.extend(at.single.then(|| String::from("--single")));
    options.extend(at.watch.then(|| String::from("--watch")));
    options
}

/// What goes into a unit.
#[derive(Debug)]
struct Wanted {
    program: PathBuf,
    dir: PathBuf,
    options: Vec<String>,
    /// The file with what nobody else may read.
    secrets: Option<PathBuf>,
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
         ExecStart={program} up {} {}\n\
         WorkingDirectory={}\n",
        specifiers(&dir),
        quoted(&dir),
        wanted.options.join(" "),
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
    if let Some(secrets) = &wanted.secrets {
        let file = specifiers(&secrets.to_string_lossy());
        let _written = writeln!(text, "EnvironmentFile={file}");
    }
    if let Some(user) = &wanted.user {
        let _written = writeln!(text, "User={user}");
    }
    text.push_str(
        "Restart=on-failure\n\
         RestartSec=1\n\
         KillMode=process\n\
         TimeoutStopSec=90\n\
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

/// A value in a file of environment, where neither `$` nor `%` means anything.
fn quoted_secret(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
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
            options: vec!["--listen 127.0.0.1:7070".into(), "--single".into()],
            secrets: Some(PathBuf::from("/etc/serin/serin-100%.env")),
            environment: vec![("PATH".to_owned(), "/a b:/c$d".to_owned())],
            user: Some("ada".to_owned()),
            delegates: true,
        };
        let text = unit(&wanted);
        for line in [
            r#"ExecStart="/opt/my tools/serin" up "/data/100%% \"shop\" $$HOME" --listen 127.0.0.1:7070 --single"#,
            "EnvironmentFile=/etc/serin/serin-100%%.env",
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
    #[test]
    fn what_is_written_for_its_owner_alone_replaces_nothing_else() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("serin/serin-shop.env");
        let text = format!("SERIN_BUS={}\n", quoted_secret("nats://a:b\"$%@host"));
        assert_eq!(text, "SERIN_BUS=\"nats://a:b\\\"$%@host\"\n");
        write(&file, &text, 0o600, false).expect("written");
        write(&file, &text, 0o600, false).expect("the same again");
        let mode = fs::metadata(&file).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(write(&file, "SERIN_BUS=other\n", 0o600, false).is_err());
        write(&file, "SERIN_BUS=other\n", 0o600, true).expect("forced");
    }

    #[test]
    fn the_address_of_a_bus_is_in_no_command_line() {
        use clap::Parser;
        let parsed = |args: &[&str]| {
            let args = ["serin", "install", "--watch", "--bus"].iter().chain(args);
            match crate::cli::Cli::parse_from(args).command {
                crate::cli::Command::Install(install) => options(&install.at).join(" "),
                other => panic!("{other:?}"),
            }
        };
        let usual = "--listen 127.0.0.1:7070 --gateway 127.0.0.1:8080";
        assert_eq!(parsed(&["4222"]), format!("{usual} --bus 4222 --watch"));
        assert_eq!(parsed(&["nats://a:b@host"]), format!("{usual} --watch"));
    }
}
