//! A saved file is seen, and a broken one leaves what was right before.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::event::AccessKind;
use notify::{EventKind, RecursiveMode, Watcher};
use serin_dashboards::load::Loader;
use serin_dashboards::{Library, Watch};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(30);
const KPI: &str = "kpis:\n  sales: {title: Sales, event: sale, measure: count()}\n";
const BOARD: &str = "dashboard: shop\npanels:\n  sales: {kpi: sales}\n";

async fn until(
    library: &mut Receiver<Arc<Library>>,
    is_so: impl FnMut(&Arc<Library>) -> bool,
) -> Arc<Library> {
    let seen = tokio::time::timeout(PATIENCE, library.wait_for(is_so)).await;
    Arc::clone(&seen.expect("a change is seen").expect("the watch goes on"))
}

fn write(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    // As editors do: else half of it could be read.
    let aside = path.with_extension("new");
    fs::write(&aside, text).expect("written");
    fs::rename(aside, path).expect("renamed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_are_seen_and_mistakes_are_survived() {
    let dir = tempfile::tempdir().expect("a folder");
    let watch = Watch::start(dir.path());
    let mut library = watch.library();
    assert!(!library.borrow().dashboards.contains_key("shop"));

    write(dir.path(), "kpis/shop.yaml", KPI);
    write(dir.path(), "dashboards/shop.yaml", BOARD);
    let title = |library: &Arc<Library>| {
        let panel = library.dashboards.get("shop")?.panel("sales")?;
        Some(panel.title.clone())
    };
    until(&mut library, |library| {
        title(library).as_deref() == Some("Sales")
    })
    .await;

    write(
        dir.path(),
        "kpis/shop.yaml",
        &KPI.replace("Sales", "Umsatz"),
    );
    until(&mut library, |library| {
        title(library).as_deref() == Some("Umsatz")
    })
    .await;

    write(dir.path(), "kpis/shop.yaml", "kpis: [");
    let broken = until(&mut library, |library| !library.problems.is_empty()).await;
    assert_eq!(title(&broken).as_deref(), Some("Umsatz"));
    assert_eq!(broken.problems[0].file, "kpis/shop.yaml");

    write(
        dir.path(),
        "kpis/shop.yaml",
        &KPI.replace("count()", "nonsense("),
    );
    let before = &broken.problems;
    let broken = until(&mut library, |library| library.problems != *before).await;
    assert_eq!(broken.problems.len(), 1, "{:?}", broken.problems);
    assert!(broken.kpis.contains_key("sales"));

    write(
        dir.path(),
        "dashboards/shop.yaml",
        &BOARD.replace("kpi: sales", "kpi: sails"),
    );
    let broken = until(&mut library, |library| library.problems.len() == 2).await;
    assert!(title(&broken).is_some());

    fs::remove_file(dir.path().join("dashboards/shop.yaml")).expect("removed");
    until(&mut library, |library| {
        !library.dashboards.contains_key("shop")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_is_no_reason_for_the_next() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "kpis/shop.yaml", KPI);
    // More opens than are waited for.
    let (tell, mut opened) = tokio::sync::mpsc::channel(16);
    let mut other = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let kind = event.expect("a notice").kind;
        if matches!(kind, EventKind::Access(AccessKind::Open(_))) {
            tell.try_send(Instant::now()).ok();
        }
    })
    .expect("notices");
    let file = dir.path().join("kpis/shop.yaml");
    other
        .watch(&file, RecursiveMode::NonRecursive)
        .expect("watched");

    let _watch = Watch::start(dir.path());
    let first = opened.recv().await.expect("the first look");
    for _ in 0..2 {
        opened.recv().await.expect("another look");
    }
    assert!(
        first.elapsed() > Duration::from_secs(1),
        "the folder is read all the time"
    );
}

const RULES: &str = "rules:\n  quiet: {when: {kpi: sales, below: 1, for: 1m, every: 10s}}\n";

#[test]
fn a_kpi_whose_keys_do_not_fit_together_is_what_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let right = format!("{KPI}  twice: {{expr: sales * 2}}\n{RULES}");
    write(dir.path(), "kpis/shop.yaml", &right);
    write(dir.path(), "dashboards/shop.yaml", BOARD);
    let mut loader = Loader::new(dir.path());
    assert_eq!(loader.load().problems, []);
    for slip in ["", ", measure: count(), expr: '1'"] {
        let broken = right.replace(", measure: count()", slip);
        write(dir.path(), "kpis/shop.yaml", &broken);
        let library = loader.load();
        assert_eq!(library.problems.len(), 1, "{:?}", library.problems);
        assert!(library.kpis.contains_key("sales") && library.kpis.contains_key("twice"));
        assert_eq!(library.rules.rules.len(), 1);
    }
    // Another file that has it is no mistake.
    write(dir.path(), "kpis/more.yaml", &KPI.replace("Sales", "More"));
    let library = loader.load();
    assert_eq!(library.problems.len(), 1, "{:?}", library.problems);
    let title = library.kpis["sales"].definition().title.as_deref();
    assert_eq!(title, Some("More"));
    // What is in no file is gone.
    fs::remove_file(dir.path().join("kpis/more.yaml")).expect("removed");
    write(dir.path(), "kpis/shop.yaml", "kpis: {}\n");
    assert!(!loader.load().kpis.contains_key("sales"));
}

#[test]
fn a_rule_with_a_fault_watches_as_it_did() {
    let dir = tempfile::tempdir().expect("a folder");
    let right = format!("{KPI}{RULES}");
    write(dir.path(), "kpis/shop.yaml", &right);
    let mut loader = Loader::new(dir.path());
    let first = loader.load();
    assert_eq!((first.rules.rules.len(), &first.problems[..]), (1, &[][..]));
    for (was, is) in [
        ("every: 10s", "every: 7s"),
        ("below: 1", "below: 1, above: 2"),
        ("kpi: sales, below", "kpi: sails, below"),
    ] {
        write(dir.path(), "kpis/shop.yaml", &right.replace(was, is));
        let library = loader.load();
        assert_eq!(library.problems.len(), 1, "{:?}", library.problems);
        assert_eq!(library.rules.rules, first.rules.rules, "{is}");
    }
    write(dir.path(), "kpis/shop.yaml", KPI);
    assert_eq!(loader.load().rules.rules, []);
}

#[test]
fn a_folder_that_cannot_be_listed_says_what_it_did() {
    let dir = tempfile::tempdir().expect("a folder");
    write(dir.path(), "kpis/shop.yaml", KPI);
    write(dir.path(), "dashboards/shop.yaml", BOARD);
    let mut loader = Loader::new(dir.path());
    loader.load();
    for folder in ["kpis", "dashboards"] {
        let (path, aside) = (dir.path().join(folder), dir.path().join("aside"));
        fs::rename(&path, &aside).expect("renamed");
        fs::write(&path, "no folder").expect("written");
        let library = loader.load();
        assert!(library.kpis.contains_key("sales"));
        assert!(library.dashboards.contains_key("shop"));
        let told: Vec<String> = library.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("cannot list the folder"), "{told:?}");
        assert_eq!(library.files, 2);

        fs::remove_file(&path).expect("removed");
        let library = loader.load();
        assert_eq!(library.files, 1);
        fs::rename(&aside, &path).expect("renamed");
        assert_eq!(loader.load().problems, []);
    }
}
