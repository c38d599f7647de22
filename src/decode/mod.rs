//! Bytes of a source → [`change::Change`]. Pure: no Postgres, no allocation for row data, and no
//! input that makes it panic.

pub mod cell;
pub mod change;
pub mod kafka;
pub mod lsn;
pub mod pgoutput;

use lsn::Lsn;
use thiserror::Error;

/// Bytes that don't follow the protocol of their source. Never holds a value of a row.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside the named part.
    #[error("message ends inside {0}")]
    Truncated(&'static str),
    /// Bytes are left over behind a complete message.
    #[error("{0} bytes behind the end of the message")]
    Trailing(usize),
    /// The first byte names no frame of the replication protocol.
    #[error("unknown replication frame with tag {0:#04x}")]
    UnknownFrame(u8),
    /// The first byte names no message of the protocol versions spoken here.
    #[error("unknown pgoutput message with tag {0:#04x}")]
    UnknownMessage(u8),
    /// A byte inside a message is none of those allowed there.
    #[error("unexpected tag {tag:#04x} for {place}")]
    UnexpectedTag {
        /// What the tag should have told.
        place: &'static str,
        /// The byte found.
        tag: u8,
    },
    /// A count or length is negative or larger than a value can be.
    #[error("impossible length of {0}")]
    BadLength(&'static str),
    /// Text that should be a log sequence number is not of the form `X/X`.
    #[error("not a log sequence number")]
    NotAnLsn,
}

/// A cursor over network-order bytes that answers with an error instead of running over the end.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(DecodeError::Truncated(part))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated(part))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, part: &'static str) -> Result<u8, DecodeError> {
        self.array(part).map(|[byte]| byte)
    }

    fn i16(&mut self, part: &'static str) -> Result<i16, DecodeError> {
        self.array(part).map(i16::from_be_bytes)
    }

    fn u32(&mut self, part: &'static str) -> Result<u32, DecodeError> {
        self.array(part).map(u32::from_be_bytes)
    }

    fn i32(&mut self, part: &'static str) -> Result<i32, DecodeError> {
        self.array(part).map(i32::from_be_bytes)
    }

    fn i64(&mut self, part: &'static str) -> Result<i64, DecodeError> {
        self.array(part).map(i64::from_be_bytes)
    }

    fn lsn(&mut self, part: &'static str) -> Result<Lsn, DecodeError> {
        self.array(part).map(|bytes| Lsn(u64::from_be_bytes(bytes)))
    }

    /// Bytes up to a NUL, which is consumed and not part of the answer.
    fn until_nul(&mut self, part: &'static str) -> Result<&'a [u8], DecodeError> {
        let end =
            self.rest.iter().position(|byte| *byte == 0).ok_or(DecodeError::Truncated(part))?;
        let text = self.take(end, part)?;
        self.take(1, part)?;
        Ok(text)
    }

    /// A 16-bit count, which the wire carries as a signed number.
    fn count(&mut self, part: &'static str) -> Result<u16, DecodeError> {
        u16::try_from(self.i16(part)?).map_err(|_| DecodeError::BadLength(part))
    }

    /// A 32-bit length, which the wire carries as a signed number.
    fn length(&mut self, part: &'static str) -> Result<usize, DecodeError> {
        usize::try_from(self.i32(part)?).map_err(|_| DecodeError::BadLength(part))
    }

    fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}
