//! All files of a folder together: KPIs compiled, rules and dashboards resolved, faults listed.
//!
//! Pure: texts in, a [`Library`] out. What is broken now but was right before stays as it was, so
//! that a slip of the pen never empties a dashboard that people look at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serin_query::kpi::{Catalog, Definition, KpiError, Rule, RuleSet, compile};
use serin_yaml::{Place, Problem, code};

use crate::builtin;
use crate::model::Dashboard;
use crate::resolve::{self, Names};
use crate::spec::{KpiFile, Placed, RawDashboard, read_kpis};

/// Everything that YAML defines.
#[derive(Debug, Clone, Default)]
pub struct Library {
    /// Rises with every change.
    pub revision: u64,
    /// The compiled KPIs by name.
    pub kpis: Arc<Catalog>,
    /// The rules with their KPIs.
    pub rules: Arc<RuleSet>,
    /// The dashboards by name.
    pub dashboards: BTreeMap<String, Arc<Dashboard>>,
    /// What is wrong, in the order of files and lines.
    pub problems: Vec<Problem>,
    /// How many files were read.
    pub files: usize,
    /// Where each KPI of the folder is defined.
    pub(crate) origins: BTreeMap<String, (String, Place)>,
}

/// A file's path below the folder, and its text or why it cannot be read; a folder that cannot be
/// listed is there too, its path with a slash at its end.
pub(crate) type Texts = BTreeMap<String, Result<String, String>>;

/// What was right last time.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    kpi_files: BTreeMap<String, KpiFile>,
    definitions: BTreeMap<String, Definition>,
    rules: Vec<Rule>,
    dashboards: BTreeMap<String, RawDashboard>,
    resolved: BTreeMap<String, Arc<Dashboard>>,
}

/// A KPI with the file it stands in; `None` for a built-in one.
#[derive(Debug, Clone)]
struct Filed {
    file: Option<String>,
    placed: Placed,
}

/// Makes a library of the texts, with `kept` filling in for what is broken now.
pub(crate) fn build(texts: &Texts, kept: &mut Kept, revision: u64) -> Library {
    let mut problems = Vec::new();
    let kpi_files = kpi_files(texts, kept, &mut problems);
    let filed = gather(&kpi_files, &kept.definitions, &mut problems);
    let origins = filed
        .iter()
        .filter_map(|(name, filed)| Some((name.clone(), (filed.file.clone()?, filed.placed.place))))
        .collect();
    let defined: BTreeSet<String> = filed.keys().cloned().collect();
    let kpis = Arc::new(compile_all(filed, kept, &mut problems));
    let broken = defined
        .into_iter()
        .filter(|name| !kpis.contains_key(name))
        .collect();
    let names = Names {
        kpis: &kpis,
        broken: &broken,
    };
    let rules = rules(&kpi_files, kept, &names, &mut problems);
    let dashboards = dashboards(texts, kept, &names, &mut problems);
    problems.sort();
    Library {
        revision,
        rules: Arc::new(RuleSet {
            rules,
            kpis: Arc::clone(&kpis),
        }),
        kpis,
        dashboards,
        problems,
        files: texts.keys().filter(|path| !path.ends_with('/')).count(),
        origins,
    }
}

fn unreadable(file: &str, reason: &str) -> Problem {
    Problem::new(file, Place::default(), code::FILE, reason.to_owned())
}

