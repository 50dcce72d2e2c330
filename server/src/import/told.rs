//! What became of a file, in sentences for the one who brought it. Pure.

use super::records::Records;
use super::send::Imported;

/// How many of a thing: `1 event`, `2 events`.
pub(crate) fn counted(number: u64, thing: &str) -> String {
    match number {
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}

/// How many events came in.
pub(crate) fn events(imported: &Imported) -> String {
    let were = |number| if number == 1 { "was" } else { "were" };
    match (imported.accepted, imported.duplicates) {
        (0, 0) => String::from("the file has no events"),
        (0, known) => format!(
            "{} {} imported before; nothing was added (--again takes the file once more)",
            counted(known, "event"),
            were(known)
        ),
        (new, 0) => format!("{} imported", counted(new, "event")),
        (new, known) => format!(
            "{} imported, {known} {} there before",
            counted(new, "event"),
            were(known)
        ),
    }
}

/// Where the times come from, and which lines were left out; one line of text each.
pub(crate) fn remarks(records: &Records, imported: &Imported) -> Vec<String> {
    let found = &imported.found;
    let mut said = Vec::new();
    if let Some(name) = &records.doubted {
        said.push(format!(
            "the first line was taken for the names of the columns, though {name:?} looks like a value; --no-header takes it as data"
        ));
    }
    if let Some(column) = &records.time_found {
        said.push(format!(
            "the time of the events is column {column:?}; --time names another"
        ));
    }
    match found.without_time {
        0 => {}
        all if all == found.events => said.push(String::from(
            "no column with the time was found: the events got that of the import; --time names one",
        )),
        some => said.push(format!(
            "{} without a time got that of the import",
            counted(some, "event")
        )),
    }
    let bad = found.bad + imported.refused;
    if bad > 0 {
        let were = if bad == 1 { "was" } else { "were" };
        said.push(format!("{} {were} not taken:", counted(bad, "line")));
        let lines = found.first_bad.iter().chain(&imported.first_refused);
        said.extend(lines.map(|bad| format!("  line {}: {}", bad.line, bad.why)));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_no_plural() {
        let imported = |accepted, duplicates| {
            events(&Imported {
                accepted,
                duplicates,
                ..Imported::default()
            })
        };
        assert_eq!(imported(1, 0), "1 event imported");
        assert_eq!(imported(2, 1), "2 events imported, 1 was there before");
        assert!(imported(0, 1).starts_with("1 event was imported before;"));
        assert!(imported(0, 3).starts_with("3 events were imported before;"));
    }
}
