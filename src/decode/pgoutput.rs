//! Messages of a replication connection that runs pgoutput, protocol versions 1 and 2.
//!
//! Formats: "Streaming Replication Protocol" and "Logical Replication Message Formats" in the
//! Postgres manual. Times are microseconds since 2000-01-01 UTC, on the source's clock.

use super::cell::Tuple;
use super::change::{Change, Old, Op};
use super::lsn::Lsn;
use super::{DecodeError, Reader};
use std::fmt;

/// What one CopyData payload of the replication stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// One message of the output plugin, for [`decode`].
    Data {
        /// Where the record that caused the message begins; zero for some kinds.
        start: Lsn,
        /// How far the source's log reached when it sent this.
        wal_end: Lsn,
        /// When the source sent this.
        sent_at_us: i64,
        /// The plugin's message.
        payload: &'a [u8],
    },
    /// A sign of life.
    Keepalive {
        /// Everything committed before this was sent earlier.
        wal_end: Lsn,
        /// When the source sent this; says nothing about how fresh the rows are.
        sent_at_us: i64,
        /// Whether the source ends the connection unless it hears from us soon.
        reply_requested: bool,
    },
}

impl<'a> Frame<'a> {
    /// Reads one CopyData payload.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.u8("replication frame")? {
            b'w' => Ok(Self::Data {
                start: reader.lsn("data frame")?,
                wal_end: reader.lsn("data frame")?,
                sent_at_us: reader.i64("data frame")?,
                payload: reader.rest,
            }),
            b'k' => {
                let frame = Self::Keepalive {
                    wal_end: reader.lsn("keepalive")?,
                    sent_at_us: reader.i64("keepalive")?,
                    reply_requested: reader.u8("keepalive")? != 0,
                };
                reader.finish()?;
                Ok(frame)
            }
            tag => Err(DecodeError::UnknownFrame(tag)),
        }
    }
}

/// What we tell the source about how far we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Received up to here.
    pub written: Lsn,
    /// Flushed to disk here; the source may forget what lies before.
    pub flushed: Lsn,
    /// Visible to readers here.
    pub applied: Lsn,
    /// Our clock, in microseconds since 2000-01-01 UTC.
    pub sent_at_us: i64,
    /// Asks the source for a keepalive at once.
    pub request_reply: bool,
}

impl StatusUpdate {
    /// The CopyData payload that says so.
    pub fn encode(&self) -> [u8; 34] {
        let mut bytes = [0; 34];
        bytes[0] = b'r';
        bytes[1..9].copy_from_slice(&self.written.0.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.flushed.0.to_be_bytes());
        bytes[17..25].copy_from_slice(&self.applied.0.to_be_bytes());
        bytes[25..33].copy_from_slice(&self.sent_at_us.to_be_bytes());
        bytes[33] = u8::from(self.request_reply);
        bytes
    }
}

/// Where a message stands: between stream start and stream stop, messages carry an xid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Outside, where transactions come whole and committed.
    Plain,
    /// Inside a block of a transaction that has not ended yet.
    Streamed,
}

/// A decoded message and, inside a streamed block, whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// The subtransaction, or the transaction itself, that made the change; `None` outside a
    /// streamed block and for messages that carry none.
    pub subxid: Option<u32>,
    /// The message.
    pub message: Message<'a>,
}

