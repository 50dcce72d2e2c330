//! What `serin new` writes passes its own tests and runs, in each language, and is heard by clients
//! that know no versions.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use serin_tests::report::skip;
use serin_tests::wait::until;
use serin_tests::{Serin, place};

use super::SOON;
use crate::docs::own_network;

/// Asks a service's endpoint over the bus, as a client that knows no versions.
pub(super) async fn ask(
    serin: &Serin,
    subject: &str,
    web: Option<&str>,
    body: &str,
) -> Result<(String, String)> {
    let client = serin_tests::bus::connect(serin.bus()).await?;
    let mut headers = async_nats::HeaderMap::new();
    if let Some(line) = web {
        headers.insert("serin-http", line);
    }
    let answer = client
        .request_with_headers(subject.to_owned(), headers, body.to_owned().into())
        .await?;
    let headers = answer.headers.unwrap_or_default();
    let status = headers.get("serin-http-status").map(ToString::to_string);
    let error = headers.get("Nats-Service-Error").map(ToString::to_string);
    let body = String::from_utf8(answer.payload.to_vec())?;
    Ok((status.or(error).unwrap_or_default(), body))
}

#[tokio::test]
async fn a_new_service_answers_in_each_language() -> Result<()> {
    let serin = Serin::start().await?;
    for lang in ["script", "python", "typescript"] {
        let name = format!("my-{lang}");
        serin.run(&["new", &name, "--lang", lang]).await?;
        serin.run(&["check"]).await?;
        serin.run(&["deploy", &name]).await?;
        answers(&serin, &name).await?;
        serin.refused(&["new", &name]).await?;
    }
    Ok(())
}

