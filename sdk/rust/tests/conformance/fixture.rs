//! A real `nats-server` for a scenario, on a free port, in a folder of its own.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::{self, stream};
use async_nats::{Client, Message};
use serde_json::{Map, Value, json};
use serin_wire::batch;
use tokio::process::{Child, Command};

use crate::PATIENCE;

const PASSWORD: &str = "secret";

/// See the module.
pub(crate) struct Fixture {
    folder: tempfile::TempDir,
    mappings: Map<String, Value>,
    /// Who has rights of its own; all others may do everything.
    users: Map<String, Value>,
    port: Option<u16>,
    process: Option<Child>,
    client: Option<Client>,
}

impl Fixture {
    pub(crate) fn new(mappings: &Value, users: &Value) -> Result<Fixture> {
        Ok(Fixture {
            folder: tempfile::tempdir()?,
            mappings: mappings.as_object().cloned().unwrap_or_default(),
            users: users.as_object().cloned().unwrap_or_default(),
            port: None,
            process: None,
            client: None,
        })
    }

    /// Starts the server, at the port it had before, and connects.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let named = std::env::var_os("SERIN_NATS_SERVER").map(PathBuf::from);
        let path = std::env::var_os("PATH");
        let server = serin_bus::find_server(named.as_deref(), None, path.as_deref()).await?;
        let (config, ports) = (self.path("nats.conf"), self.path("ports"));
        let port = self.port.map_or(-1, i32::from);
        let data = self.path("data");
        let mappings = self.mappings.iter();
        let mappings: String = mappings
            .map(|(from, to)| format!("\"{from}\": {to}\n"))
            .collect();
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\n\
             jetstream {{ store_dir: {data:?}, sync_interval: always }}\n\
             mappings {{\n{mappings}}}\n{}",
            self.authorization()
        );
        std::fs::write(&config, text)?;
        if ports.exists() {
            std::fs::remove_dir_all(&ports)?;
        }
        std::fs::create_dir(&ports)?;
        let mut process = Command::new(server.path)
            .arg("-c")
            .arg(config)
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let said = async {
            loop {
                if let Some(port) = read_port(&ports) {
                    return Ok(port);
                }
                ensure!(process.try_wait()?.is_none(), "nats-server ended");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.port = Some(tokio::time::timeout(PATIENCE, said).await??);
        self.process = Some(process);
        let client = async_nats::connect(self.url()).await?;
        let context = jetstream::new(client.clone());
        let made = context.get_or_create_stream(stream::Config {
            name: String::from("EVENTS"),
            subjects: vec![String::from("ev.>")],
            storage: stream::StorageType::File,
            discard: stream::DiscardPolicy::New,
            ..stream::Config::default()
        });
        made.await?;
        self.client = Some(client);
        Ok(())
    }

    fn authorization(&self) -> String {
        if self.users.is_empty() {
            return String::new();
        }
        let users = self.users.iter();
        let users = users.map(
            |(user, rights)| json!({"user": user, "password": PASSWORD, "permissions": rights}),
        );
        let anybody = json!({"user": "anybody", "password": PASSWORD});
        let users: Vec<Value> = users.chain([anybody]).collect();
        let all = json!({"users": users});
        format!("no_auth_user: anybody\nauthorization: {all}\n")
    }

    /// Where a user connects.
    pub(crate) fn url_of(&self, user: &str) -> String {
        match self.users.contains_key(user) {
            true => self.url().replace("//", &format!("//{user}:{PASSWORD}@")),
            false => self.url(),
        }
    }

    /// Kills the server; its folder stays.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.client = None;
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// A raw client.
    pub(crate) fn client(&self) -> Result<Client> {
        self.client.clone().context("the server is stopped")
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.unwrap_or_default())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn spill(&self) -> PathBuf {
        self.path("spill")
    }

    /// Whether events wait on disk.
    pub(crate) fn is_spilled(&self) -> bool {
        has_segments(&self.spill())
    }

    /// Changes settings of the stream, by JetStream's names.
    pub(crate) async fn set_stream(&self, settings: &Value) -> Result<()> {
        let mut config = self.ask("INFO", &Value::Null).await?["config"].take();
        for (name, value) in settings.as_object().context("settings")? {
            config[name] = value.clone();
        }
        let answer = self.ask("UPDATE", &config).await?;
        ensure!(answer.get("error").is_none(), "{answer}");
        Ok(())
    }

    async fn ask(&self, verb: &str, body: &Value) -> Result<Value> {
        let subject = format!("$JS.API.STREAM.{verb}.EVENTS");
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self.client()?.request(subject, body.into()).await?;
        Ok(serde_json::from_slice(&answer.payload)?)
    }

    /// Every event in the stream, in the stream's order, with its message's number.
    pub(crate) async fn events(&self) -> Result<Vec<Value>> {
        let stream = jetstream::new(self.client()?).get_stream("EVENTS").await?;
        let state = stream.cached_info().state.clone();
        let mut found = Vec::new();
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = stream.get_raw_message(sequence).await?;
            let id = message.headers.get("Nats-Msg-Id").map(|id| id.as_str());
            for event in batch::read(&message.payload)? {
                let event = event?;
                found.push(json!({
                    "id": event.id,
                    "type": event.kind,
                    "service": event.service,
                    "version": event.version,
                    "instance": event.instance,
                    "trace": event.trace.map(|trace| trace.to_traceparent()),
                    "arm": event.arm.map(|arm| arm.0.into_owned()),
                    "data": serde_json::from_slice::<Value>(&event.data)?,
                    "message_id": id,
                }));
            }
        }
        Ok(found)
    }
}

/// A message as expectations see it.
pub(crate) fn shape_of(message: &Message) -> Value {
    let mut headers = Map::new();
    for (name, values) in message.headers.iter().flat_map(|headers| headers.iter()) {
        let values = values.iter().map(|value| value.as_str().into());
        headers.insert(name.to_string(), Value::Array(values.collect()));
    }
    json!({
        "subject": message.subject.as_str(),
        "headers": headers,
        "json": serde_json::from_slice::<Value>(&message.payload).unwrap_or_default(),
        "text": String::from_utf8_lossy(&message.payload),
    })
}

/// Where the server listens; `None` until all of it is written.
fn read_port(folder: &Path) -> Option<u16> {
    let file = std::fs::read_dir(folder).ok()?.next()?.ok()?.path();
    let said: Value = serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()?;
    said["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

fn has_segments(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.into_iter().any(|path| {
        let is_segment = path.extension().is_some_and(|extension| extension == "seg");
        is_segment || has_segments(&path)
    })
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = Result<bool>>>(is_so: impl Fn() -> F) -> Result<()> {
    let waiting = async {
        while !is_so().await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.context("it did not become so in time")?
}