/// One message of pgoutput.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A committed transaction begins.
    Begin {
        /// The LSN of its commit record.
        final_lsn: Lsn,
        /// When it committed.
        committed_at_us: i64,
        /// Its id.
        xid: u32,
    },
    /// The transaction that began is complete.
    Commit(Commit),
    /// The transaction came to the source by replication; its commit time is another clock's.
    Origin {
        /// Its commit on the first server.
        commit_lsn: Lsn,
        /// The origin's name.
        name: &'a [u8],
    },
    /// The shape of a relation, sent before its first change and after each change of shape.
    Relation(Relation),
    /// A column type outside pg_catalog.
    Type {
        /// Its oid at the source.
        oid: u32,
        /// Its schema.
        namespace: &'a [u8],
        /// Its name.
        name: &'a [u8],
    },
    /// A row event.
    Change(Change<'a>),
    /// Relations were emptied.
    Truncate(Truncate),
    /// A message written by `pg_logical_emit_message`.
    Logical {
        /// Whether it belongs to a transaction, or was sent when written.
        transactional: bool,
        /// Where it lies.
        lsn: Lsn,
        /// Its prefix.
        prefix: &'a [u8],
        /// Its content.
        content: &'a [u8],
    },
    /// A block of an unfinished transaction begins.
    StreamStart {
        /// The top-level transaction.
        xid: u32,
        /// Whether this is its first block.
        first: bool,
    },
    /// The block ends.
    StreamStop,
    /// A streamed transaction is complete.
    StreamCommit {
        /// The top-level transaction.
        xid: u32,
        /// Where and when.
        commit: Commit,
    },
    /// A streamed transaction, or one of its subtransactions, was rolled back.
    StreamAbort {
        /// The top-level transaction.
        xid: u32,
        /// What was rolled back: a subtransaction, or `xid` for all of it.
        subxid: u32,
    },
}

/// Where and when a transaction committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The LSN of the commit record.
    pub commit_lsn: Lsn,
    /// The LSN behind it, which is the position of a stream that has applied it.
    pub end_lsn: Lsn,
    /// When.
    pub committed_at_us: i64,
}

/// Relations that one statement emptied together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate {
    /// Whether the statement said CASCADE.
    pub cascade: bool,
    /// Whether the statement said RESTART IDENTITY.
    pub restart_identity: bool,
    /// The relations, partitions one by one.
    pub relations: Vec<u32>,
}

/// The shape of a relation at the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The number that changes use for it: its oid.
    pub id: u32,
    /// Its schema; empty for pg_catalog.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// What old rows will hold.
    pub replica_identity: ReplicaIdentity,
    /// Its published columns in order, generated and dropped ones left out.
    pub columns: Vec<Column>,
}

/// One column of a [`Relation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Whether it belongs to the replica identity.
    pub in_identity: bool,
    /// Its name.
    pub name: Name,
    /// Its type's oid at the source.
    pub type_oid: u32,
    /// Its type modifier, -1 for none.
    pub type_modifier: i32,
}

/// The setting `REPLICA IDENTITY` of a relation, `relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// Nothing.
    Nothing,
    /// The whole row.
    Full,
    /// A chosen unique index.
    Index,
}

/// A name in the source's encoding, which need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The name's bytes, without a NUL.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Relation {
    /// Every name of it: its schema, its own, those of its columns.
    pub fn names_mut(&mut self) -> impl Iterator<Item = &mut Name> {
        [&mut self.namespace, &mut self.name]
            .into_iter()
            .chain(self.columns.iter_mut().map(|column| &mut column.name))
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }
}

/// For messages: what is not UTF-8 shows as a replacement character.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// Reads one message of the plugin. `block` is `Streamed` between stream start and stream stop,
/// and for messages of such a block that were kept aside.
pub fn decode(payload: &[u8], block: Block) -> Result<Decoded<'_>, DecodeError> {
    let mut reader = Reader::new(payload);
    let tag = reader.u8("message")?;
    let subxid = match (block, tag) {
        (Block::Streamed, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') => {
            Some(reader.u32("transaction id")?)
        }
        _ => None,
    };
    let message = body(tag, &mut reader)?;
    reader.finish()?;
    Ok(Decoded { subxid, message })
}

