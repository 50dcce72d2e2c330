//! Text cut into lines, each with its number; a line has a bound.

use std::io::BufRead;

use anyhow::Result;

/// A line longer than this is no record: an event may have 256 KiB.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// Is given each line with its number.
type TakeLine<'t> = dyn FnMut(u64, Option<&[u8]>) -> Result<()> + 't;

/// What is said of a line that is too long.
pub(crate) fn too_long() -> String {
    format!("the line is longer than {} KiB", LINE_BYTES_MAX >> 10)
}

/// Gives each line with its number from 1, without its end; `None` stands for one that is too long.
pub(crate) fn each_line(reader: &mut impl BufRead, take: &mut TakeLine<'_>) -> Result<()> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match read_line(reader, &mut line)? {
            Line::End => return Ok(()),
            Line::Whole => take(number, Some(&line))?,
            Line::TooLong => take(number, None)?,
        }
    }
    Ok(())
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Whole,
    TooLong,
    End,
}

/// Reads a line without its end into `line`, which is empty.
pub(crate) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<Line> {
    let mut is_too_long = false;
    let mut has_any = false;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        has_any = true;
        let end = piece.iter().position(|b| *b == b'\n');
        let length = end.map_or(piece.len(), |end| end + 1);
        is_too_long |= line.len() + length > LINE_BYTES_MAX;
        if !is_too_long {
            line.extend_from_slice(&piece[..length]);
        }
        reader.consume(length);
        if end.is_some() {
            break;
        }
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    Ok(match (has_any, is_too_long) {
        (false, _) => Line::End,
        (true, true) => Line::TooLong,
        (true, false) => Line::Whole,
    })
}
