//! Names of attributes and labels as columns: letters, digits and `_`.
//!
//! `http.request.method` becomes `http_request_method`, as Prometheus has it, so that SQL needs no
//! quotes. Two that become the same keep both: the second gets a number.

use std::collections::BTreeMap;

/// So many names that become the same are kept; looking further would cost a hostile body's square.
const SAME_MAX: u32 = 4;

/// The name as a column's.
pub(crate) fn plain(name: &str) -> String {
    let fits = |c: char| c.is_alphanumeric() || c == '_';
    name.chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect()
}

/// The name under which a value is put beside others: `name`, or `name_2` where it is taken. Of more
/// than a few the last takes the first's place.
pub(crate) fn free(name: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let name = plain(name);
    if !is_taken(&name) {
        return name;
    }
    let numbered = (2..=SAME_MAX).map(|number| format!("{name}_{number}"));
    let mut numbered = numbered.filter(|name| !is_taken(name));
    numbered.next().unwrap_or(name)
}

/// Labels with plain names; an empty value equals none, as in Prometheus.
pub(crate) fn labels<'a>(
    told: impl IntoIterator<Item = (String, String)>,
) -> BTreeMap<std::borrow::Cow<'a, str>, std::borrow::Cow<'a, str>> {
    let mut labels = BTreeMap::new();
    for (name, value) in told {
        if !value.is_empty() {
            let name = free(&name, |name| labels.contains_key(name));
            labels.insert(name.into(), value.into());
        }
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_columns_and_none_hides_another() {
        assert_eq!(plain("http.request.method"), "http_request_method");
        assert_eq!(plain("größe"), "größe");
        let told = [("a.b", "1"), ("a-b", "2"), ("c", ""), ("a_b", "3")];
        let labels = labels(told.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(labels, [("a_b", "1"), ("a_b_2", "2"), ("a_b_3", "3")]);
    }
    #[test]
    fn very_many_of_one_name_are_taken_quickly() {
        let told = (0..100_000).map(|number| (String::from("a"), number.to_string()));
        let labels = labels(told);
        assert_eq!(labels.len(), 4);
        assert_eq!(labels["a"], "99999");
    }
}
