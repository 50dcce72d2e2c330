//! Checksums of a file: one of the whole, one of each block, made while it is written.
//!
//! The Parquet writer cannot write page checksums, and hashing a large file before its first use
//! would make the first panel slow. So a reader checks the blocks it touches, once in each process.

use std::hash::Hasher;

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Bytes in a block: a page or two; a file of 128 MiB then has 4 KiB of sums.
pub const BLOCK_BYTES: u64 = 256 << 10;

/// The sums of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sums {
    /// XXH3 of the whole file.
    pub whole: u64,
    /// XXH3 of each block of [`BLOCK_BYTES`]; the last one may be shorter.
    pub blocks: Vec<u64>,
}

impl Sums {
    /// Sums of bytes at hand.
    #[cfg(test)]
    pub(crate) fn of(bytes: &[u8]) -> Sums {
        let mut building = Building::default();
        building.update(bytes);
        building.finish()
    }

    /// The blocks as the catalogue keeps them.
    pub(crate) fn to_blob(&self) -> Vec<u8> {
        self.blocks
            .iter()
            .flat_map(|sum| sum.to_le_bytes())
            .collect()
    }

    /// Reads what [`Sums::to_blob`] wrote; `None` when it has no whole number of sums.
    pub(crate) fn from_blob(whole: u64, blob: &[u8]) -> Option<Sums> {
        let (blocks, rest) = blob.as_chunks::<8>();
        rest.is_empty().then(|| Sums {
            whole,
            blocks: blocks.iter().map(|sum| u64::from_le_bytes(*sum)).collect(),
        })
    }

    /// Whether `bytes` are block number `index`.
    pub fn block_is(&self, index: usize, bytes: &[u8]) -> bool {
        self.blocks.get(index) == Some(&xxh3_64(bytes))
    }
}

/// Sums of a file that is still growing.
#[derive(Default)]
pub(crate) struct Building {
    whole: Xxh3,
    block: Xxh3,
    block_len: u64,
    blocks: Vec<u64>,
    len: u64,
}

impl Building {
    /// Takes the next bytes of the file.
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        self.whole.write(bytes);
        self.len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = (BLOCK_BYTES - self.block_len) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.block.write(now);
            self.block_len += now.len() as u64;
            if self.block_len == BLOCK_BYTES {
                self.close_block();
            }
            bytes = later;
        }
    }

    /// Bytes taken so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The sums of everything taken.
    pub(crate) fn finish(&mut self) -> Sums {
        if self.block_len > 0 {
            self.close_block();
        }
        Sums {
            whole: self.whole.finish(),
            blocks: std::mem::take(&mut self.blocks),
        }
    }

    fn close_block(&mut self) {
        self.blocks.push(self.block.finish());
        self.block.reset();
        self.block_len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_depend_on_how_the_bytes_came() {
        let bytes: Vec<u8> = (0..BLOCK_BYTES * 2 + 77).map(|n| (n % 251) as u8).collect();
        let whole = Sums::of(&bytes);
        assert_eq!(whole.blocks.len(), 3);
        let mut pieces = Building::default();
        for piece in bytes.chunks(1021) {
            pieces.update(piece);
        }
        assert_eq!(pieces.finish(), whole);
        for (index, block) in bytes.chunks(BLOCK_BYTES as usize).enumerate() {
            assert!(whole.block_is(index, block));
        }
        assert!(!whole.block_is(3, b""));
        assert_eq!(Sums::from_blob(whole.whole, &whole.to_blob()), Some(whole));
        assert_eq!(Sums::from_blob(1, &[0; 9]), None);
    }
}
