//! Schemas against parsers: every file of the tree is right for both, and both know the same keys.
//!
//! A key that nobody knows makes a parser say which there are; it is put into every mapping that a
//! schema describes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::valid::faults;
use super::*;
use crate::scaffold::{self, Kind, Lang};
use crate::settings::Settings;

/// Known to no parser.
const NOBODYS: &str = "zzz";

fn schema(name: &str) -> Value {
    let text = find(name).expect("of ours").text();
    serde_json::from_str(&text).expect("JSON")
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).expect("there");
    serin_yaml::read(&path.display().to_string(), &text).expect("YAML")
}

/// The files of the project's own YAML, each with its schema.
fn files_of(dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    let yaml_in = |folder: PathBuf| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
            .collect()
    };
    found.extend(
        yaml_in(dir.join("kpis"))
            .into_iter()
            .map(|path| ("kpis", path)),
    );
    let dashboards = yaml_in(dir.join("dashboards")).into_iter();
    found.extend(dashboards.map(|path| ("dashboard", path)));
    let services = fs::read_dir(dir.join("services")).into_iter().flatten();
    for service in services.flatten() {
        found.push(("service", service.path().join("service.yaml")));
    }
    found.push(("serin", dir.join("serin.yaml")));
    found.retain(|(_, path)| path.is_file());
    found
}

#[test]
fn every_file_of_the_tree_is_right() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = files_of(&tree.join("examples/shop"));
    files.extend(files_of(&tree.join("examples/weblog")));
    for folder in ["dashboards/builtin", "dashboards/specs/ok"] {
        for entry in fs::read_dir(tree.join(folder)).expect("there").flatten() {
            let is_dashboard = read(&entry.path())["dashboard"].is_string();
            let name = if is_dashboard { "dashboard" } else { "kpis" };
            files.push((name, entry.path()));
        }
    }
    let new = tempfile::tempdir().expect("a folder");
    for (number, lang) in Lang::value_variants().iter().enumerate() {
        for is_web in [true, false] {
            let kind = Kind {
                lang: *lang,
                is_web,
            };
            scaffold::write(new.path(), &format!("new-{number}-{is_web}"), kind).expect("written");
        }
    }
    files.extend(files_of(new.path()));
    assert!(files.len() > 30, "{}", files.len());
    for (name, path) in files {
        let found = faults(&schema(name), &read(&path));
        assert_eq!(found, Vec::<String>::new(), "{}", path.display());
    }
}

#[test]
fn what_no_parser_takes_is_wrong() {
    for (name, text) in [
        ("kpis", "kpis: {a: {evnt: x}}"),
        ("kpis", "kpis: {a: {funnel: {steps: []}}}"),
        ("kpis", "rules: {a: {when: {kpi: a, for: soon}}}"),
        ("dashboard", "panels: {}"),
        (
            "dashboard",
            "{dashboard: a, panels: {p: {kpi: a, draw: pie}}}",
        ),
        ("dashboard", "{dashboard: a, panels: {p: {kpi: a, top: 0}}}"),
        ("service", "web: /a"),
        ("service", "{run: x, port: 0}"),
        ("service", "{run: x, limits: {memory: 5}}"),
        ("serin", "query: {deadline_s: 0}"),
        ("serin", "deploy: {on_save: 1}"),
    ] {
        let value = serin_yaml::read("it.yaml", text).expect("YAML");
        assert_ne!(
            faults(&schema(name), &value),
            Vec::<String>::new(),
            "{text}"
        );
    }
}

/// A mapping or a choice of words that a schema describes.
struct SchemaNode {
    /// Into it, from the top.
    path: Vec<Step>,
    known: BTreeSet<String>,
    is_mapping: bool,
}

#[derive(Clone)]
enum Step {
    Key(String),
    Item,
}

