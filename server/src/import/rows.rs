//! CSV cut into rows, which may have line ends within quotes.
//!
//! A quote that is never closed would make one row of the rest of the file. So a row is looked for
//! within bounds only; where none is found, its first line is told as bad, and the next line begins
//! a new row. Start at [`Rows::next`].

use std::collections::VecDeque;
use std::io::BufRead;

use anyhow::Result;
use csv::{ByteRecord, ReaderBuilder};

use super::lines::{LINE_BYTES_MAX, Line, read_line, too_long};

/// A row has at most so many lines.
const LINES_MAX: usize = 1_000;

/// Reads the rows of a CSV file.
pub(crate) struct Rows<R> {
    reader: R,
    delimiter: u8,
    /// Lines that were read and not given yet, with their numbers; none is a line too long.
    ahead: VecDeque<(u64, Option<Vec<u8>>)>,
    lines_read: u64,
}

/// A row and the number of its first line.
pub(crate) type Row = (u64, Result<ByteRecord, String>);

impl<R: BufRead> Rows<R> {
    pub(crate) fn new(reader: R, delimiter: u8) -> Rows<R> {
        Rows {
            reader,
            delimiter,
            ahead: VecDeque::new(),
            lines_read: 0,
        }
    }

    /// The next row that is not empty; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if !self.has_line(0)? {
                return Ok(None);
            }
            let first = self.ahead[0].0;
            let Some(lines) = self.lines_of_row()? else {
                let line = self.ahead.pop_front();
                let why = match line {
                    Some((_, None)) => too_long(),
                    _ => String::from("a quote is opened and not closed"),
                };
                return Ok(Some((first, Err(why))));
            };
            let mut text = Vec::new();
            for (_, line) in self.ahead.drain(..lines) {
                text.extend_from_slice(&line.unwrap_or_default());
                text.push(b'\n');
            }
            if let Some(row) = self.parsed(&text)? {
                return Ok(Some((first, row)));
            }
        }
    }

    /// How many lines the next row has; `None` where a quote stays open, or a line is too long.
    fn lines_of_row(&mut self) -> Result<Option<usize>> {
        let mut state = CsvState::FieldStart;
        let mut bytes = 0;
        for at in 0..LINES_MAX {
            if !self.has_line(at)? {
                return Ok(None);
            }
            let Some(line) = &self.ahead[at].1 else {
                return Ok(None);
            };
            bytes += line.len() + 1;
            if bytes > LINE_BYTES_MAX {
                return Ok(None);
            }
            for byte in line {
                state = state.after(*byte, self.delimiter);
            }
            if state != CsvState::Quoted {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }

    fn has_line(&mut self, at: usize) -> Result<bool> {
        while self.ahead.len() <= at {
            let mut line = Vec::new();
            let kept = match read_line(&mut self.reader, &mut line)? {
                Line::End => return Ok(false),
                Line::Whole => Some(line),
                Line::TooLong => None,
            };
            self.lines_read += 1;
            self.ahead.push_back((self.lines_read, kept));
        }
        Ok(true)
    }

    /// The row of these lines, where there is one; why it is none.
    fn parsed(&self, text: &[u8]) -> Result<Option<Result<ByteRecord, String>>> {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(text.len())
            .from_reader(text);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record)? {
            return Ok(None);
        }
        let is_more = reader.read_byte_record(&mut ByteRecord::new())?;
        Ok(Some(match is_more {
            true => Err(String::from(
                "a line ends with CR alone; end lines with LF, or with CR and LF",
            )),
            false => Ok(record),
        }))
    }
}

/// Where a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CsvState {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of the text, or half of a doubled quote.
    QuoteInQuoted,
}

impl CsvState {
    fn after(self, byte: u8, delimiter: u8) -> CsvState {
        match (self, byte) {
            (CsvState::Quoted, b'"') => CsvState::QuoteInQuoted,
            (CsvState::Quoted, _) => CsvState::Quoted,
            (CsvState::QuoteInQuoted, b'"') | (CsvState::FieldStart, b'"') => CsvState::Quoted,
            (_, byte) if byte == delimiter => CsvState::FieldStart,
            _ => CsvState::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> Vec<String> {
        let mut rows = Rows::new(text.as_bytes(), b',');
        let mut out = Vec::new();
        while let Some((line, row)) = rows.next().expect("read") {
            out.push(match row {
                Ok(row) => {
                    let fields: Vec<_> = row.iter().map(String::from_utf8_lossy).collect();
                    format!("{line} {}", fields.join("|"))
                }
                Err(why) => format!("{line} {why}"),
            });
        }
        out
    }

    #[test]
    fn quotes_may_hold_line_ends_delimiters_and_quotes() {
        assert_eq!(
            rows("a,\"b\nc, \"\"d\"\"\",e\r\n\r\n5\" pipe,f\n"),
            ["1 a|b\nc, \"d\"|e", "4 5\" pipe|f"]
        );
    }

    #[test]
    fn a_quote_that_stays_open_costs_its_line_alone() {
        assert_eq!(
            rows("a,b\n\"c,d\ne,f\n"),
            ["1 a|b", "2 a quote is opened and not closed", "3 e|f"]
        );
        let long = format!("x,\"y\n{}z,\"1\"\n", "b,c\n".repeat(LINES_MAX));
        let found = rows(&long);
        assert_eq!(found[0], "1 a quote is opened and not closed");
        assert_eq!((found.len(), found[1].as_str()), (LINES_MAX + 2, "2 b|c"));
    }
}
