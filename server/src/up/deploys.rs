//! What `serin up` deploys by itself: the first service of an empty folder, what is under `services/`,
//! what is saved there. How each gets on is printed. Start at [`run`].

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use serin_control::runtime::{Runtime, Stage};
use tokio::sync::mpsc;

use crate::commands::{print, remark};
use crate::scaffold::{self, Kind, Lang};
use crate::schemas;
use crate::settings::{self, Deploys};

/// The first service of an empty folder.
pub(super) const HELLO: &str = "hello";
/// The settings of a folder that begins with it.
const SETTINGS: &str = "\
# What can be set here, and what is in force: `serin config explain`. Read at a start.
deploy: {on_save: true} # a service is deployed again when its files are saved
";

/// Makes the first service where there is nothing yet, and deploys what is to be deployed. In a folder
/// that begins so, saving is deploying.
pub(super) async fn run(
    runtime: Arc<Runtime>,
    makes_hello: bool,
    deploys: Deploys,
    dir: Box<Path>,
) {
    if makes_hello {
        let kind = Kind {
            lang: Lang::Script,
            is_web: true,
        };
        match scaffold::write(&dir, HELLO, kind) {
            Ok(_) => {
                print(&format!("{HELLO} is yours: services/{HELLO}"));
                follow(HELLO.to_owned(), runtime.deploy_at_start(HELLO));
            }
            Err(error) => remark(&format!("note: no service {HELLO}: {error:#}")),
        }
    }
    let on_save = deploys.on_save || makes_hello && begins_with_saving(&dir);
    if deploys.on_start || on_save {
        // The one that was just made is on its way.
        let on_start = deploys.on_start && !makes_hello;
        runtime.deploy_saved(on_start, on_save, follow).await;
    }
}

/// Writes the settings of a young folder, where it has none; whether it had none.
fn begins_with_saving(dir: &Path) -> bool {
    let path = dir.join(settings::FILE);
    let text = format!("{}{SETTINGS}", schemas::line("serin", 0));
    let written = File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => {
            remark(&format!("note: cannot write {}: {error}", path.display()));
            false
        }
    }
}

/// Tells what becomes of a deploy, beside the rest.
fn follow(name: String, mut stages: mpsc::Receiver<Stage>) {
    tokio::spawn(async move {
        while let Some(stage) = stages.recv().await {
            tell(&name, stage);
        }
    });
}

fn tell(name: &str, stage: Stage) {
    match stage {
        Stage::Serving { version, took_ms } => {
            print(&format!("{name} {version} serves after {took_ms} ms"));
        }
        Stage::Ended { version, took_ms } => {
            print(&format!("{name} {version} ended well after {took_ms} ms"));
        }
        // A build may take minutes.
        Stage::Building => print(&format!("{name} is being built")),
        Stage::Note { text } => remark(&format!("note: {name}: {text}")),
        Stage::Failed {
            version,
            why,
            lines,
        } => {
            let version = version.map_or_else(String::new, |version| format!(" {version}"));
            let said: String = lines.iter().map(|line| format!("\n  {line}")).collect();
            remark(&format!(
                "note: {name}{version} does not serve, what served before goes on: {why}{said}"
            ));
        }
        Stage::Waiting { version, after } => {
            print(&format!("{name} {version} waits for {}", after.join(", ")));
        }
        Stage::Copied { .. } | Stage::Starting { .. } | Stage::Unchanged { .. } => {}
    }
}
