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
    /// The bus lost its tail. Its incarnation has to be renewed, unless it was already and we were
    /// killed then, before a new lineage starts behind what it still has: that was taken already.
    Regressed {
        gap: Gap,
        last: u64,
        is_renewed: bool,
    },
    /// Another life: a new lineage at its first message. What the old one still had is a gap, as far
    /// as it was heard of, and so is what the new one has already lost.
    Wiped { start: Position, gaps: Vec<Gap> },
}

/// What we know of the life we read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) position: Position,
    /// The last message that was heard of, taken or not.
    pub(crate) last_heard: u64,
    /// The last message of this life that an earlier run of ours heard of; 0 where that is not known.
    pub(crate) heard_before: u64,
    /// The last message of the stream that we have taken, where the one at our position is not the
    /// one we took: publishers were quicker than we in filling up what the bus had lost.
    pub(crate) shared: Option<u64>,
}

/// Compares the position in the catalogue with the stream.
pub(crate) fn compare(known: Known, state: &StreamState) -> Resume {
    let position = known.position;
    let incarnation = state.incarnation.parse().unwrap_or(Incarnation::default());
    let start = Position {
        incarnation,
        sequence: state.first.saturating_sub(1),
    };
    let gap = |incarnation, first, last, reason| Gap {
        incarnation,
        first,
        last,
        reason,
    };
    if position == Position::default() && incarnation != position.incarnation {
        return Resume::Begin { start };
    }
    let regressed = |last: u64, is_renewed| Resume::Regressed {
        gap: gap(
            position.incarnation,
            last + 1,
            position.sequence,
            "regressed",
        ),
        last,
        is_renewed,
    };
    if incarnation != position.incarnation {
        if let Some((old, last)) = &state.renewed
            && old.parse() == Ok(position.incarnation)
        {
            return regressed(*last, true);
        }
        let heard = known.last_heard;
        let gaps = [
            gap(position.incarnation, position.sequence + 1, heard, "wiped"),
            gap(incarnation, 1, start.sequence, "purged"),
        ];
        let gaps = gaps.into_iter().filter(|gap| !gap.is_empty()).collect();
        return Resume::Wiped { start, gaps };
    }
    let heard = position.sequence.max(known.heard_before);
    if state.last < heard {
        return Resume::Regressed {
            gap: gap(incarnation, state.last + 1, heard, "regressed"),
            // What was not taken yet and is still there is read on.
            last: state.last.min(position.sequence),
            is_renewed: false,
        };
    }
    if let Some(shared) = known.shared {
        return regressed(shared, false);
    }
    if state.first > position.sequence + 1 {
        return Resume::Skip {
            gap: gap(
                incarnation,
                position.sequence + 1,
                state.first - 1,
                "purged",
            ),
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
        for (name, ours, heard, before, shared, theirs, renewed, first, last) in [
            ("same, ahead", (1, 5), 9, 0, None, 1, None, 3, 9),
            ("same, even", (1, 5), 5, 0, None, 1, None, 6, 5),
            ("lost its tail", (1, 5), 5, 0, None, 1, None, 1, 3),
            ("lost and filled up", (1, 5), 5, 0, Some(3), 1, None, 1, 9),
            (
                "renewed, then killed",
                (1, 5),
                5,
                0,
                None,
                2,
                Some((1, 3)),
                1,
                9,
            ),
            (
                "renewed from another",
                (1, 5),
                5,
                0,
                None,
                2,
                Some((3, 3)),
                1,
                9,
            ),
            ("wiped", (1, 5), 5, 0, None, 2, None, 1, 3),
            ("wiped with more in it", (1, 5), 8, 0, None, 2, None, 4, 6),
            ("lost what nobody took", (1, 5), 5, 9, None, 1, None, 3, 7),
            ("lost all behind", (1, 5), 5, 9, None, 1, None, 1, 3),
            ("messages gone", (1, 5), 5, 0, None, 1, None, 9, 12),
            ("never read", (0, 0), 0, 0, None, 2, None, 4, 9),
        ] {
            let known = Known {
                position: Position {
                    incarnation: Incarnation(ours.0),
                    sequence: ours.1,
                },
                last_heard: heard,
                heard_before: if ours.0 == theirs { before } else { 0 },
                shared,
            };
            let state = StreamState {
                incarnation: Incarnation(theirs).to_string(),
                renewed: renewed.map(|(old, last)| (Incarnation(old).to_string(), last)),
                first,
                last,
                messages: 0,
                bytes: 0,
                bytes_max: 0,
            };
            let todo = match compare(known, &state) {
                Resume::GoOn => String::from("go on"),
                Resume::Begin { start } => format!("begin behind {}", start.sequence),
                Resume::Skip { gap } => format!("skip {} to {}", gap.first, gap.last),
                Resume::Regressed {
                    gap,
                    last,
                    is_renewed,
                } => {
                    let (first, to) = (gap.first, gap.last);
                    format!("lost {first} to {to}, new lineage behind {last}, renewed={is_renewed}")
                }
                Resume::Wiped { start, gaps } => {
                    let gaps = gaps.iter().map(|gap| {
                        let (life, first, last) = (gap.incarnation.0, gap.first, gap.last);
                        format!(", lost {first} to {last} of {life}")
                    });
                    let gaps: String = gaps.collect();
                    format!("new lineage behind {}{gaps}", start.sequence)
                }
            };
            out.push_str(&format!("{name}: {todo}\n"));
        }
        expect![[r#"
            same, ahead: go on
            same, even: go on
            lost its tail: lost 4 to 5, new lineage behind 3, renewed=false
            lost and filled up: lost 4 to 5, new lineage behind 3, renewed=false
            renewed, then killed: lost 4 to 5, new lineage behind 3, renewed=true
            renewed from another: new lineage behind 0
            wiped: new lineage behind 0
            wiped with more in it: new lineage behind 3, lost 6 to 8 of 1, lost 1 to 3 of 2
            lost what nobody took: lost 8 to 9, new lineage behind 5, renewed=false
            lost all behind: lost 4 to 9, new lineage behind 3, renewed=false
            messages gone: skip 6 to 8
            never read: begin behind 3
        "#]]
        .assert_eq(&out);
    }
}
