//! All services of a project's folder at once: each file, its secrets, and what only shows between them.
//!
//! For `serin check`, beside which nothing need run. Start at [`check`].

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serin_yaml::{Place, Problem, code};

use super::raw::RawService;
use super::{FILE, Others, Service, env_file, resolve};

/// What was found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many files were read.
    pub files: usize,
    /// What is wrong, in the order of names and lines.
    pub problems: Vec<Problem>,
}

/// A file under `services/`, as it was read.
struct Read {
    /// As problems name it.
    file: String,
    folder: String,
    text: String,
}

/// Reads `DIR/services/*/service.yaml`.
pub fn check(dir: &Path) -> Checked {
    let mut checked = Checked::default();
    let mut reads = Vec::new();
    for folder in folders(dir) {
        let file = format!("services/{folder}/{FILE}");
        let path = dir.join(&file);
        if !path.is_file() {
            continue;
        }
        checked.files += 1;
        match fs::read_to_string(&path) {
            Ok(text) => reads.push(Read { file, folder, text }),
            Err(error) => {
                let message = format!("cannot read the file: {error}");
                let place = Place::default();
                let problem = Problem::new(&file, place, code::FILE, message);
                checked.problems.push(problem);
            }
        }
    }
    beside_each_other(&reads, &mut checked.problems);
    for read in &reads {
        let folder = dir.join("services").join(&read.folder);
        checked.files += usize::from(folder.join(env_file::FILE).is_file());
        let faults = check_secrets(&folder, &read.folder);
        checked.problems.extend(faults);
    }
    checked.problems.sort_by(|a, b| a.file.cmp(&b.file));
    checked
}

/// What is wrong with the file of secrets of the service `name`.
pub(crate) fn check_secrets(folder: &Path, name: &str) -> Vec<Problem> {
    let file = format!("services/{name}/{}", env_file::FILE);
    match fs::read_to_string(folder.join(env_file::FILE)) {
        Ok(text) => env_file::read(&file, &text).1,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let message = format!("cannot read the file: {error}");
            vec![Problem::new(&file, Place::default(), code::FILE, message)]
        }
    }
}

/// The names of the folders that may hold a service, sorted.
fn folders(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("services"));
    let names = entries.into_iter().flatten().flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn beside_each_other(reads: &[Read], problems: &mut Vec<Problem>) {
    let after = |read: &Read| {
        let raw: Option<RawService> = serin_yaml::read(&read.file, &read.text).ok();
        let after = raw.and_then(|raw| raw.after);
        (
            read.folder.clone(),
            after.map_or_else(Vec::new, |names| names.value.0),
        )
    };
    let others: Others = reads.iter().map(after).collect();
    let mut paths: BTreeMap<String, &str> = BTreeMap::new();
    for read in reads {
        match one(read, &others) {
            Err(found) => problems.extend(found),
            Ok((service, web)) => {
                let Some(path) = service.web else { continue };
                if let Some(first) = paths.get(&path) {
                    let message = format!("{path} is the path of {first:?} already");
                    let problem = Problem::new(&read.file, web, code::VALUE, message);
                    problems.push(problem.hint("a path of its own".to_owned()));
                } else {
                    paths.insert(path, &read.folder);
                }
            }
        }
    }
}

/// One service, and where its path is written.
fn one(read: &Read, others: &Others) -> Result<(Service, Place), Vec<Problem>> {
    let raw: RawService = serin_yaml::read(&read.file, &read.text)?;
    let web = raw.web.as_ref().map(Place::of).unwrap_or_default();
    let service = resolve::resolve(&read.file, &read.folder, raw, Some(others))?;
    Ok((service, web))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_between_services_are_found_without_a_server() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            let folder = dir.path().join("services").join(name);
            fs::create_dir_all(&folder).expect("a folder");
            fs::write(folder.join(FILE), text).expect("a file");
        };
        write("cart", "run: x\nweb: /shop\nafter: [db]\n");
        write("db", "run: x\nafter: [cart]\n");
        write("front", "run: x\nweb: /shop/\n");
        write("mail", "run: x\nafter: [nobody]\nrnu: y\n");
        // No service: nothing is said of it.
        fs::create_dir_all(dir.path().join("services/notes")).expect("a folder");
        let checked = check(dir.path());
        assert_eq!(checked.files, 4);
        let places = |checked: &Checked| -> Vec<String> {
            let places = checked.problems.iter();
            places
                .map(|one| format!("{}:{}", one.file, one.line))
                .collect()
        };
        let expected = ["cart:3", "db:2", "mail:3"].map(|place| {
            let (name, line) = place.split_once(':').expect("both");
            format!("services/{name}/service.yaml:{line}")
        });
        assert_eq!(places(&checked), expected, "{:?}", checked.problems);
        let secrets = dir.path().join("services/cart/.env");
        fs::write(&secrets, "KEY=value\nKEY\n").expect("a file");
        let with_secrets = check(dir.path());
        assert_eq!(with_secrets.files, 5);
        assert_eq!(places(&with_secrets)[0], "services/cart/.env:2");
        fs::remove_file(&secrets).expect("removed");
        // The circle mended, the paths are seen.
        write("db", "run: x\n");
        write("mail", "run: x\n");
        let checked = check(dir.path());
        let told: Vec<String> = checked.problems.iter().map(Problem::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("services/front/service.yaml:2:6: "),
            "{told:?}"
        );
        assert!(
            told[0].contains("/shop is the path of \"cart\" already"),
            "{told:?}"
        );
    }
}
