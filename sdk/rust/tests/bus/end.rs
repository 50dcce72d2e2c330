//! The end: drains, the last handle, SIGTERM.

use std::time::Duration;

use rustix::process::{Signal, kill_process};
use serin_sdk::{Options, Serin};

use crate::folder::Folder;
use crate::{PATIENCE, check_all, emit_numbers, stream};

#[tokio::test]
async fn the_last_handle_drains() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 0..3_000);
    let other = serin.clone();
    drop(serin);
    emit_numbers(&other, 3_000..4_000);
    drop(other);
    check_all(&stream(&bus).await, 4_000);

    let serin = Serin::connect(folder.options(&bus)).expect("connected");
    emit_numbers(&serin, 4_000..5_000);
    assert!(serin.drain(PATIENCE).await);
    emit_numbers(&serin, 5_000..5_010);
    assert_eq!(serin.counts().dropped.get("drained"), Some(&10));
    check_all(&stream(&bus).await, 5_000);
    bus.stop().await;
}

/// Not a test by itself: the service that the next test starts and ends.
#[test]
fn service_that_waits_for_sigterm() {
    let Some(bus) = std::env::var_os("SERIN_TEST_BUS") else {
        return;
    };
    let options = Options {
        version: "v3".into(),
        spill_dir: None,
        ..Options::new(bus.into_string().expect("text"), "cart")
    };
    let serin = Serin::connect(options).expect("connected");
    serin.drain_on_sigterm(PATIENCE).expect("listening");
    emit_numbers(&serin, 0..2_000);
    // Whoever holds it, or nobody.
    let is_held = std::env::var_os("SERIN_TEST_HELD").is_some();
    let serin = Some(serin).filter(|_| is_held);
    assert_eq!(serin.is_some(), is_held);
    kill_process(rustix::process::getpid(), Signal::TERM).expect("signalled");
    loop {
        std::thread::park();
    }
}

#[tokio::test]
async fn sigterm_drains_and_ends() {
    for is_held in [true, false] {
        let folder = Folder::new();
        let bus = folder.start().await;
        let mut service = tokio::process::Command::new(std::env::current_exe().expect("this test"));
        service
            .args(["--exact", "end::service_that_waits_for_sigterm"])
            .env("SERIN_TEST_BUS", bus.url())
            .kill_on_drop(true);
        if is_held {
            service.env("SERIN_TEST_HELD", "1");
        }
        let ended = tokio::time::timeout(PATIENCE, service.output())
            .await
            .expect("in time");
        let ended = ended.expect("started");
        assert_eq!(ended.status.code(), Some(143), "{is_held}");
        check_all(&stream(&bus).await, 2_000);
        bus.stop().await;
    }
}

#[tokio::test]
async fn what_nobody_will_send_is_counted() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let options = Options {
        spill_dir: None,
        ..folder.options(&bus)
    };
    bus.stop().await;
    let serin = Serin::connect(options).expect("connected");
    emit_numbers(&serin, 0..5_000);
    let waiting = tokio::spawn({
        let serin = serin.clone();
        async move { serin.flush().await }
    });
    assert!(!serin.drain(Duration::from_millis(100)).await);
    assert!(!waiting.await.expect("no panic"), "they are not on the bus");
    assert!(!serin.flush().await, "nor will they be");
    let counts = serin.counts();
    assert_eq!((counts.emitted, counts.acknowledged), (5_000, 0));
    assert_eq!(counts.dropped["abandoned"], 5_000);
}
