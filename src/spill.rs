//! Transactions that the source streams before they end, kept on disk until it is known how.
//!
//! Each goes to one file that has no name any more once it is open, so that nothing is left behind
//! however the process ends. What is lost with it, the source sends again.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes gathered before they are written, and read at once.
const BUFFER: usize = 256 << 10;
/// Before each message: its subtransaction and its length, four bytes each.
const HEADER: usize = 8;

/// The messages of one top-level transaction, in the order they came.
pub struct Spill {
    file: File,
    written: u64,
    /// What comes behind `written`.
    unwritten: Vec<u8>,
    aborted: HashSet<u32>,
}

impl Spill {
    /// An empty spill whose file takes its space from the file system of `dir`. The directory is
    /// made if it is missing. Should the process die in the instant before the file loses its name,
    /// Postgres removes it at its next start, provided that `dir` is a `pgsql_tmp` directory.
    pub fn create(dir: &Path) -> Result<Self> {
        let file = match unnamed(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                DirBuilder::new().mode(0o700).recursive(true).create(dir)?;
                unnamed(dir)?
            }
            file => file?,
        };
        Ok(Self { file, written: 0, unwritten: Vec::new(), aborted: HashSet::new() })
    }

    /// Adds a message that the subtransaction `subxid`, or the transaction itself, caused.
    pub fn append(&mut self, subxid: u32, message: &[u8]) -> Result<()> {
        let length = u32::try_from(message.len()).map_err(|_| ErrorKind::InvalidInput)?;
        self.unwritten.reserve(HEADER + message.len());
        self.unwritten.extend_from_slice(&subxid.to_ne_bytes());
        self.unwritten.extend_from_slice(&length.to_ne_bytes());
        self.unwritten.extend_from_slice(message);
        if self.unwritten.len() >= BUFFER { self.write_out() } else { Ok(()) }
    }

    /// Makes the messages of a rolled back subtransaction vanish.
    pub fn abort_sub(&mut self, subxid: u32) {
        self.aborted.insert(subxid);
    }

    /// Bytes kept, most of them on disk.
    #[cfg(test)]
    pub fn bytes(&self) -> u64 {
        self.written + self.unwritten.len() as u64
    }

    /// Reads from the beginning what was not rolled back. May be done again, and more may be
    /// appended afterwards.
    pub fn replay(&mut self) -> Result<Replay<'_>> {
        self.write_out()?;
        Ok(Replay {
            file: &self.file,
            aborted: &self.aborted,
            unread: 0,
            end: self.written,
            buffer: Vec::new(),
            place: 0,
        })
    }

    fn write_out(&mut self) -> Result<()> {
        // Written again from the same place after a failure, so that no message is ever torn.
        self.file.write_all_at(&self.unwritten, self.written)?;
        self.written += self.unwritten.len() as u64;
        self.unwritten.clear();
        self.unwritten.shrink_to(2 * BUFFER);
        Ok(())
    }
}

/// The messages of a [`Spill`]. The memory it needs is a fixed buffer, or the largest message.
pub struct Replay<'s> {
    file: &'s File,
    aborted: &'s HashSet<u32>,
    /// Where in the file the bytes behind `buffer` lie.
    unread: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Where in `buffer` the next message begins.
    place: usize,
}

impl Replay<'_> {
    /// The next message; none after the last one.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>> {
        loop {
            if self.unread == self.end && self.place == self.buffer.len() {
                return Ok(None);
            }
            self.fill(HEADER)?;
            let subxid = self.number(0);
            let length = self.number(4) as usize;
            if self.aborted.contains(&subxid) {
                self.skip(HEADER + length);
                continue;
            }
            self.fill(HEADER + length)?;
            let start = self.place + HEADER;
            self.place = start + length;
            return Ok(Some(&self.buffer[start..self.place]));
        }
    }

    /// Makes `count` bytes available from `place` on.
    fn fill(&mut self, count: usize) -> Result<()> {
        let left = self.buffer.len() - self.place;
        if left >= count {
            return Ok(());
        }
        self.buffer.copy_within(self.place.., 0);
        self.place = 0;
        let wanted = count.max(BUFFER);
        let more = (self.end - self.unread).min((wanted - left) as u64) as usize;
        self.buffer.resize(left + more, 0);
        if wanted == BUFFER {
            self.buffer.shrink_to(BUFFER);
        }
        if self.buffer.len() < count {
            return Err(Error::new(ErrorKind::UnexpectedEof, "spilled transaction is cut off"));
        }
        self.file.read_exact_at(&mut self.buffer[left..], self.unread)?;
        self.unread += more as u64;
        Ok(())
    }

    /// Goes on behind `count` bytes, reading none that are not in the buffer.
    fn skip(&mut self, count: usize) {
        let left = self.buffer.len() - self.place;
        if count <= left {
            self.place += count;
        } else {
            self.unread = self.unread.saturating_add((count - left) as u64).min(self.end);
            self.place = self.buffer.len();
        }
    }

    fn number(&self, at: usize) -> u32 {
        let start = self.place + at;
        self.buffer
            .get(start..)
            .and_then(|bytes| bytes.first_chunk())
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// Opens a new file in `dir` and takes its name away.
fn unnamed(dir: &Path) -> Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("pgsql_tmp_ods.{}.{number}", std::process::id()));
        match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
            // Left by an earlier process of the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
        }
    }
}

#[cfg(test)]
mod tests;
