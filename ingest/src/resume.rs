//! Where to read on: what the catalogue says against what the stream says.
//!
//! The table of docs/decisions/001 as a function. A stream that was wiped, replaced or lost its tail
//! is never waited for in silence: an alarm, a record of what is gone, a new lineage. Pure.

use serin_bus::StreamState;
use serin_lake::{Gap, Incarnation, Position};

/// What to do before reading on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// The same life: go on behind the position.
    GoOn,
    /// Nothing was ever read: begin at the stream's first message.
    Begin { start: Position },
    /// The same life, but older messages than we have are gone: record the gap with the next flush.
    Skip { gap: Gap },
    /// The bus lost its tail. Its incarnation has to be renewed before a new lineage starts behind
    /// what it still has: that was taken already.
    Regressed { gap: Gap, last: u64 },
    /// Another life: a new lineage at its first message.
    Wiped { start: Position },
}

/// Compares the position in the catalogue with the stream.
pub(crate) fn compare(position: Position, state: &StreamState) -> Resume {
    let incarnation = state.incarnation.parse().unwrap_or(Incarnation::default());
    let start = Position {
        incarnation,
        sequence: state.first.saturating_sub(1),
    };
    if position == Position::default() && incarnation != position.incarnation {
        return Resume::Begin { start };
    }
    if incarnation != position.incarnation {
        return Resume::Wiped { start };
    }
    if state.last < position.sequence {
        return Resume::Regressed {
            gap: Gap {
                incarnation,
                first: state.last + 1,
                last: position.sequence,
                reason: "regressed",
            },
            last: state.last,
        };
    }
    if state.first > position.sequence + 1 {
        return Resume::Skip {
            gap: Gap {
                incarnation,
                first: position.sequence + 1,
                last: state.first - 1,
                reason: "purged",
            },
        };
    }
    Resume::GoOn
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_table_of_decision_001() {
        let mut out = String::new();
        for (name, ours, theirs, first, last) in [
            ("same, ahead", (1, 5), 1, 3, 9),
            ("same, even", (1, 5), 1, 6, 5),
            ("lost its tail", (1, 5), 1, 1, 3),
            ("wiped", (1, 5), 2, 1, 3),
            ("messages gone", (1, 5), 1, 9, 12),
            ("never read", (0, 0), 2, 4, 9),
        ] {
            let position = Position {
                incarnation: Incarnation(ours.0),
                sequence: ours.1,
            };
            let state = StreamState {
                incarnation: Incarnation(theirs).to_string(),
                first,
                last,
                messages: 0,
                bytes: 0,
                bytes_max: 0,
            };
            let todo = match compare(position, &state) {
                Resume::GoOn => String::from("go on"),
                Resume::Begin { start } => format!("begin behind {}", start.sequence),
                Resume::Skip { gap } => format!("skip {} to {}", gap.first, gap.last),
                Resume::Regressed { gap, last } => {
                    format!(
                        "lost {} to {}, new lineage behind {last}",
                        gap.first, gap.last
                    )
                }
                Resume::Wiped { start } => format!("new lineage behind {}", start.sequence),
            };
            out.push_str(&format!("{name}: {todo}\n"));
        }
        expect![[r#"
            same, ahead: go on
            same, even: go on
            lost its tail: lost 4 to 5, new lineage behind 3
            wiped: new lineage behind 0
            messages gone: skip 6 to 8
            never read: begin behind 3
        "#]]
        .assert_eq(&out);
    }
}
