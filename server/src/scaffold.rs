//! A new service: a small one that works, in the language of choice, with an event, a KPI and a
//! dashboard of its own. Never writes over a file.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serin_control::service::OWN_NAMES;

/// What a service is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lang {
    /// A page and a script, run by serin itself: nothing else is needed.
    Script,
    /// Python 3.9 or newer.
    Python,
}

/// A file to write, and where.
type File = (&'static str, &'static str);

const SCRIPT: [File; 3] = [
    (
        "service.yaml",
        include_str!("../templates/script/service.yaml"),
    ),
    ("main.rhai", include_str!("../templates/script/main.rhai")),
    ("page.html", include_str!("../templates/script/page.html")),
];
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
const KPIS: &str = include_str!("../templates/kpis.yaml");
const DASHBOARD: &str = include_str!("../templates/dashboard.yaml");

/// Writes a service into `DIR/services/NAME`, and its KPI and dashboard beside; the files written.
pub(crate) fn write(dir: &Path, name: &str, lang: Lang) -> Result<Vec<PathBuf>> {
    serin_wire::name::check_service(name)?;
    if OWN_NAMES.contains(&name) {
        bail!("{name:?} is a part of Serin; give the service another name");
    }
    let folder = dir.join("services").join(name);
    let sources: &[File] = match lang {
        Lang::Script => &SCRIPT,
        Lang::Python => &PYTHON,
    };
    let mut files: Vec<(PathBuf, &str)> = sources
        .iter()
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
        let text = text
            .replace("%NAME%", name)
            .replace("%KEY%", &name.replace('-', "_"));
        write_new(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
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

    #[test]
    fn what_is_written_passes_the_checks_and_is_never_written_over() {
        for lang in [Lang::Script, Lang::Python] {
            let dir = tempfile::tempdir().expect("a folder");
            write(dir.path(), "my-shop", lang).expect("written");
            let report = serin_dashboards::check(dir.path());
            assert!(report.problems.is_empty(), "{:?}", report.problems);
            let file = dir.path().join("services/my-shop/service.yaml");
            let text = fs::read_to_string(file).expect("there");
            serin_control::service::read("service.yaml", "my-shop", &text).expect("right");
            let error = write(dir.path(), "my-shop", lang).expect_err("there already");
            assert!(error.to_string().contains("is there already"), "{error}");
        }
        let dir = tempfile::tempdir().expect("a folder");
        for bad in ["My Shop", "gateway", "../x"] {
            assert!(write(dir.path(), bad, Lang::Script).is_err(), "{bad}");
        }
    }
}
