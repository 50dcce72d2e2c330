//! Replays `control/scripts/*.txt`: a rule, then the value of each step as it comes in.
//!
//! The first line is the rule (`above 0.05 for 60 every 10`, in seconds); then values, `-` for a step
//! without data, `quiet` for one in which nothing happened, `late` for a step whose end is not sealed
//! yet, and `restart` to lose all memory but the last decision. The transcript beside the script is the
//! expected output.

use std::fmt::Write;

use expect_test::expect_file;

use super::*;

const SECOND_US: i64 = 1_000_000;

fn rule(line: &str) -> Rule {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [side, bound, "for", for_s, "every", every_s] = words[..] else {
        panic!("not a rule: {line}");
    };
    let bound: f64 = bound.parse().expect("a number");
    let seconds = |text: &str| text.parse::<i64>().expect("seconds") * SECOND_US;
    Rule {
        name: String::from("test"),
        kpi: String::from("error_share"),
        bound: if side == "above" {
            Bound::Above(bound)
        } else {
            Bound::Below(bound)
        },
        for_us: seconds(for_s),
        every_us: seconds(every_s),
        message: None,
    }
}

fn observation(rule: &Rule, seen: &[Step]) -> Observation {
    let count = (rule.for_us / rule.every_us) as usize;
    let missing = (2 * count).saturating_sub(seen.len());
    let recent = &seen[seen.len().saturating_sub(2 * count)..];
    let mut earlier = vec![Step::Missing; missing];
    earlier.extend(recent);
    let steps = earlier.split_off(count);
    let value = |step: &Step| match step {
        Step::Value(value) => Some(*value),
        Step::Missing | Step::Quiet => None,
    };
    let measured: Vec<f64> = steps.iter().filter_map(value).collect();
    let mean = measured.iter().sum::<f64>() / measured.len().max(1) as f64;
    let to_us = seen.len() as i64 * rule.every_us;
    Observation {
        kpi: rule.kpi.clone(),
        unit: Some(String::from("ratio")),
        from_us: to_us - rule.for_us,
        to_us,
        value: (!measured.is_empty()).then_some(mean),
        parts: None,
        samples: 100 * measured.len() as u64,
        coverage: measured.len() as f64 / count as f64,
        age_us: 0,
        watermark_us: to_us,
        steps,
        earlier,
    }
}

fn replay(script: &str) -> String {
    let mut lines = script.lines().filter(|line| !line.starts_with('#'));
    let rule = rule(lines.next().expect("a rule"));
    let (mut state, mut last) = (State::default(), None);
    let (mut seen, mut transcript) = (Vec::new(), String::new());
    for word in lines.flat_map(str::split_whitespace) {
        match word {
            "restart" => {
                state = last.unwrap_or_default();
                writeln!(transcript, "       restart").expect("a string takes all");
                continue;
            }
            "late" => {}
            "-" => seen.push(Step::Missing),
            "quiet" => seen.push(Step::Quiet),
            value => seen.push(Step::Value(value.parse().expect("a number"))),
        }
        let observation = observation(&rule, &seen);
        let at = observation.to_us / SECOND_US;
        match judge(&rule, &state, &observation) {
            Verdict::Hold(held) => writeln!(transcript, "{at:>4} s {word:>6}  hold: {held}"),
            Verdict::Notify | Verdict::Resolve => {
                let decision =
                    decide(&rule, &state, &observation).expect("a verdict is a decision");
                last = Some(State::after(&decision.action, observation.to_us));
                state = last.unwrap_or_default();
                writeln!(
                    transcript,
                    "{at:>4} s {word:>6}  {}: {}",
                    decision.action, decision.why
                )
            }
        }
        .expect("a string takes all");
        state.to_us = observation.to_us;
    }
    transcript
}

#[test]
fn a_window_judged_in_a_future_that_was_none_holds_nothing_up() {
    let (minute_us, day_us) = (60 * SECOND_US, 86_400 * SECOND_US);
    let state = State::after("notify", 40 * day_us);
    let now = state.before(day_us);
    assert_eq!((now.is_firing, now.to_us), (true, 0));
    assert_eq!(state.before(40 * day_us - minute_us), state);
    assert_eq!(state.before(41 * day_us), state);
}

#[test]
fn scripts_replay_to_their_transcripts() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).expect("the folder of scripts") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let script = std::fs::read_to_string(&path).expect("a script");
            expect_file![path.with_extension("out")].assert_eq(&replay(&script));
            count += 1;
        }
    }
    assert!(count >= 4, "{count} scripts in {dir}");
}
