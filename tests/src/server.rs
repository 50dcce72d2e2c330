//! A running Serin in a folder of its own, seen from outside.
//!
//! Started as a user starts it, on free ports; found again through `.serin/run.json`; killed or
//! stopped by the test. Dropping it leaves nothing running. Start at [`Serin::start`].

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::wait::until;
use crate::{place, process};

/// A cold start in a debug build beside other tests.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// How long a file that was written may go unnoticed.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);

/// A Serin that was started; it may have been killed since.
#[derive(Debug)]
pub struct Serin {
    dir: PathBuf,
    /// Removed at the end, where the folder is ours.
    _temporary: Option<TempDir>,
    child: Option<Child>,
    listen: String,
    /// Whether a start in an empty folder makes the first service.
    makes_hello: bool,
    /// Instead of the binary under test.
    program: Option<PathBuf>,
    /// Beside what every start gets.
    environment: Vec<(String, String)>,
    options: Vec<String>,
    http: Client,
    url: String,
    token: String,
    catalogue: String,
    bus: String,
    gateway: String,
}

impl Serin {
    /// Starts in a fresh folder and waits until it is ready.
    pub async fn start() -> Result<Serin> {
        Serin::start_with(&[]).await
    }

    /// Starts in a fresh folder with copies of these folders of the repository in it.
    pub async fn start_with(folders: &[&str]) -> Result<Serin> {
        let mut serin = Serin::in_fresh_folder()?;
        for name in folders {
            let from = place::repository().join(name);
            let copied = Command::new("cp")
                .arg("-r")
                .arg(&from)
                .arg(serin.dir())
                .status()?
                .success();
            ensure!(copied, "cannot copy {}", from.display());
        }
        serin.start_again().await?;
        Ok(serin)
    }

    /// Starts in a fresh folder with this `serin.yaml`.
    pub async fn start_set(settings: &str) -> Result<Serin> {
        Serin::start_with_files(&[("serin.yaml", settings)]).await
    }

    /// Starts in a fresh folder with these files, each a path in it and a text.
    pub async fn start_with_files(files: &[(&str, &str)]) -> Result<Serin> {
        let mut serin = Serin::in_fresh_folder()?;
        for (file, text) in files {
            serin.write(file, text)?;
        }
        serin.start_again().await?;
        Ok(serin)
    }

    /// Starts in a fresh folder, and with the service that a user finds there.
    pub async fn start_with_hello() -> Result<Serin> {
        let mut serin = Serin::in_fresh_folder()?;
        serin.begin_with_hello().await?;
        Ok(serin)
    }

    /// Starts in its folder, which has nothing in it but what Serin makes there.
    pub async fn begin_with_hello(&mut self) -> Result<()> {
        self.makes_hello = true;
        self.start_again().await.map(|_| ())
    }

    /// Starts in this folder, with what is in it, and waits until it is ready.
    pub async fn start_in(dir: &Path) -> Result<Serin> {
        let mut serin = Serin::prepared(dir)?;
        serin.start_again().await?;
        Ok(serin)
    }

    fn in_fresh_folder() -> Result<Serin> {
        let folder = place::fresh_folder()?;
        let mut serin = Serin::prepared(folder.path())?;
        serin._temporary = Some(folder);
        Ok(serin)
    }