fn body<'a>(tag: u8, reader: &mut Reader<'a>) -> Result<Message<'a>, DecodeError> {
    Ok(match tag {
        b'B' => Message::Begin {
            final_lsn: reader.lsn("begin")?,
            committed_at_us: reader.i64("begin")?,
            xid: reader.u32("begin")?,
        },
        b'C' => Message::Commit(commit(reader)?),
        b'O' => Message::Origin {
            commit_lsn: reader.lsn("origin")?,
            name: reader.until_nul("origin name")?,
        },
        b'R' => Message::Relation(relation(reader)?),
        b'Y' => Message::Type {
            oid: reader.u32("type")?,
            namespace: reader.until_nul("type schema")?,
            name: reader.until_nul("type name")?,
        },
        b'I' => {
            let relation = reader.u32("insert")?;
            expect(reader, b'N', "new row")?;
            Message::Change(Change { relation, op: Op::Insert { new: Tuple::read(reader)? } })
        }
        b'U' => {
            let relation = reader.u32("update")?;
            let old = match reader.u8("update")? {
                b'N' => None,
                tag => {
                    let old = old_row(tag, reader)?;
                    expect(reader, b'N', "new row")?;
                    Some(old)
                }
            };
            Message::Change(Change { relation, op: Op::Update { old, new: Tuple::read(reader)? } })
        }
        b'D' => {
            let relation = reader.u32("delete")?;
            let tag = reader.u8("delete")?;
            Message::Change(Change { relation, op: Op::Delete { old: old_row(tag, reader)? } })
        }
        b'T' => Message::Truncate(truncate(reader)?),
        b'M' => {
            let transactional = reader.u8("logical message")? & 1 != 0;
            let lsn = reader.lsn("logical message")?;
            let prefix = reader.until_nul("logical message prefix")?;
            let length = reader.length("logical message content")?;
            let content = reader.take(length, "logical message content")?;
            Message::Logical { transactional, lsn, prefix, content }
        }
        b'S' => Message::StreamStart {
            xid: reader.u32("stream start")?,
            first: reader.u8("stream start")? != 0,
        },
        b'E' => Message::StreamStop,
        b'c' => {
            Message::StreamCommit { xid: reader.u32("stream commit")?, commit: commit(reader)? }
        }
        b'A' => Message::StreamAbort {
            xid: reader.u32("stream abort")?,
            subxid: reader.u32("stream abort")?,
        },
        tag => return Err(DecodeError::UnknownMessage(tag)),
    })
}

fn expect(reader: &mut Reader<'_>, wanted: u8, place: &'static str) -> Result<(), DecodeError> {
    match reader.u8(place)? {
        tag if tag == wanted => Ok(()),
        tag => Err(DecodeError::UnexpectedTag { place, tag }),
    }
}

fn old_row<'a>(tag: u8, reader: &mut Reader<'a>) -> Result<Old<'a>, DecodeError> {
    match tag {
        b'K' => Tuple::read(reader).map(Old::Key),
        b'O' => Tuple::read(reader).map(Old::Whole),
        tag => Err(DecodeError::UnexpectedTag { place: "old row", tag }),
    }
}

fn commit(reader: &mut Reader<'_>) -> Result<Commit, DecodeError> {
    // The flags are unused in all protocol versions.
    reader.u8("commit")?;
    Ok(Commit {
        commit_lsn: reader.lsn("commit")?,
        end_lsn: reader.lsn("commit")?,
        committed_at_us: reader.i64("commit")?,
    })
}

fn truncate(reader: &mut Reader<'_>) -> Result<Truncate, DecodeError> {
    let count = reader.length("truncate")?;
    let options = reader.u8("truncate")?;
    let (ids, _) = reader.take(count.saturating_mul(4), "truncated relations")?.as_chunks::<4>();
    Ok(Truncate {
        cascade: options & 1 != 0,
        restart_identity: options & 2 != 0,
        relations: ids.iter().map(|id| u32::from_be_bytes(*id)).collect(),
    })
}

fn relation(reader: &mut Reader<'_>) -> Result<Relation, DecodeError> {
    let id = reader.u32("relation")?;
    let namespace = reader.until_nul("relation schema")?.into();
    let name = reader.until_nul("relation name")?.into();
    let replica_identity = match reader.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        tag => return Err(DecodeError::UnexpectedTag { place: "replica identity", tag }),
    };
    let columns = (0..reader.count("relation columns")?)
        .map(|_| {
            Ok(Column {
                in_identity: reader.u8("relation column")? & 1 != 0,
                name: reader.until_nul("column name")?.into(),
                type_oid: reader.u32("relation column")?,
                type_modifier: reader.i32("relation column")?,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Relation { id, namespace, name, replica_identity, columns })
}

#[cfg(test)]
mod tests;