/// A page, a page through the gateway, a call: each is answered, counted, and an event.
async fn answers(serin: &Serin, name: &str) -> Result<()> {
    let web = format!("svc.{name}.http");
    let (status, page) = ask(serin, &web, Some("GET /?name=%3CAda%3E"), "").await?;
    assert_eq!(status, "200", "{page}");
    assert!(page.contains("Hello, &lt;Ada&gt;!"), "{page}");
    let through = reqwest::get(format!("{}/{name}/?name=Cy", serin.gateway())).await?;
    assert_eq!(through.status(), 200);
    assert!(through.text().await?.contains("Hello, Cy!"));
    let subject = format!("svc.{name}.greet");
    let (error, answer) = ask(serin, &subject, None, r#"{"name": "Bo"}"#).await?;
    assert_eq!(error, "");
    assert_eq!(
        serde_json::from_str::<Value>(&answer)?,
        serde_json::json!({"text": "Hello, Bo!"})
    );
    until(
        "the greetings are events of the service",
        SOON,
        async || {
            let sql = format!("SELECT name FROM \"{name}.greeted\" ORDER BY 1");
            let names = serde_json::to_string(&serin.sql(&sql).await?)?;
            ensure!(names == r#"[["<Ada>"],["Bo"],["Cy"]]"#, "{names}");
            Ok(Some(()))
        },
    )
    .await?;
    until("call and page are rows of requests", SOON, async || {
        let sql = format!("SELECT count(DISTINCT endpoint) FROM requests WHERE service = '{name}'");
        Ok((serin.sql_number(&sql).await? == 2).then_some(()))
    })
    .await?;
    until("its dashboard shows them by its KPI", SOON, async || {
        let shown = serin
            .get(&format!("/api/v1/dashboards/{name}/data"))
            .await?;
        let panels = &shown["panels"];
        let is_line = panels["greetings"]["state"] == "ok";
        Ok((is_line && panels["total"]["data"]["value"] == 3.0).then_some(()))
    })
    .await
}

/// Everything in one script, which sees no network but its own: `serin` is `$1`.
const WITHOUT_A_NETWORK: &str = r#"
set -eu
[ "$(tail -n +2 /proc/net/route | wc -l)" = 0 ]
"$1" up . --listen 127.0.0.1:0 --gateway 127.0.0.1:0 --no-hello >up.log 2>&1 &
trap '"$1" down >/dev/null' EXIT
until [ -f .serin/run.json ]; do kill -0 $!; sleep 0.05; done
gateway=$(sed -n 's/.*"gateway": "\([^"]*\)".*/\1/p' .serin/run.json)
for lang in script python typescript; do
  "$1" new "my-$lang" --lang "$lang"
  "$1" deploy "my-$lang"
  curl -fs "$gateway/my-$lang/?name=Ada" | grep -q 'Hello, Ada'
done
(cd services/my-python && PYTHONPATH=../../.serin/sdk/python python3 -m unittest main_test)
(cd services/my-typescript && npm test --silent)
"#;

#[tokio::test]
async fn without_a_network_new_services_answer_and_pass_their_tests() -> Result<()> {
    let dir = place::fresh_folder()?;
    // Away from the tree: what a service needs is in the binary alone.
    let serin = dir.path().join("serin");
    fs::copy(place::serin()?, &serin)?;
    let work = dir.path().join("work");
    fs::create_dir(&work)?;
    let mut script = own_network();
    if script.get_program() == "env" {
        let why = anyhow::anyhow!("this user may not make a network namespace");
        return skip("new services without a network", &why);
    }
    script
        .args(["bash", "-c", WITHOUT_A_NETWORK, "bash"])
        .arg(&serin);
    script.current_dir(&work).env_remove("PYTHONPATH");
    script.env("SERIN_NATS_SERVER", place::nats_server()?);
    let output = tokio::process::Command::from(script).output().await?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[tokio::test]
async fn a_new_service_in_rust_is_built_and_answers() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut serin = Serin::prepared(dir.path())?;
    serin.keep_builds()?;
    serin.start_again().await?;
    serin.run(&["new", "my-rust", "--lang", "rust"]).await?;
    // Unoptimised: the test waits for it.
    let file = dir.path().join("services/my-rust/service.yaml");
    let text = fs::read_to_string(&file)?;
    let quick = text
        .replace("build --release", "build")
        .replace("target/release", "target/debug");
    ensure!(quick != text, "{text}");
    fs::write(&file, quick)?;
    serin.run(&["deploy", "my-rust"]).await?;
    answers(&serin, "my-rust").await
}

/// Runs the test of a new service as its page says.
fn own_test(folder: &Path, command: &mut Command) -> Result<()> {
    let output = command.current_dir(folder).output();
    let output = output.with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{}: {}{}",
        folder.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn a_new_service_passes_its_own_test() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (lang, program, arguments) in [
        ("python", "python3", &["-m", "unittest", "main_test"][..]),
        ("typescript", "npm", &["test", "--silent"]),
        ("rust", "cargo", &["test", "--quiet"]),
    ] {
        for web in ["true", "false"] {
            let name = format!("{lang}-{web}");
            let made = Command::new(place::serin()?)
                .args(["new", &name, "--lang", lang, &format!("--web={web}")])
                .current_dir(dir.path())
                .output()?;
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            ensure!(made.status.success(), "{said}");
            let folder = dir.path().join("services").join(&name);
            let mut test = Command::new(program);
            test.args(arguments)
                .env("PYTHONPATH", "../../.serin/sdk/python")
                .envs(place::builds_of_packages()?)
                .env_remove("CARGO_TARGET_DIR");
            own_test(&folder, &mut test)?;
        }
    }
    types_are_right(&dir.path().join("services/typescript-true"))
}

/// The compiler that the SDK itself is checked with finds no fault, and finds the SDK's types.
fn types_are_right(folder: &Path) -> Result<()> {
    let packages = place::repository().join("sdk/typescript/node_modules");
    let compiler = packages.join(".bin/tsc");
    if !compiler.is_file() {
        let why = anyhow::anyhow!("no tsc; `cargo xtask test` fetches it");
        return skip("the types of a new service in TypeScript", &why);
    }
    let mut check = Command::new(compiler);
    check.arg("--typeRoots").arg(packages.join("@types"));
    own_test(folder, check.args(["--project", "."]))
}

#[tokio::test]
async fn what_a_service_needs_is_named_where_it_is_missing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let bin = dir.path().join("bin");
    fs::create_dir(&bin)?;
    let mut serin = Serin::prepared(dir.path())?;
    serin.set("PATH", &bin.to_string_lossy());
    serin.start_again().await?;
    for (lang, advice) in [
        ("python", "python3"),
        ("typescript", "Node.js 20"),
        ("rust", "rustup.rs"),
    ] {
        let name = format!("my-{lang}");
        serin.run(&["new", &name, "--lang", lang]).await?;
        let said = serin.refused(&["deploy", &name]).await?;
        assert!(said.contains(advice) && said.contains("on PATH"), "{said}");
    }
    let old =
        "#!/bin/sh\n[ \"$1\" = --version ] && echo v16.20.2 && exit\necho bad option; exit 9\n";
    fs::write(bin.join("node"), old)?;
    fs::set_permissions(bin.join("node"), fs::Permissions::from_mode(0o755))?;
    let said = serin.refused(&["deploy", "my-typescript"]).await?;
    assert!(
        said.contains("this is Node.js v16.20.2; install 20 or newer"),
        "{said}"
    );
    Ok(())
}
