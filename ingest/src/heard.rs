//! The last message that was heard of, kept beside the lake across starts.
//!
//! The bus drops a damaged block, and everything behind it, without a word. Where none of it was
//! committed, only this file says that there was more. It is written over in place and never synced: after
//! a power cut it may be older than the stream, which tells less, and never newer, since what is kept was
//! heard of a look before.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serin_lake::{Incarnation, Position};

/// Its name in the lake's folder.
const FILE: &str = "heard";

/// The file, and what it says.
#[derive(Debug)]
pub(crate) struct Heard {
    path: PathBuf,
    kept: Position,
}

impl Heard {
    /// Reads it; one that is missing or cannot be read says nothing.
    pub(crate) fn open(lake: &Path) -> Heard {
        let path = lake.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Heard {
            kept: parse(&text).unwrap_or_default(),
            path,
        }
    }

    /// The last message of this life of the stream that was heard of; 0 where that is not known.
    pub(crate) fn of(&self, incarnation: Incarnation) -> u64 {
        match self.kept.incarnation == incarnation {
            true => self.kept.sequence,
            false => 0,
        }
    }

    /// Keeps what is newer.
    pub(crate) fn keep(&mut self, heard: Position) {
        let is_news = heard.sequence > self.of(heard.incarnation);
        if !is_news {
            return;
        }
        self.kept = heard;
        // One length always, so that a later text covers an earlier one.
        let text = format!("{} {:020}\n", heard.incarnation, heard.sequence);
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.path);
        if let Err(error) = file.and_then(|file| file.write_all_at(text.as_bytes(), 0)) {
            tracing::debug!(%error, "cannot keep how far the bus was heard");
        }
    }
}

fn parse(text: &str) -> Option<Position> {
    let (incarnation, sequence) = text.trim_end().split_once(' ')?;
    Some(Position {
        incarnation: incarnation.parse().ok()?,
        sequence: sequence.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(incarnation: u128, sequence: u64) -> Position {
        Position {
            incarnation: Incarnation(incarnation),
            sequence,
        }
    }

    #[test]
    fn the_furthest_of_one_life_is_kept() {
        let lake = tempfile::tempdir().expect("a folder");
        let mut heard = Heard::open(lake.path());
        assert_eq!(heard.of(Incarnation(1)), 0);
        heard.keep(at(1, 12));
        heard.keep(at(1, 7));
        let mut again = Heard::open(lake.path());
        assert_eq!(
            (again.of(Incarnation(1)), again.of(Incarnation(2))),
            (12, 0)
        );
        again.keep(at(2, 3));
        let again = Heard::open(lake.path());
        assert_eq!((again.of(Incarnation(1)), again.of(Incarnation(2))), (0, 3));
        fs::write(lake.path().join(FILE), "torn").expect("a file");
        assert_eq!(Heard::open(lake.path()).of(Incarnation(2)), 0);
    }
}
