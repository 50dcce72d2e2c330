//! A script, compiled once, with the pages beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rhai::serde::{from_dynamic, to_dynamic};
use rhai::{AST, Dynamic, Engine, EvalAltResult, Position, Scope};
use serde_json::Value;
use serin_sdk::Serin;
use thiserror::Error;

use crate::answer::{Answer, Asked};
use crate::functions::{Pages, engine};

/// The script of a service.
const FILE: &str = "main.rhai";
/// What a page's name ends in.
const PAGE_END: &str = "html";
/// A longer page is no page.
const PAGE_BYTES_MAX: u64 = 4 << 20;
/// The function for web requests.
const WEB: &str = "web";
/// What stands before the endpoint's name in its function's.
const ENDPOINT: &str = "on_";

/// Why a script does not run.
#[derive(Debug, Error)]
pub enum ScriptError {
    /// A file could not be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// It cannot be understood.
    #[error("{file}:{line}:{column}: {message}")]
    Compile {
        /// The script.
        file: &'static str,
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// It has nothing to serve.
    #[error("{FILE} serves nothing; write fn web(request) {{ … }} or fn on_add(data) {{ … }}")]
    Empty,
    /// It failed.
    #[error("{FILE}:{place}: {message}")]
    Failed {
        /// Line and column.
        place: String,
        /// What went wrong.
        message: String,
    },
}

/// A script that can be asked.
pub struct Script {
    engine: Engine,
    code: AST,
}

impl Script {
    /// Reads and compiles the script of a folder. Without a connection nothing is emitted.
    pub fn load(folder: &Path, serin: Option<Serin>) -> Result<Script, ScriptError> {
        let file = folder.join(FILE);
        let text = fs::read_to_string(&file).map_err(|error| ScriptError::Read(file, error))?;
        let engine = engine(pages(folder)?, serin);
        let code = engine.compile(text).map_err(|error| ScriptError::Compile {
            file: FILE,
            line: error.1.line().unwrap_or(1),
            column: error.1.position().unwrap_or(1),
            message: error.0.to_string(),
        })?;
        let script = Script { engine, code };
        match script.has_web() || !script.endpoints().is_empty() {
            true => Ok(script),
            false => Err(ScriptError::Empty),
        }
    }

    /// Whether it answers web requests.
    pub fn has_web(&self) -> bool {
        let mut functions = self.code.iter_functions();
        functions.any(|function| function.name == WEB && function.params.len() == 1)
    }

    /// The endpoints it serves on the bus.
    pub fn endpoints(&self) -> Vec<String> {
        let functions = self.code.iter_functions();
        let of = functions.filter(|function| function.params.len() == 1);
        of.filter_map(|function| function.name.strip_prefix(ENDPOINT))
            // Names of endpoints have hyphens, those of functions cannot.
            .map(|name| name.replace('_', "-"))
            .collect()
    }

    /// Answers a web request.
    pub fn web(&self, asked: &Asked) -> Result<Answer, ScriptError> {
        let request = asked.to_dynamic().map_err(|error| failed(&error))?;
        let returned = self.run(WEB, request)?;
        Answer::of(returned).map_err(|error| failed(&error))
    }

    /// Answers a call of an endpoint.
    pub fn call(&self, endpoint: &str, data: &Value) -> Result<Value, ScriptError> {
        let data = to_dynamic(data).map_err(|error| failed(&error))?;
        let name = format!("{ENDPOINT}{}", endpoint.replace('-', "_"));
        let returned = self.run(&name, data)?;
        from_dynamic(&returned).map_err(|error| failed(&error))
    }

