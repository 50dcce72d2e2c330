//! In which order services start and end: whether what a service waits for is there, and comes. Pure.

use std::collections::BTreeMap;

/// Of each service that is known, for which others it waits.
pub type Others = BTreeMap<String, Vec<String>>;

/// The first service that `after` names and nobody knows.
pub(super) fn unknown<'a>(after: &'a [String], others: &Others) -> Option<&'a str> {
    let mut after = after.iter();
    let unknown = after.find(|name| !others.contains_key(*name));
    unknown.map(String::as_str)
}

/// The services that wait for each other in a circle, from `name` back to it.
pub(super) fn circle(name: &str, after: &[String], others: &Others) -> Option<Vec<String>> {
    let mut ways: Vec<Vec<&str>> = after.iter().map(|next| vec![name, next.as_str()]).collect();
    let mut met: Vec<&str> = Vec::new();
    while let Some(way) = ways.pop() {
        let last = *way.last()?;
        if last == name {
            return Some(way.into_iter().map(str::to_owned).collect());
        }
        if met.contains(&last) {
            continue;
        }
        met.push(last);
        let next = others.get(last).into_iter().flatten();
        ways.extend(next.map(|next| [way.as_slice(), &[next.as_str()]].concat()));
    }
    None
}

/// In which order services end, those of one step together: who waits for another ends before it does.
pub(crate) fn ends(others: &Others) -> Vec<Vec<String>> {
    let (mut steps, mut left) = (Vec::new(), others.clone());
    while !left.is_empty() {
        let is_needed = |name: &String| left.values().any(|after| after.contains(name));
        let mut step: Vec<String> = left
            .keys()
            .filter(|name| !is_needed(name))
            .cloned()
            .collect();
        // Those in a circle end together.
        if step.is_empty() {
            step = left.keys().cloned().collect();
        }
        left.retain(|name, _| !step.contains(name));
        steps.push(step);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn others(all: &[(&str, &str)]) -> Others {
        let all = all
            .iter()
            .map(|(name, after)| ((*name).to_owned(), names(after)));
        all.collect()
    }

    #[test]
    fn who_waits_for_another_ends_before_it() {
        for (all, expected) in [
            (vec![], vec![]),
            (vec![("a", ""), ("b", "")], vec!["a b"]),
            (
                vec![("db", ""), ("cart", "db"), ("web", "cart db"), ("mail", "")],
                vec!["mail web", "cart", "db"],
            ),
            // Of one that is not there, and in a circle.
            (
                vec![("a", "gone"), ("b", "c"), ("c", "b")],
                vec!["a", "b c"],
            ),
        ] {
            let expected: Vec<_> = expected.into_iter().map(names).collect();
            assert_eq!(ends(&others(&all)), expected, "{all:?}");
        }
    }

    #[test]
    fn circles_are_found_and_named() {
        for (after, all, expected) in [
            ("db", vec![("db", "")], None),
            ("b", vec![("b", "a")], Some("a b a")),
            (
                "d b",
                vec![("b", "c"), ("c", "a"), ("d", "")],
                Some("a b c a"),
            ),
            // A circle of others is theirs.
            ("b", vec![("b", "c"), ("c", "b")], None),
        ] {
            let found = circle("a", &names(after), &others(&all));
            assert_eq!(found, expected.map(names), "{after}");
        }
    }
}
