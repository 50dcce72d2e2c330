//! The files of a private bus under the data folder: ports and credentials, and the configuration.
//!
//! `bus.json` keeps ports and credentials across restarts, so that services find the bus where it
//! was; `nats.conf` is written from it at each start, and includes what `services` writes. All are
//! readable by their owner alone. nats-server's configuration language takes JSON values, so that no
//! text has to be quoted by hand.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::BusError;
use crate::services;

/// Largest message. NATS advises at most 8 MiB; our batches are about 128 KiB.
const MAX_PAYLOAD_BYTES: u64 = 8 << 20;
/// Bytes the memory stream of telemetry may hold, see `stream`.
pub(crate) const TELEMETRY_BYTES_MAX: i64 = 64 << 20;
/// Connections the bus takes: one per thousand services, with room.
const CONNECTIONS_MAX: u32 = 8192;
/// A log file of the server; one older is kept.
const LOG_BYTES_MAX: u64 = 4 << 20;
const USER: &str = "serin";
/// The included file, beside `nats.conf`.
const SERVICES_CONF: &str = "services.conf";

/// Where a private bus keeps its files.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    /// `DIR/.serin/bus`.
    pub(crate) folder: PathBuf,
}

impl Files {
    pub(crate) fn under(data_dir: &Path) -> Files {
        Files {
            folder: data_dir.join("bus"),
        }
    }
    pub(crate) fn settings(&self) -> PathBuf {
        self.folder.join("bus.json")
    }
    pub(crate) fn conf(&self) -> PathBuf {
        self.folder.join("nats.conf")
    }
    pub(crate) fn services(&self) -> PathBuf {
        self.folder.join("services.json")
    }
    pub(crate) fn services_conf(&self) -> PathBuf {
        self.folder.join(SERVICES_CONF)
    }
    pub(crate) fn owner(&self) -> PathBuf {
        self.folder.join("owner")
    }
    pub(crate) fn pid(&self) -> PathBuf {
        self.folder.join("nats.pid")
    }
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("nats.log")
    }
    pub(crate) fn lock(&self) -> PathBuf {
        self.folder.join("bus.lock")
    }

    /// Held by the server's process, see `process`.
    pub(crate) fn server_lock(&self) -> PathBuf {
        self.folder.join("nats.lock")
    }

    /// Writes down the server's process.
    pub(crate) fn write_pid(&self, id: i32) -> Result<(), BusError> {
        write_private(&self.pid(), format!("{id}\n").as_bytes())
    }

    /// The server's process as it was written down.
    pub(crate) fn read_pid(&self) -> Option<i32> {
        fs::read_to_string(self.pid()).ok()?.trim().parse().ok()
    }

    /// The end of the server's log, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(3).collect();
        if lines.is_empty() {
            return String::from("none");
        }
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

/// What is kept across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) port: u16,
    pub(crate) monitor_port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    /// Names this bus, so that a server which answers on our port is known to be ours.
    pub(crate) server_name: String,
}

impl Settings {
    /// As they were stored; `None` in a new folder.
    pub(crate) fn load(files: &Files) -> Result<Option<Settings>, BusError> {
        read_kept(&files.settings())
    }

    pub(crate) fn fresh(port: Option<u16>) -> Result<Settings, BusError> {
        let (free, monitor_port) = free_ports()?;
        Ok(Settings {
            port: port.unwrap_or(free),
            monitor_port,
            user: USER.to_owned(),
            password: random_hex()?,
            server_name: format!("serin-{}", &random_hex()?[..12]),
        })
    }

    /// Other ports, same credentials: for when a kept port was taken meanwhile.
    pub(crate) fn move_ports(&mut self, port: Option<u16>) -> Result<(), BusError> {
        let (free, monitor_port) = free_ports()?;
        self.port = port.unwrap_or(free);
        self.monitor_port = monitor_port;
        Ok(())
    }

    /// Whether both ports could be listened on now.
    pub(crate) fn are_free(&self) -> bool {
        is_free(self.port) && is_free(self.monitor_port)
    }