    /// A folder in which nothing runs yet.
    pub fn prepared(dir: &Path) -> Result<Serin> {
        Ok(Serin {
            dir: dir.to_owned(),
            _temporary: None,
            child: None,
            listen: "127.0.0.1:0".to_owned(),
            makes_hello: false,
            program: None,
            environment: Vec::new(),
            options: Vec::new(),
            http: Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(60))
                .build()?,
            url: String::new(),
            token: String::new(),
            catalogue: String::new(),
            bus: String::new(),
            gateway: String::new(),
        })
    }

    /// Writes a file of the folder, and makes the folders above it.
    pub fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.dir.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes a dashboard, and waits until it has been noticed.
    pub async fn write_dashboard(&self, name: &str, yaml: &str) -> Result<()> {
        self.write(&format!("dashboards/{name}.yaml"), yaml)?;
        until("the dashboard is there", NOTICED_WITHIN, async || {
            Ok(self.get(&format!("/api/v1/dashboards/{name}")).await.ok())
        })
        .await?;
        Ok(())
    }

    /// Gives the next starts a variable of the environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Gives the next starts these options of `serin up`.
    pub fn options(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// Lets the next starts keep what cargo builds for services from run to run.
    pub fn keep_builds(&mut self) -> Result<()> {
        for (name, value) in place::builds_of_packages()? {
            self.set(name, &value);
        }
        Ok(())
    }

    /// Runs another `serin` from now on.
    pub fn use_program(&mut self, program: &Path) {
        self.program = Some(program.to_owned());
    }

    /// Starts `serin up` in the folder and waits until it is ready; says how long that took.
    pub async fn start_again(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.spawn()?;
        self.ready().await?;
        Ok(start.elapsed())
    }

    /// Starts `serin up` and does not wait.
    pub fn spawn(&mut self) -> Result<()> {
        fs::create_dir_all(&self.dir)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let child = self
            .command(&[
                "up",
                ".",
                "--listen",
                &self.listen,
                "--gateway",
                "127.0.0.1:0",
            ])?
            .args((!self.makes_hello).then_some("--no-hello"))
            .args(&self.options)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start serin up")?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until the process that was started last says that it is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let file = self.dir.join(".serin/run.json");
        let pid = self.pid().context("serin up was not started")?;
        let run = until("serin up writes its run.json", READY_DEADLINE, async || {
            if let Some(status) = self.ended()? {
                // Nothing is to be waited for any more.
                return Ok(Some(Err(status)));
            }
            let run: Value = serde_json::from_slice(&fs::read(&file)?)?;
            Ok((run["pid"].as_u64() == Some(pid.into())).then_some(Ok(run)))
        });
        let run = match run.await.with_context(|| self.said())? {
            Ok(run) => run,
            Err(status) => bail!("serin up ended with {status}: {}", self.said()),
        };
        let text = |key: &str| -> Result<String> {
            let value = run[key].as_str();
            Ok(value
                .with_context(|| format!("run.json has no {key}: {run}"))?
                .to_owned())
        };
        self.url = text("http")?;
        self.token = text("token")?;
        self.catalogue = text("catalogue")?;
        self.bus = text("bus")?;
        self.gateway = text("gateway")?;
        // The next start takes the same port, as a browser that is open expects.
        self.listen = self
            .url
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned();
        until("/readyz answers 200", READY_DEADLINE, async || {
            let answer = self.http.get(format!("{}/readyz", self.url)).send().await?;
            Ok(answer.status().is_success().then_some(()))
        })
        .await
        .with_context(|| self.said())
    }

    /// How the process ended, if it did.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.child
            .as_mut()
            .map_or(Ok(None), |child| Ok(child.try_wait()?))
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its address, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token of this start.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What DuckDB attaches.
    pub fn catalogue(&self) -> &str {
        &self.catalogue
    }

    /// The bus's URL, with credentials.
    pub fn bus(&self) -> &str {
        &self.bus
    }

    /// Where web services are, without a slash at the end.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// The process, while it was not waited for.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The process of its nats-server.
    pub fn bus_pid(&self) -> Result<u32> {
        let file = self.dir.join(".serin/bus/nats.pid");
        let text = fs::read_to_string(&file).context("the bus wrote no pid file")?;
        text.trim()
            .parse()
            .context("the bus's pid file holds no number")
    }

    /// The process of its gateway.
    pub async fn gateway_pid(&self) -> Result<u32> {
        let status = self.get("/api/v1/status").await?;
        let pid = status["gateway_pid"].as_u64();
        Ok(u32::try_from(pid.context("the gateway's process")?)?)
    }

    /// Ends Serin at once, as a crash would; its bus goes on.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Ends its nats-server at once, if there is one.
    pub fn kill_bus_if_running(&self) -> Result<()> {
        self.bus_pid().map_or(Ok(()), process::kill)
    }

    /// Ends everything in order.
    pub async fn stop(&mut self) -> Result<()> {
        self.run(&["down"]).await?;
        if let Some(mut child) = self.child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// A `serin` command in the folder, not started yet.
    pub fn command(&self, args: &[&str]) -> Result<Command> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => place::serin()?,
        };
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.dir);
        for name in ["SERIN_SERVER", "SERIN_TOKEN", "SERIN_BUS"] {
            command.env_remove(name);
        }
        Ok(command)
    }

    /// Runs a `serin` command to its end and returns what it printed; fails as it fails.
    pub async fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        if !output.status.success() {
            bail!(
                "serin {} ended with {}: {}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        String::from_utf8(output.stdout).context("serin prints text")
    }

    /// Runs a `serin` command that must succeed; what it remarks beside its answer.
    pub async fn remarks(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.success(),
            "serin {} ended with {}: {said}",
            args.join(" "),
            output.status
        );
        Ok(said)
    }

    /// Runs a `serin` command that must be refused or fail; what it says.
    pub async fn refused(&self, args: &[&str]) -> Result<String> {
        let output = self.output(args).await?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            output.status.code() == Some(1),
            "serin {} ended with {}: {said}",
            args.join(" "),
            output.status
        );
        Ok(said)
    }

    /// Runs a `serin` command to its end, however it ends.
    pub async fn output(&self, args: &[&str]) -> Result<Output> {
        let mut command = tokio::process::Command::from(self.command(args)?);
        command
            .stdin(Stdio::null())
            .output()
            .await
            .context("cannot start serin")
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(&self.token)
    }

    /// A new link that signs a browser in and shows `next`, which is encoded already.
    pub async fn sign_in_link(&self, next: &str) -> Result<String> {
        let made = self.request(Method::POST, "/api/v1/signin").send().await?;
        let made: Value = made.error_for_status()?.json().await?;
        let code = made["code"].as_str().context("a code")?;
        Ok(format!("{}/signin?code={code}&next={next}", self.url()))
    }

    /// The JSON at a path; an answer that is no success is an error with its text.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.request(Method::GET, path).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "GET {path} answered {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("GET {path} answered no JSON: {text}"))
    }

    /// The rows of a statement.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Vec<Value>>> {
        let answer = self
            .request(Method::POST, "/api/v1/query")
            .json(&json!({"sql": sql}))
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{sql} answered {status}: {text}");
        let answer: Value = serde_json::from_str(&text)?;
        serde_json::from_value(answer["rows"].clone()).context("a query answers rows")
    }

    /// The one number a statement answers.
    pub async fn sql_number(&self, sql: &str) -> Result<i64> {
        let rows = self.sql(sql).await?;
        let number = rows
            .first()
            .and_then(|row| row.first())
            .and_then(Value::as_i64);
        number.with_context(|| format!("no number from {sql}: {rows:?}"))
    }

    /// Posts events as NDJSON; returns status and body.
    pub async fn post(&self, lines: String) -> Result<(u16, Value)> {
        let request = self.request(Method::POST, "/api/v1/events");
        let answer = request
            .header("content-type", "application/x-ndjson")
            .body(lines)
            .send()
            .await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((
            status,
            serde_json::from_str(&text).unwrap_or(Value::String(text)),
        ))
    }

    /// Posts events as NDJSON, each of which must be taken.
    pub async fn give(&self, lines: String) -> Result<()> {
        let (status, answer) = self.post(lines).await?;
        ensure!(status == 200, "posting answered {status}: {answer}");
        Ok(())
    }

    /// Where `serin up` writes what it says.
    fn log_file(&self) -> PathBuf {
        self.dir.join("up.log")
    }

    /// The end of what `serin up` said, for an error.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Serin {
    fn drop(&mut self) {
        let down = self.command(&["down"]);
        if let Ok(Ok(output)) = down.map(|mut command| command.output())
            && !output.status.success()
        {
            println!(
                "serin down: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        if let Err(error) = self.kill() {
            println!("cannot end serin: {error}");
        }
    }
}
