//! Wanted and seen go in, the actions come out as lines of text.

use expect_test::{Expect, expect};

use super::*;
use crate::runtime::Reason;
use crate::service;
use crate::shim::{Exit, Status};

const S: i64 = 1_000_000;

struct Case {
    wanted: BTreeMap<String, Wanted>,
    seen: Seen,
}

impl Case {
    fn new() -> Case {
        Case {
            wanted: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    fn version(
        mut self,
        name: &str,
        version: &str,
        phase: Phase,
        since_us: i64,
        yaml: &str,
    ) -> Case {
        let service = service::read("service.yaml", name, yaml).expect("a right file");
        let wanted = self
            .wanted
            .entry(name.to_owned())
            .or_insert_with(|| Wanted::new(name));
        wanted.versions.push(Version {
            name: version.to_owned(),
            hash: version.to_owned(),
            service,
            phase,
            since_us,
            reason: Reason::default(),
            why: None,
        });
        self
    }

    fn instance(mut self, name: &str, version: &str, number: u64, how: How) -> Case {
        let of = self.seen.instances.entry(name.to_owned()).or_default();
        let (is_ready, is_stopping, exit) = match how {
            How::Starting => (false, false, None),
            How::Ready | How::Silent(_) => (true, false, None),
            How::Stopping => (true, true, None),
            How::Ended(time_us, is_ready) => (is_ready, false, Some(time_us)),
        };
        of.push(SeenInstance {
            status: Status {
                instance: format!("{name}-{version}-{number}"),
                version: version.to_owned(),
                number,
                pid: 1,
                port: None,
                started_us: 0,
                is_ready,
                is_stopping,
                limits: String::new(),
                limits_missing: None,
                exit: exit.map(|time_us| Exit {
                    time_us,
                    code: Some(1),
                    signal: None,
                    was_out_of_memory: false,
                }),
            },
            heard_us: match how {
                How::Silent(heard_us) => Some(heard_us),
                _ => None,
            },
        });
        self
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "reads as `.plans(at, expect![…])`"
    )]
    fn plans(&self, now_us: i64, expected: Expect) {
        let lines: Vec<String> = plan(&self.wanted, &self.seen, now_us)
            .iter()
            .map(line)
            .collect();
        expected.assert_eq(&lines.join("\n"));
    }
}

#[derive(Clone, Copy)]
enum How {
    Starting,
    Ready,
    Stopping,
    Silent(i64),
    Ended(i64, bool),
}

fn line(action: &Action) -> String {
    match action {
        Action::Start {
            service,
            version,
            number,
            replaces,
        } => match replaces {
            Some(dead) => format!("start {service}-{version}-{number} for {dead}"),
            None => format!("start {service}-{version}-{number}"),
        },
        Action::Stop {
            instance,
            grace_ms,
            why,
            ..
        } => format!("stop {instance} within {grace_ms} ms: {why}"),
        Action::Enter {
            service,
            version,
            phase,
            why,
        } => format!(
            "{service} {version} is {phase:?} {}",
            why.as_deref().unwrap_or("")
        ),
    }
}

#[test]
fn a_first_version_is_started_and_serves_when_all_are_ready() {
    let case = || Case::new().version("a", "v1", Phase::Starting, 0, "run: x");
    case().plans(
        0,
        expect![[r#"
        start a-v1-1
        start a-v1-2"#]],
    );
    let one = case().instance("a", "v1", 1, How::Ready);
    one.instance("a", "v1", 2, How::Starting)
        .plans(S, expect![[""]]);
    let both = case().instance("a", "v1", 1, How::Ready);
    both.instance("a", "v1", 2, How::Ready)
        .plans(S, expect!["a v1 is Serving "]);
}

#[test]
fn a_new_version_takes_over_and_the_old_one_drains() {
    let case = Case::new()
        .version("a", "v1", Phase::Serving, 0, "run: x")
        .version("a", "v2", Phase::Starting, S, "run: z")
        .instance("a", "v1", 1, How::Ready)
        .instance("a", "v1", 2, How::Ready)
        .instance("a", "v2", 1, How::Ready)
        .instance("a", "v2", 2, How::Ready);
    case.plans(
        2 * S,
        expect![[r#"
        a v1 is Draining 
        a v2 is Serving "#]],
    );
    let drains = Case::new()
        .version("a", "v1", Phase::Draining, 2 * S, "run: x\nstop_within: 3s")
        .version("a", "v2", Phase::Serving, 2 * S, "run: z\ninstances: 1")
        .instance("a", "v1", 1, How::Ready)
        .instance("a", "v1", 2, How::Stopping)
        .instance("a", "v2", 1, How::Ready);
    drains.plans(2 * S + S / 4, expect![[""]]);
    drains.plans(3 * S, expect!["stop a-v1-1 within 3000 ms: not needed"]);
}

#[test]
fn the_dead_and_the_silent_are_replaced() {
    let case = || Case::new().version("a", "v1", Phase::Serving, 0, "run: x");
    case()
        .instance("a", "v1", 1, How::Ended(90 * S, true))
        .instance("a", "v1", 2, How::Ready)
        .plans(90 * S, expect!["start a-v1-3 for a-v1-1"]);
    case()
        .instance("a", "v1", 1, How::Silent(S))
        .instance("a", "v1", 2, How::Silent(11 * S))
        .plans(12 * S, expect!["stop a-v1-1 within 0 ms: silent"]);
}

#[test]
fn a_crash_loop_is_slowed_and_a_version_that_never_was_ready_fails() {
    let serving = || {
        Case::new()
            .version("a", "v1", Phase::Serving, 0, "run: x\ninstances: 1")
            .instance("a", "v1", 1, How::Ended(S, true))
    };
    serving().plans(S, expect!["start a-v1-2 for a-v1-1"]);
    let twice = serving().instance("a", "v1", 2, How::Ended(2 * S, true));
    twice.plans(2 * S, expect![[""]]);
    twice.plans(2 * S + S / 10, expect!["start a-v1-3 for a-v1-2"]);
    let starting = Case::new()
        .version("a", "v1", Phase::Starting, 0, "run: x")
        .instance("a", "v1", 1, How::Ended(1, false))
        .instance("a", "v1", 2, How::Ended(2, false))
        .instance("a", "v1", 3, How::Ended(3, false));
    starting.plans(
        4,
        expect!["a v1 is Failed its instances ended before they were ready, the last with code 1"],
    );
    let slow = Case::new()
        .version("a", "v1", Phase::Starting, 0, "run: x\nready_within: 5s")
        .instance("a", "v1", 1, How::Ready)
        .instance("a", "v1", 2, How::Starting);
    slow.plans(
        6 * S,
        expect!["a v1 is Failed 1 of 2 instances were ready within 5 s"],
    );
}

#[test]
fn who_waits_for_another_starts_after_it() {
    let case = |phase| {
        Case::new()
            .version(
                "db",
                "v1",
                phase,
                90 * S,
                "run: x\ninstances: 1\nready: started",
            )
            .instance("db", "v1", 1, How::Ready)
            .version(
                "a",
                "v1",
                Phase::Starting,
                0,
                "run: x\ninstances: 1\nafter: db",
            )
    };
    case(Phase::Starting).plans(99 * S, expect!["db v1 is Serving "]);
    case(Phase::Serving).plans(99 * S, expect!["start a-v1-1"]);
}

#[test]
fn one_port_is_listened_on_by_one_version_at_a_time() {
    let case = Case::new()
        .version("a", "v1", Phase::Serving, 0, "run: x\nport: 8000")
        .version("a", "v2", Phase::Starting, S, "run: z\nport: 8000")
        .instance("a", "v1", 1, How::Ready);
    case.plans(S, expect!["a v1 is Draining "]);
}

#[test]
fn what_was_stopped_or_removed_ends() {
    let mut case = Case::new()
        .version("a", "v1", Phase::Serving, 0, "run: x")
        .instance("a", "v1", 1, How::Ready)
        .instance("gone", "v1", 1, How::Ready);
    case.wanted.get_mut("a").expect("there").is_stopped = true;
    case.plans(
        S,
        expect![[r#"
        stop a-v1-1 within 10000 ms: stopped
        stop gone-v1-1 within 10000 ms: removed"#]],
    );
}