    fn run(&self, function: &str, parameter: Dynamic) -> Result<Dynamic, ScriptError> {
        let called = self
            .engine
            .call_fn(&mut Scope::new(), &self.code, function, (parameter,));
        called.map_err(|error| failed(&error))
    }
}

fn failed(error: &EvalAltResult) -> ScriptError {
    let mut inner = error;
    // The innermost says what went wrong; those around it only who called.
    while let EvalAltResult::ErrorInFunctionCall(_, _, cause, _) = inner {
        inner = cause;
    }
    let place = match inner.position() {
        Position::NONE => error.position(),
        position => position,
    };
    let mut told = inner.to_string();
    // The place is told in front.
    if let Some(at) = told.rfind(" (line ") {
        told.truncate(at);
    }
    ScriptError::Failed {
        place: format!(
            "{}:{}",
            place.line().unwrap_or(1),
            place.position().unwrap_or(1)
        ),
        message: told,
    }
}

/// The pages of a folder.
fn pages(folder: &Path) -> Result<Pages, ScriptError> {
    let failed = |error| ScriptError::Read(folder.to_path_buf(), error);
    let mut pages = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_page = path.extension().is_some_and(|end| end == PAGE_END)
            && fs::metadata(&path).is_ok_and(|file| file.is_file() && file.len() <= PAGE_BYTES_MAX);
        if is_page && let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            let text = fs::read_to_string(&path)
                .map_err(|error| ScriptError::Read(path.clone(), error))?;
            pages.insert(name.to_owned(), text);
        }
    }
    Ok(Arc::new(pages))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn script(code: &str) -> Result<Script, ScriptError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), code).unwrap();
        fs::write(folder.path().join("hi.html"), "<p>Hello, {{ name }}!</p>").unwrap();
        Script::load(folder.path(), None)
    }

    fn asked(query: &str) -> Asked {
        Asked {
            method: String::from("GET"),
            path: String::from("/"),
            query: query.to_owned(),
            ..Asked::default()
        }
    }

    #[test]
    fn a_page_is_filled_and_text_is_no_markup() {
        let script = script(
            r#"fn web(request) {
                emit("hello.greeted", #{ path: request.path });
                page("hi.html", #{ name: request.query.name ?? "world" })
            }"#,
        )
        .unwrap();
        let answer = script.web(&asked("name=<b>")).unwrap();
        assert_eq!(answer.body, "<p>Hello, &lt;b&gt;!</p>");
        assert_eq!(answer.headers[0].1, "text/html; charset=utf-8");
        assert_eq!(script.web(&asked("")).unwrap().body, "<p>Hello, world!</p>");
    }

    #[test]
    fn endpoints_take_and_return_values() {
        let script = script("fn on_add_item(data) { #{ total: data.a + data.b } }").unwrap();
        assert_eq!(script.endpoints(), ["add-item"]);
        let answer = script.call("add-item", &json!({"a": 1, "b": 2})).unwrap();
        assert_eq!(answer, json!({"total": 3}));
    }

    #[test]
    fn answers_can_say_more() {
        let code =
            r#"fn web(r) { #{ status: 404, body: #{ why: "no" }, headers: #{ "X-A": "1" } } }"#;
        let answer = script(code).unwrap().web(&asked("")).unwrap();
        assert_eq!((answer.status, &*answer.body), (404, r#"{"why":"no"}"#));
        assert!(answer.headers.contains(&("x-a".into(), "1".into())));
    }

    #[test]
    fn faults_say_where_they_are() {
        let error = |code: &str| match script(code).and_then(|script| script.web(&asked(""))) {
            Ok(answer) => panic!("{answer:?}"),
            Err(error) => error.to_string(),
        };
        let told = error("fn web(r) {\n  let x = ;\n}");
        assert!(told.starts_with("main.rhai:2:"), "{told}");
        let told = error("fn web(r) {\n  nonsense(r)\n}");
        assert!(
            told.starts_with("main.rhai:2:3: Function not found"),
            "{told}"
        );
        let told = error("fn web(r) { page(\"ho.html\", #{}) }");
        assert!(told.contains("there are hi.html"), "{told}");
        let told = error("fn web(r) { loop {} }");
        assert!(told.contains("operations"), "{told}");
        assert!(error("let x = 1;").contains("serves nothing"));
    }
}
