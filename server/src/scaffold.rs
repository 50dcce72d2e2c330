//! A new service: a small one that works, in the language of choice, with an event, a KPI and a
//! dashboard of its own. Never writes over a file.
//!
//! Lines of a template that begin with `%WEB%` are for services with a page, those with `%BUS%` for
//! services without one. Start at [`write`].

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serin_control::service::OWN_NAMES;

use crate::schemas;

/// What a service is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// A page and a script, run by serin itself: nothing else is needed.
    Script,
    /// Python 3.9 or newer.
    Python,
    /// TypeScript, run by Node.js 20 or newer as it is.
    Typescript,
    /// Rust, built by cargo.
    Rust,
}

/// What a new service is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) lang: Lang,
    /// Whether it has a page at the gateway.
    pub(crate) is_web: bool,
}

/// A file to write, and where.
type File = (&'static str, &'static str);

const SCRIPT: [File; 3] = [
    (
        "service.yaml",
        include_str!("../templates/script/service.yaml"),
    ),
    ("main.rhai", include_str!("../templates/script/main.rhai")),
    (PAGE, include_str!("../templates/script/page.html")),
];
/// The only file that is nothing but a page.
const PAGE: &str = "page.html";
const PYTHON: [File; 3] = [
    (
        "service.yaml",
        include_str!("../templates/python/service.yaml"),
    ),
    ("main.py", include_str!("../templates/python/main.py")),
    (
        "main_test.py",
        include_str!("../templates/python/main_test.py"),
    ),
];
const TYPESCRIPT: [File; 6] = [
    (
        "service.yaml",
        include_str!("../templates/typescript/service.yaml"),
    ),
    ("main.ts", include_str!("../templates/typescript/main.ts")),
    ("app.ts", include_str!("../templates/typescript/app.ts")),
    (
        "app.test.ts",
        include_str!("../templates/typescript/app.test.ts"),
    ),
    (
        "package.json",
        include_str!("../templates/typescript/package.json"),
    ),
    (
        "tsconfig.json",
        include_str!("../templates/typescript/tsconfig.json"),
    ),
];
const RUST: [File; 4] = [
    (
        "service.yaml",
        include_str!("../templates/rust/service.yaml"),
    ),
    ("Cargo.toml", include_str!("../templates/rust/Cargo.toml")),
    ("src/main.rs", include_str!("../templates/rust/src/main.rs")),
    (".gitignore", include_str!("../templates/rust/gitignore")),
];
const KPIS: &str = include_str!("../templates/kpis.yaml");
const DASHBOARD: &str = include_str!("../templates/dashboard.yaml");

/// Folders beside the program that cargo builds, whose names the program may not have.
const CARGO_FOLDERS: [&str; 4] = ["build", "deps", "examples", "incremental"];

/// Writes a service into `DIR/services/NAME`, and its KPI and dashboard beside; the files written.
pub(crate) fn write(dir: &Path, name: &str, kind: Kind) -> Result<Vec<PathBuf>> {
    check_name(name, kind.lang)?;
    let folder = dir.join("services").join(name);
    let sources: &[File] = match kind.lang {
        Lang::Script => &SCRIPT,
        Lang::Python => &PYTHON,
        Lang::Typescript => &TYPESCRIPT,
        Lang::Rust => &RUST,
    };
    let mut files: Vec<(PathBuf, &str)> = sources
        .iter()
        .filter(|(file, _)| kind.is_web || *file != PAGE)
        .map(|(file, text)| (folder.join(file), *text))
        .collect();
    files.push((dir.join(format!("kpis/{name}.yaml")), KPIS));
    files.push((dir.join(format!("dashboards/{name}.yaml")), DASHBOARD));
    if let Some((there, _)) = files.iter().find(|(path, _)| path.exists()) {
        bail!(
            "{} is there already; choose another name, or remove it",
            there.display()
        );
    }
    for (path, text) in &files {
        let line = schema_line(dir, path);
        let text = format!("{line}{}", filled(text, name, kind.is_web));
        write_new(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// For the files that an editor can complete and check.
fn schema_line(dir: &Path, path: &Path) -> String {
    let below = path.strip_prefix(dir).unwrap_or(path);
    let mut words = below.iter().filter_map(OsStr::to_str);
    match (words.next(), words.next_back()) {
        (Some("kpis"), _) => schemas::line("kpis", 1),
        (Some("dashboards"), _) => schemas::line("dashboard", 1),
        (Some("services"), Some("service.yaml")) => schemas::line("service", 2),
        _ => String::new(),
    }
}

fn check_name(name: &str, lang: Lang) -> Result<()> {
    serin_wire::name::check_service(name)?;
    if OWN_NAMES.contains(&name) {
        bail!("{name:?} is a part of Serin; give the service another name");
    }
    let is_package = !name.starts_with(|first: char| first.is_ascii_digit());
    if lang == Lang::Rust && (!is_package || CARGO_FOLDERS.contains(&name)) {
        bail!("cargo builds no program named {name:?}; give the service another name");
    }
    Ok(())
}

/// A template with the lines of its kind, and the names filled in.
fn filled(template: &str, name: &str, is_web: bool) -> String {
    let (kept, left_out) = if is_web {
        ("%WEB%", "%BUS%")
    } else {
        ("%BUS%", "%WEB%")
    };
    let what = if is_web {
        "a page, and an endpoint on the bus"
    } else {
        "an endpoint on the bus"
    };
    let mut text = String::with_capacity(template.len());
    for line in template.lines() {
        if !line.starts_with(left_out) {
            text.push_str(line.strip_prefix(kept).unwrap_or(line));
            text.push('\n');
        }
    }
    text.replace("%NAME%", name)
        .replace("%KEY%", &name.replace('-', "_"))
        .replace("%WHAT%", what)
}

fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let mut file = fs::File::create_new(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds() -> impl Iterator<Item = Kind> {
        let langs = Lang::value_variants().iter();
        langs.flat_map(|&lang| [true, false].map(|is_web| Kind { lang, is_web }))
    }

    #[test]
    fn what_is_written_passes_the_checks_and_is_never_written_over() {
        for kind in kinds() {
            let dir = tempfile::tempdir().expect("a folder");
            let files = write(dir.path(), "my-shop", kind).expect("written");
            let report = serin_dashboards::check(dir.path());
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            let file = dir.path().join("services/my-shop/service.yaml");
            let text = fs::read_to_string(file).expect("there");
            let service = serin_control::service::read("service.yaml", "my-shop", &text);
            assert_eq!(service.expect("right").web.is_some(), kind.is_web);
            for file in files {
                let text = fs::read_to_string(&file).expect("there");
                for mark in ["%WEB%", "%BUS%", "%NAME%", "%KEY%", "%WHAT%"] {
                    assert!(!text.contains(mark), "{}: {text}", file.display());
                }
            }
            let error = write(dir.path(), "my-shop", kind).expect_err("there already");
            assert!(error.to_string().contains("is there already"), "{error}");
        }
    }

    #[test]
    fn names_are_checked_before_anything_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        for kind in kinds() {
            for bad in ["My Shop", "gateway", "../x", "node_modules", ""] {
                assert!(write(dir.path(), bad, kind).is_err(), "{bad}");
            }
        }
        let rust = Kind {
            lang: Lang::Rust,
            is_web: true,
        };
        for bad in ["7up", "deps"] {
            assert!(write(dir.path(), bad, rust).is_err(), "{bad}");
        }
        assert!(!dir.path().join("services").exists());
    }
}
