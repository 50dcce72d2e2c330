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
    /// When the next instances were started.
    started_us: i64,
}

impl Case {
    fn new() -> Case {
        Case {
            wanted: BTreeMap::new(),
            seen: Seen::default(),
            started_us: 0,
        }
    }

    /// The instances that follow were started then.
    fn at(mut self, started_us: i64) -> Case {
        self.started_us = started_us;
        self
    }

    /// Serin looks since then.
    fn looked(mut self, since_us: i64) -> Case {
        self.seen.since_us = since_us;
        self
    }

    /// What its instances were seen to be instead of ready.
    fn saw(mut self, name: &str, what: &str) -> Case {
        for one in self.seen.instances.get_mut(name).expect("there") {
            one.unready = Some(what.to_owned());
        }
        self
    }

    /// The version of a service that was drained last.
    fn drained(mut self, name: &str, version: &str) -> Case {
        let wanted = self.wanted.get_mut(name).expect("there");
        wanted.drained = Some(version.to_owned());
        self
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
            served_us: None,
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
            How::Ended(time_us, is_ready) => (is_ready, false, Some((time_us, 1))),
            How::Done(time_us) => (false, false, Some((time_us, 0))),
        };
        of.push(SeenInstance {
            status: Status {
                instance: format!("{name}-{version}-{number}"),
                version: version.to_owned(),
                number,
                pid: 1,
                port: None,
                started_us: self.started_us,
                is_ready,
                is_stopping,
                limits: String::new(),
                limits_missing: None,
                exit: exit.map(|(time_us, code)| Exit {
                    time_us,
                    code: Some(code),
                    signal: None,
                    was_out_of_memory: false,
                    was_with_shim: false,
                }),
            },
            heard_us: match how {
                How::Silent(heard_us) => Some(heard_us),
                _ => None,
            },
            unready: None,
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
    /// Ended well.
    Done(i64),
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
            ..
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
fn of_what_runs_alone_one_version_makes_room_for_the_next() {
    for why in ["port: 8000", "alone: true"] {
        let (old, new) = (format!("run: x\n{why}"), format!("run: z\n{why}"));
        let case = |phase, how| {
            Case::new()
                .version("a", "v1", phase, 0, &old)
                .version("a", "v2", Phase::Starting, S, &new)
                .instance("a", "v1", 1, how)
        };
        case(Phase::Serving, How::Ready).plans(S, expect!["a v1 is Draining "]);
        case(Phase::Draining, How::Stopping).plans(S, expect![[""]]);
        let ended = case(Phase::Draining, How::Done(S));
        ended.plans(S, expect!["a v1 is Retired \nstart a-v2-1"]);
    }
}

#[test]
fn a_version_that_made_room_is_started_again_when_the_new_one_fails() {
    let old = "run: x\nport: 8000";
    let new = "run: z\nport: 8000\nready_within: 5s";
    let case = || {
        Case::new()
            .version("a", "v1", Phase::Retired, 2 * S, old)
            .version("a", "v2", Phase::Starting, S, new)
            .drained("a", "v1")
    };
    let crashes = case().at(2 * S);
    let crashes = crashes.instance("a", "v2", 1, How::Ended(3 * S, false));
    let crashes = crashes.instance("a", "v2", 2, How::Ended(3 * S, false));
    crashes
        .instance("a", "v2", 3, How::Ended(3 * S, false))
        .plans(
            3 * S,
            expect![[r#"
            a v2 is Failed its instances ended before they were ready, the last with code 1; v1 is started again
            a v1 is Starting "#]],
        );
    let slow = case().at(2 * S).instance("a", "v2", 1, How::Starting);
    slow.plans(
        7 * S,
        expect![[r#"
        a v2 is Failed 0 of 1 instances were ready within 5 s; v1 is started again
        a v1 is Starting "#]],
    );
    // It gets its port once the other has left it.
    let again = |how| {
        Case::new()
            .version("a", "v1", Phase::Starting, 7 * S, old)
            .version("a", "v2", Phase::Failed, 7 * S, new)
            .drained("a", "v1")
            .instance("a", "v1", 1, How::Ended(2 * S, true))
            .instance("a", "v2", 1, how)
    };
    again(How::Starting).plans(7 * S, expect!["stop a-v2-1 within 10000 ms: not needed"]);
    again(How::Stopping).plans(7 * S, expect![[""]]);
    again(How::Done(8 * S)).plans(8 * S, expect!["start a-v1-2"]);
    // Where it fails as well nothing goes round in a circle.
    let both = Case::new()
        .version(
            "a",
            "v1",
            Phase::Starting,
            8 * S,
            "run: x\nport: 8000\nready_within: 5s",
        )
        .version("a", "v2", Phase::Failed, 7 * S, new)
        .drained("a", "v1")
        .at(9 * S)
        .instance("a", "v1", 2, How::Starting);
    both.plans(
        20 * S,
        expect!["a v1 is Failed 0 of 1 instances were ready within 5 s"],
    );
}

#[test]
fn who_waits_for_the_place_of_another_has_its_whole_time_after_it() {
    let yaml = "run: x\nport: 8000\nready_within: 5s\nstop_within: 1m";
    let case = |old| {
        Case::new()
            .version("a", "v1", Phase::Draining, S, yaml)
            .version("a", "v2", Phase::Starting, S, yaml)
            .drained("a", "v1")
            .instance("a", "v1", 1, old)
    };
    case(How::Stopping).plans(50 * S, expect![[""]]);
    let ended = || case(How::Ended(60 * S, true));
    ended().plans(60 * S, expect!["a v1 is Retired \nstart a-v2-1"]);
    let starts = || ended().at(60 * S).instance("a", "v2", 1, How::Starting);
    starts().plans(65 * S, expect!["a v1 is Retired "]);
    starts().plans(
        66 * S,
        expect![[r#"
            a v1 is Retired 
            a v2 is Failed 0 of 1 instances were ready within 5 s; v1 is started again
            a v1 is Starting "#]],
    );
    // So it is for one whose own instance of before still ends.
    let again = |how| {
        Case::new()
            .version("a", "v1", Phase::Starting, 2 * S, yaml)
            .instance("a", "v1", 1, how)
    };
    again(How::Stopping).plans(50 * S, expect![[""]]);
    again(How::Done(60 * S)).plans(60 * S, expect!["start a-v1-2"]);
}

#[test]
fn ends_of_earlier_attempts_do_not_count() {
    let again = |yaml| {
        Case::new()
            .version("a", "v1", Phase::Starting, 10 * S, yaml)
            .instance("a", "v1", 1, How::Ended(S, false))
            .instance("a", "v1", 2, How::Ended(S, false))
            .instance("a", "v1", 3, How::Ended(S, false))
    };
    again("run: x\ninstances: 1").plans(10 * S, expect!["start a-v1-4"]);
    let job = || {
        Case::new()
            .version("a", "v1", Phase::Starting, 10 * S, "run: x\njob: true")
            .instance("a", "v1", 1, How::Done(S))
    };
    job().plans(10 * S, expect!["start a-v1-2"]);
    let runs = job().at(10 * S).instance("a", "v1", 2, How::Starting);
    runs.plans(11 * S, expect![[""]]);
    let done = job().at(10 * S).instance("a", "v1", 2, How::Done(12 * S));
    done.plans(12 * S, expect!["a v1 is Retired "]);
}

#[test]
fn a_job_that_ended_well_is_waited_for_no_more() {
    let case = |phase| {
        Case::new()
            .version(
                "a",
                "v1",
                Phase::Starting,
                0,
                "run: x\ninstances: 1\nafter: seed",
            )
            .version("seed", "v1", phase, 9 * S, "run: x\njob: true")
            .at(9 * S)
            .instance("seed", "v1", 1, How::Done(9 * S))
    };
    let waits = case(Phase::Starting);
    waits.plans(10 * S, expect!["seed v1 is Retired "]);
    let version = waits.wanted["a"].version("v1").expect("there");
    assert_eq!(waits_for(version, &waits.wanted), ["seed"]);
    case(Phase::Retired).plans(10 * S, expect!["start a-v1-1"]);
    case(Phase::Failed).plans(10 * S, expect![[""]]);
}

#[test]
fn the_order_is_kept_when_everything_starts_again() {
    let one = "run: x\ninstances: 1";
    let case = || {
        Case::new()
            .version(
                "a",
                "v1",
                Phase::Serving,
                0,
                "run: x\ninstances: 1\nafter: db",
            )
            .version("db", "v1", Phase::Serving, 0, one)
            .at(99 * S)
    };
    let mut anew = case();
    anew.seen.since_us = 99 * S;
    anew.plans(99 * S, expect!["start db-v1-1"]);
    let mut starts = case().instance("db", "v1", 1, How::Starting);
    starts.seen.since_us = 99 * S;
    starts.plans(100 * S, expect![[""]]);
    // What takes too long holds nobody up.
    starts.plans(130 * S, expect!["start a-v1-1"]);
    let ready = case().instance("db", "v1", 1, How::Ready);
    ready.plans(100 * S, expect!["start a-v1-1"]);
    // Whoever ran before is replaced at once.
    let ended = case().instance("a", "v1", 1, How::Ended(100 * S, true));
    let ended = ended.instance("db", "v1", 1, How::Starting);
    ended.plans(100 * S, expect!["start a-v1-2 for a-v1-1"]);
    let mut stopped = case();
    stopped.wanted.get_mut("db").expect("there").is_stopped = true;
    stopped.plans(99 * S, expect!["start a-v1-1"]);
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

#[test]
fn nothing_is_under_way_once_all_that_is_wanted_is_ready() {
    let serving = || Case::new().version("a", "v1", Phase::Serving, 0, "run: x\ninstances: 1\n");
    let settled = |case: &Case| is_settled(&case.wanted, &case.seen);
    assert!(settled(&serving().instance("a", "v1", 1, How::Ready)));
    assert!(!settled(&serving()), "one is missing");
    for how in [How::Starting, How::Stopping] {
        let case = serving().instance("a", "v1", 1, How::Ready);
        assert!(!settled(&case.instance("a", "v1", 2, how)));
    }
    for phase in [Phase::Starting, Phase::Draining] {
        let case = serving().instance("a", "v1", 1, How::Ready);
        assert!(!settled(&case.version("a", "v2", phase, 0, "run: x\n")));
    }
}

#[test]
fn a_version_that_was_starting_when_serin_went_down_has_its_whole_time_again() {
    const DAY: i64 = 86_400 * S;
    let yaml = "run: x\ninstances: 1\nready_within: 5s";
    let case = || {
        Case::new()
            .version("a", "v1", Phase::Starting, 0, yaml)
            .looked(DAY)
    };
    case().plans(DAY, expect!["start a-v1-1"]);
    let slow = case().at(DAY).instance("a", "v1", 1, How::Starting);
    slow.plans(DAY + 5 * S, expect![[""]]);
    let slow = slow.saw("a", "GET / answered 500");
    slow.plans(
        DAY + 6 * S,
        expect!["a v1 is Failed 0 of 1 instances were ready within 5 s: GET / answered 500"],
    );
}
