//! A saved file is seen within a second, and a broken one leaves what was right before.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serin_dashboards::{Library, Watch};
use tokio::sync::watch::Receiver;

const KPI: &str = "kpis:\n  sales: {title: Sales, event: sale, measure: count()}\n";
const BOARD: &str = "dashboard: shop\npanels:\n  sales: {kpi: sales}\n";

async fn until(
    library: &mut Receiver<Arc<Library>>,
    is_so: impl FnMut(&Arc<Library>) -> bool,
) -> Arc<Library> {
    // Twice what is promised: the machine runs other tests too.
    let seen = tokio::time::timeout(Duration::from_secs(2), library.wait_for(is_so)).await;
    Arc::clone(
        &seen
            .expect("a change is seen within a second")
            .expect("the watch goes on"),
    )
}

fn write(dir: &Path, file: &str, text: &str) {
    let path = dir.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, text).expect("written");
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
    let broken = until(&mut library, |library| library.revision > broken.revision).await;
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
