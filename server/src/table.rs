//! Tables and sparklines for people at a terminal. Pure: values in, text out.

use serde_json::Value;
use unicode_width::UnicodeWidthStr;

/// A cell wider than this is cut; the other formats show it whole.
const CELL_CHARS_MAX: usize = 80;

/// Rows under a header; numbers stand to the right.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<(String, bool)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// The names of the columns, and whether each holds numbers.
    pub(crate) fn new<'a>(head: impl IntoIterator<Item = (&'a str, bool)>) -> Table {
        Table {
            head: head
                .into_iter()
                .map(|(name, is_number)| (tamed(name), is_number))
                .collect(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| tamed(&cell)).collect());
    }

    pub(crate) fn to_text(&self) -> String {
        let width = |index: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            cells
                .map(|cell| cell.width())
                .chain([name.width()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = self
            .head
            .iter()
            .enumerate()
            .map(|(index, (name, _))| width(index, name))
            .collect();
        let names: Vec<String> = self.head.iter().map(|(name, _)| name.clone()).collect();
        let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
        let mut text = String::new();
        for row in [&names, &rules].into_iter().chain(&self.rows) {
            let cells: Vec<String> = row
                .iter()
                .zip(&self.head)
                .zip(&widths)
                .map(|((cell, (_, is_number)), width)| {
                    // Wide characters take two places of a terminal, marks on others none.
                    let room = " ".repeat(width - cell.width());
                    match is_number {
                        true => format!("{room}{cell}"),
                        false => format!("{cell}{room}"),
                    }
                })
                .collect();
            text.push_str(cells.join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::from("-"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text from events may hold anything: control characters must not reach the terminal.
fn tamed(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(CELL_CHARS_MAX)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Points as a line of little bars; a gap is a space.
pub(crate) fn sparkline(points: &[Option<f64>]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let known = points.iter().flatten().copied().filter(|v| v.is_finite());
    let low = known.clone().fold(f64::INFINITY, f64::min).min(0.0);
    let high = known.fold(f64::NEG_INFINITY, f64::max);
    points
        .iter()
        .map(|point| match point {
            Some(value) if value.is_finite() && high > low => {
                let share = (value - low) / (high - low);
                BARS[((share * 7.0).round() as usize).min(7)]
            }
            Some(_) => BARS[0],
            None => ' ',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new([("path", false), ("hits", true)]);
        table.push([String::from("/a"), String::from("10")]);
        table.push([String::from("/\u{1b}[31mb"), String::from("7")]);
        expect![[r#"
            path     hits
            ───────  ────
            /a         10
            /�[31mb     7
        "#]]
        .assert_eq(&table.to_text());
    }

    #[test]
    fn a_gap_is_no_zero() {
        let points = [Some(0.0), None, Some(3.5), Some(7.0)];
        assert_eq!(sparkline(&points), "▁ ▅█");
        assert_eq!(sparkline(&[Some(0.0), Some(0.0)]), "▁▁");
    }
}
