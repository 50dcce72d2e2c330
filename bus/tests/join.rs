//! Buses that somebody else runs, and why one will not do: against the real `nats-server`.

mod kit;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use serin_bus::{Bus, BusOptions};

use kit::Folder;

const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A server of somebody else, at a port that it chose.
struct Theirs {
    process: Child,
    host: String,
}

impl Theirs {
    async fn start(folder: &Folder, options: &[&str]) -> Theirs {
        let search_path = std::env::var_os("PATH");
        let binary = serin_bus::find_server(None, None, search_path.as_deref()).await;
        let told = folder.0.path().join("ports");
        std::fs::create_dir_all(&told).expect("a folder");
        let mut command = Command::new(binary.expect("a server").path);
        command
            .args(["--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir"])
            .arg(&told)
            .args(options)
            .stderr(Stdio::null());
        let process = command.spawn().expect("it starts");
        let file = told.join(format!("nats-server_{}.ports", process.id()));
        let told = async {
            loop {
                let text = std::fs::read(&file).unwrap_or_default();
                if let Ok(ports) = serde_json::from_slice::<Value>(&text) {
                    return ports;
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let ports = tokio::time::timeout(PATIENCE, told).await;
        let ports = ports.expect("its port is told in time");
        let url = ports["nats"][0].as_str().expect("an address");
        Theirs {
            process,
            host: url.trim_start_matches("nats://").to_owned(),
        }
    }
}

/// The same with a configuration, whose store is below the folder.
async fn configured(folder: &Folder, text: impl FnOnce(&Path) -> String) -> Theirs {
    let conf = folder.0.path().join("theirs.conf");
    std::fs::write(&conf, text(&folder.0.path().join("js"))).expect("written");
    Theirs::start(folder, &["--config", &conf.to_string_lossy()]).await
}

impl Drop for Theirs {
    fn drop(&mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it ends");
    }
}

/// What is said of a bus that will not do.
async fn refusal(folder: &Folder, url: String) -> String {
    let joined = Bus::start(BusOptions {
        joined: Some(url),
        ..folder.options()
    });
    joined.await.expect_err("it will not do").to_string()
}

#[tokio::test]
async fn a_bus_that_keeps_nothing_is_named() {
    let folder = Folder::new();
    let theirs = Theirs::start(&folder, &[]).await;
    let said = refusal(&folder, format!("nats://{}", theirs.host)).await;
    assert!(
        said.contains("has no JetStream for us (nobody answers"),
        "{said}"
    );
    assert!(said.contains("`nats-server -js -sd FOLDER`"), "{said}");
}

#[tokio::test]
async fn an_account_without_jetstream_is_told_apart() {
    let folder = Folder::new();
    let theirs = configured(&folder, |store| {
        format!(
            "jetstream {{ store_dir: {store:?} }}\n\
             accounts {{ A: {{ users: [{{ user: bob, password: right }}] }} }}\n"
        )
    })
    .await;
    let said = refusal(&folder, format!("nats://bob:right@{}", theirs.host)).await;
    assert!(said.contains("has no JetStream for us ("), "{said}");
    assert!(said.contains("enable JetStream for ours"), "{said}");
}

#[tokio::test]
async fn a_bus_with_too_little_room_says_what_to_set() {
    let folder = Folder::new();
    let theirs = configured(&folder, |store| {
        format!("jetstream {{ store_dir: {store:?}, max_file_store: 1MB }}\n")
    })
    .await;
    let joined = Bus::start(BusOptions {
        joined: Some(format!("nats://{}", theirs.host)),
        ..folder.options()
    });
    let refused = joined.await.expect("joined").events().await;
    let said = refused.expect_err("it has 1 MiB").to_string();
    assert!(
        said.contains("no room for the stream EVENTS of 64 MiB"),
        "{said}"
    );
    assert!(said.contains("events_mib_max"), "{said}");
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_without_the_password() {
    let folder = Folder::new();
    let theirs = Theirs::start(&folder, &["--user", "bob", "--pass", "right"]).await;
    for (credentials, who) in [
        ("bob:wrong@", "let the user \"bob\" with this password in"),
        ("token@", "let the bearer of this token in"),
        ("", "let somebody without user and password in"),
    ] {
        let said = refusal(&folder, format!("nats://{credentials}{}", theirs.host)).await;
        assert!(said.contains(who), "{who}: {said}");
        assert!(said.contains("into SERIN_BUS"), "{said}");
        assert!(!said.contains("wrong"), "{said}");
    }
}

#[tokio::test]
async fn an_address_where_nobody_is_and_one_that_is_none() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let (_, gone) = bus.url().split_once('@').expect("credentials");
    let gone = gone.to_owned();
    bus.stop().await;
    let said = refusal(&folder, format!("nats://bob:secret@{gone}")).await;
    assert_eq!(
        said,
        format!("cannot join the bus at {gone}: is a nats-server running there")
    );
    for url in ["http://bob:secret@127.0.0.1:4222", "", "nats://a b:4222"] {
        let said = refusal(&folder, url.to_owned()).await;
        assert!(
            said.contains("like nats://USER:PASSWORD@HOST:4222"),
            "{url}: {said}"
        );
        assert!(!said.contains("secret"), "{said}");
    }
}