    pub(crate) fn store(&self, files: &Files) -> Result<(), BusError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        write_private(&files.settings(), &text)
    }

    pub(crate) fn url(&self) -> String {
        self.url_of(&self.user, &self.password)
    }

    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor_port)
    }

    /// The configuration of the server.
    pub(crate) fn conf(&self, files: &Files, events_bytes_max: u64) -> Vec<u8> {
        // JetStream counts a stream's limit against the server's; the consumers' state needs a little.
        let file_bytes = events_bytes_max.saturating_add(64 << 20);
        let mut conf = services::lines([
            ("server_name", json!(self.server_name)),
            ("listen", json!(format!("127.0.0.1:{}", self.port))),
            ("http", json!(format!("127.0.0.1:{}", self.monitor_port))),
            ("max_payload", json!(MAX_PAYLOAD_BYTES)),
            ("max_connections", json!(CONNECTIONS_MAX)),
            ("logfile", json!(files.log())),
            ("logfile_size_limit", json!(LOG_BYTES_MAX)),
            ("logfile_max_num", json!(1)),
            (
                "jetstream",
                json!({
                    "store_dir": files.folder,
                    "sync_interval": "always",
                    "max_memory_store": 2 * TELEMETRY_BYTES_MAX,
                    "max_file_store": file_bytes,
                }),
            ),
        ]);
        conf.extend_from_slice(format!("include \"{SERVICES_CONF}\"\n").as_bytes());
        conf
    }
}

/// What a file of ours keeps; `None` where there is no such file. One that cannot be read is never
/// taken for a new one: fresh credentials would shut out everybody who has the old ones.
pub(crate) fn read_kept<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, BusError> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    let kept = serde_json::from_slice(&text).map_err(|source| BusError::Damaged {
        path: path.to_path_buf(),
        source: source.into(),
    });
    kept.map(Some)
}

/// What is in a file of ours, where it is there.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, BusError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BusError::File {
            what: "read",
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// Writes a file that only its owner can read, aside and then in place.
pub(crate) fn write_private(path: &Path, text: &[u8]) -> Result<(), BusError> {
    let aside = path.with_extension("new");
    let write = || {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&aside, path)
    };
    write().map_err(|source| BusError::File {
        what: "write",
        path: path.to_path_buf(),
        source,
    })
}

/// 128 random bits from the system, as 32 hex digits.
pub(crate) fn random_hex() -> Result<String, BusError> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(BusError::Random)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether we could listen on a port of 127.0.0.1 now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn free_ports() -> Result<(u16, u16), BusError> {
    let two = || {
        let first = TcpListener::bind("127.0.0.1:0")?;
        let second = TcpListener::bind("127.0.0.1:0")?;
        Ok((first.local_addr()?.port(), second.local_addr()?.port()))
    };
    two().map_err(BusError::NoPort)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::owner::Owner;
    use crate::services::Services;

    #[test]
    fn a_new_folder_has_nothing_and_a_damaged_file_is_no_new_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = Files::under(folder.path());
        fs::create_dir(&files.folder).expect("made");
        assert_eq!(Settings::load(&files).expect("none"), None);
        assert_eq!(Services::load(&files).expect("none"), Services::default());
        let owner = Owner::of(folder.path(), &files, true).expect("made");
        let again = Owner::of(folder.path(), &files, true).expect("kept");
        assert_eq!(owner, again);
        for path in [files.settings(), files.services(), files.owner()] {
            fs::write(&path, " \n").expect("written");
        }
        let errors = [
            Settings::load(&files).map(drop),
            Services::load(&files).map(drop),
            Owner::of(folder.path(), &files, true).map(drop),
        ];
        for error in errors {
            let error = error.expect_err("it is damaged").to_string();
            assert!(error.contains("is damaged; restore it"), "{error}");
        }
        fs::remove_file(files.settings()).expect("removed");
        fs::create_dir(files.settings()).expect("made");
        let error = Settings::load(&files).expect_err("it cannot be read");
        assert!(error.to_string().starts_with("cannot read"), "{error}");
    }
}
