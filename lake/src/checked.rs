//! Reads the lake's files for queries, and lets no flipped bit through.
//!
//! A query engine asks for byte ranges; the blocks they touch are read whole and compared with the
//! checksums of the catalogue, once in each process. Files the lake does not know are refused, and
//! nothing can be written. Start at [`CheckedStore`].

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use thiserror::Error as ThisError;

use crate::sums::{BLOCK_BYTES, Sums};

/// A read-only store over absolute paths of the local file system.
#[derive(Default)]
pub struct CheckedStore {
    files: RwLock<HashMap<Path, Arc<Known>>>,
    disk: LocalFileSystem,
}

/// A file that may be read, and which of its blocks were found right.
#[derive(Debug)]
struct Known {
    bytes: u64,
    sums: Arc<Sums>,
    is_right: Vec<AtomicBool>,
}

/// Why a read was refused.
#[derive(Debug, ThisError)]
pub enum CheckedError {
    /// The bytes on disk are not those that were written.
    #[error(
        "/{path} is damaged: block {block} has another checksum; run `serin doctor` and restore the file from a backup"
    )]
    Damaged {
        /// The file.
        path: Path,
        /// Which block of [`BLOCK_BYTES`].
        block: usize,
    },
    /// It cannot be read as the catalogue knows it.
    #[error("/{path} is {what}; run `serin doctor` and restore the file from a backup")]
    Broken {
        /// The file.
        path: Path,
        /// How it is.
        what: String,
    },
    /// No snapshot names this file.
    #[error("/{path} is not a file of this lake")]
    Unknown {
        /// The file.
        path: Path,
    },
    /// The store only reads.
    #[error("the lake's files cannot be {what} by a query")]
    ReadOnly {
        /// What was tried.
        what: &'static str,
    },
}

fn refused(error: CheckedError) -> Error {
    Error::Generic {
        store: "lake",
        source: Box::new(error),
    }
}

impl CheckedStore {
    /// Lets a file be read, against these sums.
    pub fn know(&self, path: &std::path::Path, bytes: u64, sums: Arc<Sums>) {
        if let Ok(path) = Path::from_absolute_path(path) {
            let is_right = sums.blocks.iter().map(|_| AtomicBool::new(false)).collect();
            let known = Arc::new(Known {
                bytes,
                sums,
                is_right,
            });
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            files.entry(path).or_insert(known);
        }
    }

    /// The checksums of a file it knows, for a store in another process.
    pub fn sums(&self, path: &std::path::Path) -> Option<Arc<Sums>> {
        let path = Path::from_absolute_path(path).ok()?;
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&path).map(|known| Arc::clone(&known.sums))
    }

    /// Forgets a file that is gone.
    pub(crate) fn forget(&self, path: &PathBuf) {
        if let Ok(path) = Path::from_absolute_path(path) {
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            files.remove(&path);
        }
    }

    fn known(&self, path: &Path) -> Result<Arc<Known>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files
            .get(path)
            .cloned()
            .ok_or_else(|| refused(CheckedError::Unknown { path: path.clone() }))
    }

    /// What an error of the disk means: the file is gone or cut off, or cannot be read.
    async fn broken(&self, path: &Path, known: &Known, error: Error) -> Error {
        let what = match (&error, self.disk.head(path).await) {
            (Error::NotFound { .. }, _) | (_, Err(Error::NotFound { .. })) => {
                String::from("not there")
            }
            (_, Ok(found)) if found.size != known.bytes => format!(
                "damaged: it has {} bytes instead of {}",
                found.size, known.bytes
            ),
            _ => return error,
        };
        let path = path.clone();
        refused(CheckedError::Broken { path, what })
    }

    /// Reads ranges, checking blocks that were not checked yet.
    async fn read(&self, path: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let known = self.known(path)?;
        let wide: Vec<Range<u64>> = ranges.iter().map(|range| known.widened(range)).collect();
        let read = match self.disk.get_ranges(path, &wide).await {
            Ok(read) => read,
            Err(error) => return Err(self.broken(path, &known, error).await),
        };
        let mut answers = Vec::with_capacity(ranges.len());
        for ((asked, wide), bytes) in ranges.iter().zip(&wide).zip(read) {
            if wide != asked || wide.start.is_multiple_of(BLOCK_BYTES) {
                known.check(path, wide, &bytes)?;
            }
            let start = (asked.start - wide.start) as usize;
            let end = (asked.end - wide.start) as usize;
            if end > bytes.len() || start > end {
                let path = path.clone();
                let block = (asked.start / BLOCK_BYTES) as usize;
                return Err(refused(CheckedError::Damaged { path, block }));
            }
            answers.push(bytes.slice(start..end));
        }
        Ok(answers)
    }
}

impl Known {
    /// The range itself when all its blocks are known to be right, else whole blocks around it.
    fn widened(&self, range: &Range<u64>) -> Range<u64> {
        let first = range.start / BLOCK_BYTES;
        let last = range.end.div_ceil(BLOCK_BYTES).max(first + 1);
        let blocks = first as usize..last as usize;
        let are_right = self.is_right.get(blocks).is_some_and(|blocks| {
            blocks
                .iter()
                .all(|is_right| is_right.load(Ordering::Acquire))
        });
        match are_right {
            true => range.clone(),
            false => first * BLOCK_BYTES..(last * BLOCK_BYTES).min(self.bytes),
        }
    }

    /// Checks the whole blocks in `bytes`, which were read from `range`.
    fn check(&self, path: &Path, range: &Range<u64>, bytes: &[u8]) -> Result<()> {
        let mut start = range.start;
        for part in bytes.chunks(BLOCK_BYTES as usize) {
            let block = (start / BLOCK_BYTES) as usize;
            start += part.len() as u64;
            let is_whole = start.is_multiple_of(BLOCK_BYTES) || start == self.bytes;
            let Some(is_right) = self.is_right.get(block) else {
                let path = path.clone();
                return Err(refused(CheckedError::Damaged { path, block }));
            };
            if !is_whole || is_right.load(Ordering::Acquire) {
                continue;
            }
            if !self.sums.block_is(block, part) {
                let path = path.clone();
                return Err(refused(CheckedError::Damaged { path, block }));
            }
            is_right.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for CheckedStore {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let range = options.range.clone();
        let is_head = options.head;
        let known = self.known(location)?;
        let mut head = options;
        head.head = true;
        head.range = None;
        let mut result = match self.disk.get_opts(location, head).await {
            Ok(result) => result,
            Err(error) => return Err(self.broken(location, &known, error).await),
        };
        if is_head {
            return Ok(result);
        }
        let range = match range {
            Some(range) => range
                .as_range(known.bytes)
                .map_err(|source| Error::Generic {
                    store: "lake",
                    source: Box::new(source),
                })?,
            None => 0..known.bytes,
        };
        let bytes = self.read(location, std::slice::from_ref(&range)).await?;
        result.range = range;
        result.payload = GetResultPayload::Stream(stream::iter(bytes.into_iter().map(Ok)).boxed());
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.read(location, ranges).await
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> Result<PutResult> {
        Err(refused(CheckedError::ReadOnly { what: "written" }))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(refused(CheckedError::ReadOnly { what: "written" }))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        locations
            .map(|_| Err(refused(CheckedError::ReadOnly { what: "deleted" })))
            .boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::iter([Err(refused(CheckedError::ReadOnly { what: "listed" }))]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused(CheckedError::ReadOnly { what: "listed" }))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused(CheckedError::ReadOnly { what: "copied" }))
    }
}

impl fmt::Display for CheckedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lake's files")
    }
}

impl fmt::Debug for CheckedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckedStore")
    }
}