fn kpi_files(
    texts: &Texts,
    kept: &mut Kept,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, KpiFile> {
    let mut files = BTreeMap::new();
    for (file, text) in texts.iter().filter(|(file, _)| file.starts_with("kpis/")) {
        let read = match text {
            Ok(text) => read_kpis(file, text, problems),
            Err(reason) => Err(vec![unreadable(file, reason)]),
        };
        match read {
            Ok(read) => {
                files.insert(file.clone(), read);
            }
            Err(faults) => {
                problems.extend(faults);
                if let Some(before) = kept.kpi_files.get(file) {
                    files.insert(file.clone(), before.clone());
                }
            }
        }
    }
    kept.kpi_files = files.clone();
    files
}

/// All KPIs by name; the folder's own replace built-in ones. One whose keys do not fit together is
/// what it was `before`.
fn gather(
    files: &BTreeMap<String, KpiFile>,
    before: &BTreeMap<String, Definition>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Filed> {
    let built_in = builtin::kpis().definitions.into_iter();
    let mut filed: BTreeMap<String, Filed> = built_in
        .map(|placed| (placed.definition.name.clone(), Filed { file: None, placed }))
        .collect();
    for (file, content) in files {
        for placed in &content.definitions {
            let name = &placed.definition.name;
            if let Some(Filed {
                file: Some(other),
                placed: first,
            }) = filed.get(name)
            {
                let message = format!(
                    "the KPI {name:?} is defined already in {other}:{}",
                    first.place.line
                );
                let hint = String::from("rename one of them");
                problems.push(Problem::new(file, placed.place, code::TWICE, message).hint(hint));
                continue;
            }
            let (file, placed) = (Some(file.clone()), placed.clone());
            filed.insert(name.clone(), Filed { file, placed });
        }
    }
    for (file, content) in files {
        for (name, place) in &content.unfit {
            let is_filed = filed.get(name).is_some_and(|filed| filed.file.is_some());
            let Some(definition) = before.get(name).filter(|_| !is_filed) else {
                continue;
            };
            let placed = Placed {
                definition: definition.clone(),
                place: *place,
                fields: BTreeMap::new(),
            };
            let file = Some(file.clone());
            filed.insert(name.clone(), Filed { file, placed });
        }
    }
    filed
}

/// Compiles what can be compiled. A KPI that fails is what it was before, or is left out; of those
/// that fail only because another one does, nothing is told.
fn compile_all(
    mut filed: BTreeMap<String, Filed>,
    kept: &mut Kept,
    problems: &mut Vec<Problem>,
) -> Catalog {
    let mut is_first = true;
    loop {
        let definitions: Vec<Definition> = filed
            .values()
            .map(|filed| filed.placed.definition.clone())
            .collect();
        let errors = match compile(definitions) {
            Ok(catalog) => {
                let named = filed.into_iter();
                kept.definitions = named
                    .map(|(name, filed)| (name, filed.placed.definition))
                    .collect();
                return catalog;
            }
            Err(errors) => errors,
        };
        if is_first {
            problems.extend(errors.iter().map(|error| kpi_problem(error, &filed)));
        }
        is_first = false;
        let failed: BTreeSet<String> = errors.into_iter().map(|error| error.kpi).collect();
        let before = filed.len();
        for name in failed {
            match (kept.definitions.remove(&name), filed.get_mut(&name)) {
                (Some(right), Some(filed)) if right != filed.placed.definition => {
                    filed.placed.definition = right;
                }
                _ => {
                    filed.remove(&name);
                }
            }
        }
        if filed.is_empty() && before == 0 {
            return Catalog::new();
        }
    }
}

fn kpi_problem(error: &KpiError, filed: &BTreeMap<String, Filed>) -> Problem {
    let found = filed.get(&error.kpi);
    let file = found
        .and_then(|filed| filed.file.as_deref())
        .unwrap_or("built-in");
    let place = found.map_or(Place::default(), |filed| {
        filed
            .placed
            .fields
            .get(error.field)
            .copied()
            .unwrap_or(filed.placed.place)
    });
    let message = format!("kpi {:?}: {}: {}", error.kpi, error.field, error.message);
    Problem::new(file, place, code::KPI, message)
}

/// The rules of all files. One with a fault is what it was before, as long as its KPI is there.
fn rules(
    files: &BTreeMap<String, KpiFile>,
    kept: &mut Kept,
    names: &Names<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for (file, content) in files {
        for (name, raw) in &content.rules {
            if rules.iter().any(|rule| rule.name == name.value) {
                let message = format!("there is a rule {:?} already", name.value);
                let hint = String::from("rename one of them");
                problems.push(Problem::new(file, Place::of(name), code::TWICE, message).hint(hint));
            } else {
                let before = || kept.rules.iter().find(|rule| rule.name == name.value);
                let rule = resolve::rule(file, name, raw, names, problems);
                rules.extend(rule.or_else(|| before().cloned()));
            }
        }
    }
    kept.rules = rules.clone();
    rules.retain(|rule| names.kpis.contains_key(&rule.kpi));
    rules
}

fn dashboards(
    texts: &Texts,
    kept: &mut Kept,
    names: &Names<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Arc<Dashboard>> {
    let mut found: BTreeMap<String, Arc<Dashboard>> = BTreeMap::new();
    let (mut raws, mut resolved) = (BTreeMap::new(), BTreeMap::new());
    for (file, text) in texts
        .iter()
        .filter(|(file, _)| file.starts_with("dashboards/"))
    {
        let read = match text {
            Ok(text) => serin_yaml::read::<RawDashboard>(file, text),
            Err(reason) => Err(vec![unreadable(file, reason)]),
        };
        let is_read = read.is_ok();
        let raw = match read {
            Ok(raw) => raw,
            Err(faults) => {
                problems.extend(faults);
                match kept.dashboards.get(file) {
                    Some(raw) => raw.clone(),
                    None => continue,
                }
            }
        };
        let mut faults = Vec::new();
        let mut dashboard = Arc::new(resolve::dashboard(file, &raw, names, &mut faults));
        if !faults.is_empty()
            && let Some(before) = kept.resolved.get(file)
        {
            dashboard = Arc::clone(before);
        }
        if is_read {
            problems.append(&mut faults);
        }
        raws.insert(file.clone(), raw.clone());
        resolved.insert(file.clone(), Arc::clone(&dashboard));
        let first = found
            .get(&dashboard.name)
            .and_then(|first| first.file.clone());
        if let Some(first) = first {
            let message = format!(
                "the dashboard {:?} is defined already in {first}",
                dashboard.name
            );
            let hint = String::from("rename one of them");
            let place = Place::of(&raw.dashboard);
            problems.push(Problem::new(file, place, code::TWICE, message).hint(hint));
            continue;
        }
        found.insert(dashboard.name.clone(), dashboard);
    }
    kept.dashboards = raws;
    kept.resolved = resolved;
    for dashboard in builtin::dashboards(names) {
        found
            .entry(dashboard.name.clone())
            .or_insert_with(|| Arc::new(dashboard));
    }
    found
}
