//! The bytes of a file, unpacked where they are packed, and counted for the progress bar.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

/// Bytes looked at to tell what a file is.
const HEAD_BYTES: usize = 64 << 10;
const BUFFER_BYTES: usize = 256 << 10;

/// How far a file is read: bytes on disk, so that packed files count right too.
#[derive(Debug, Default, Clone)]
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
}

impl Progress {
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }
}

struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.done.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Opens a file for reading, unpacked.
pub(crate) fn open(path: &Path, progress: Progress) -> Result<Box<dyn BufRead + Send>> {
    let failed = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(failed)?;
    let mut reader = BufReader::with_capacity(
        BUFFER_BYTES,
        Counted {
            inner: file,
            progress,
        },
    );
    let magic = reader.fill_buf().with_context(failed)?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        let unpacked = flate2::bufread::MultiGzDecoder::new(reader);
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)));
    }
    if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let unpacked = zstd::stream::read::Decoder::with_buffer(reader).with_context(failed)?;
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked)));
    }
    Ok(Box::new(reader))
}

/// The name of a file's content, and its first bytes.
pub(crate) struct Looked {
    pub(crate) hash: blake3::Hash,
    pub(crate) head: Vec<u8>,
}

impl Looked {
    /// The lines of the head that did not lose their end; `None` where the first one did.
    pub(crate) fn whole_lines(&self) -> Option<&[u8]> {
        if self.head.len() < HEAD_BYTES {
            return Some(&self.head);
        }
        let end = self.head.iter().rposition(|byte| *byte == b'\n')?;
        Some(&self.head[..=end])
    }
}

/// Reads a file once, whole: its content names its events.
pub(crate) fn look(path: &Path) -> Result<Looked> {
    let mut reader = open(path, Progress::default())?;
    let mut hasher = blake3::Hasher::new();
    let mut head = Vec::new();
    loop {
        let piece = reader
            .fill_buf()
            .with_context(|| format!("cannot read {}", path.display()))?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let missing = HEAD_BYTES.saturating_sub(head.len()).min(piece.len());
        head.extend_from_slice(&piece[..missing]);
        let length = piece.len();
        reader.consume(length);
    }
    Ok(Looked {
        hash: hasher.finalize(),
        head,
    })
}