fn nodes(whole: &Value, at: &Value, path: &[Step], found: &mut Vec<SchemaNode>) {
    let at = resolved(whole, at);
    let below = |step: Step| [path, &[step]].concat();
    let words = |node: &Value| -> BTreeSet<String> {
        let words = node["enum"].as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let either = at["anyOf"].as_array().cloned().unwrap_or_default();
    let mut alternatives: Vec<Value> = either.iter().map(|one| resolved(whole, one)).collect();
    let mut beside: BTreeSet<String> = alternatives.iter().flat_map(words).collect();
    if alternatives.is_empty() {
        beside = words(&at);
        alternatives.push(at);
    }
    let has_mapping = alternatives.iter().any(|one| one["properties"].is_object());
    if !has_mapping && !beside.is_empty() {
        found.push(SchemaNode {
            path: path.to_vec(),
            known: beside.clone(),
            is_mapping: false,
        });
    }
    for one in &alternatives {
        if let Some(properties) = one["properties"].as_object() {
            found.push(SchemaNode {
                path: path.to_vec(),
                known: properties.keys().cloned().chain(beside.clone()).collect(),
                is_mapping: true,
            });
            for (key, property) in properties {
                nodes(whole, property, &below(Step::Key(key.clone())), found);
            }
        }
        if one["additionalProperties"].is_object() {
            let any = below(Step::Key(String::from("any")));
            nodes(whole, &one["additionalProperties"], &any, found);
        }
        if one["items"].is_object() {
            nodes(whole, &one["items"], &below(Step::Item), found);
        }
    }
}

fn resolved(whole: &Value, at: &Value) -> Value {
    match at["$ref"].as_str() {
        Some(path) => whole.pointer(&path[1..]).expect("defined").clone(),
        None => at.clone(),
    }
}

/// A file that says what nobody knows in one place, and nothing else.
fn file_with(node: &SchemaNode) -> String {
    let mut value = match node.is_mapping {
        true => json!({NOBODYS: "2015-05-17"}),
        false => json!(NOBODYS),
    };
    for step in node.path.iter().rev() {
        value = match step {
            Step::Key(key) => Value::Object(Map::from_iter([(key.clone(), value)])),
            Step::Item => json!([value]),
        };
    }
    value.to_string()
}

/// What the parser of a file says first.
fn said(name: &str, text: &str) -> String {
    let dir = tempfile::tempdir().expect("a folder");
    let problems = match name {
        "kpis" | "dashboard" => {
            let folder = dir
                .path()
                .join(if name == "kpis" { "kpis" } else { "dashboards" });
            fs::create_dir(&folder).expect("made");
            fs::write(folder.join("it.yaml"), text).expect("written");
            serin_dashboards::check(dir.path()).problems
        }
        "service" => serin_control::service::read("it", "it", text).expect_err("nobody's"),
        _ => {
            fs::write(dir.path().join(settings::FILE), text).expect("written");
            Settings::load(dir.path()).expect_err("nobody's")
        }
    };
    let first = problems.first().expect("a problem");
    format!(
        "{} {}",
        first.message,
        first.hint.as_deref().unwrap_or_default()
    )
}

#[test]
fn schemas_and_parsers_know_the_same_keys_and_words() {
    let mut words_compared = 0;
    for Schema { name, .. } in &ALL {
        let whole = schema(name);
        let mut found = Vec::new();
        nodes(&whole, &whole, &[], &mut found);
        for node in found {
            let text = file_with(&node);
            let said = said(name, &text);
            let Some((_, there)) = said.split_once("there are ") else {
                // A word of a value that another step than the parser looks at.
                assert!(!node.is_mapping, "{text}: {said}");
                continue;
            };
            words_compared += usize::from(!node.is_mapping);
            let parsers: BTreeSet<String> = there.split(", ").map(str::to_owned).collect();
            assert_eq!(node.known, parsers, "{name}: {text}");
        }
    }
    assert!(words_compared >= 5, "{words_compared}");
}

#[test]
fn each_lies_where_new_files_look_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&dir.path().join(".serin")).expect("written");
    let kind = Kind {
        lang: Lang::Script,
        is_web: true,
    };
    for file in scaffold::write(dir.path(), "greet", kind).expect("written") {
        let text = fs::read_to_string(&file).expect("there");
        let Some(line) = text.lines().next().filter(|line| line.contains("$schema=")) else {
            assert!(
                file.extension().is_some_and(|end| end != "yaml"),
                "{}",
                file.display()
            );
            continue;
        };
        let (_, relative) = line.split_once("$schema=").expect("found");
        let schema = file.parent().expect("a folder").join(relative);
        assert!(schema.is_file(), "{line} in {}", file.display());
    }
}
