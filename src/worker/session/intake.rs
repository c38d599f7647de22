//! Taking in what the source sends, up to the ends of its transactions.

use super::{Incoming, MESSAGES_AT_ONCE, Session, publication};
use crate::batch::Stamp;
use crate::decode::lsn::Lsn;
use crate::decode::pgoutput::{self, Block, Commit, Frame, Message, Name, Relation};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{encoding, interrupt, xact};
use crate::source::postgres::quote::quote_literal;
use crate::source::postgres::replication::{Next, Reply};
use crate::source::postgres::upkeep::ancestors;
use crate::spill::Spill;
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::time::Instant;

impl Session<'_> {
    /// Takes in what has arrived; true when nothing more is there.
    pub(super) fn take_in(&mut self) -> Result<bool> {
        for number in 0..MESSAGES_AT_ONCE {
            let next = self.replication.next().map_err(|error| self.not_sent(error))?;
            match next {
                Next::Nothing => return Ok(true),
                Next::Payload(payload) => {
                    if number == 0 {
                        self.heard_at = Instant::now();
                    }
                    self.take_frame(&payload)?;
                }
            }
            if self.at_boundary() && self.is_batch_old() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    pub(super) fn take_frame(&mut self, bytes: &[u8]) -> Result<()> {
        match Frame::decode(bytes).map_err(protocol)? {
            Frame::Data { wal_end, payload, .. } => {
                self.told_of(wal_end);
                self.take_message(payload)
            }
            Frame::Keepalive { wal_end, reply_requested, .. } => {
                self.told_of(wal_end);
                if self.at_boundary() {
                    // Every commit before it was sent earlier, and has been taken in.
                    self.position = self.position.max(wal_end);
                }
                if reply_requested {
                    self.report(Reply::NotNeeded)?;
                }
                Ok(())
            }
        }
    }

    /// What a person can do where the source fails at one place of its WAL, time after time.
    fn not_sent(&self, error: OdsError) -> OdsError {
        if error.kind != ErrorKind::SourceRefused || !is_unsendable(error.detail.as_deref()) {
            return error;
        }
        let hint = format!(
            "If it stays like this: SELECT ods.skip_position({});  -- passes over what can't be sent, and reads the tables of this server anew",
            quote_literal(&self.stream.server)
        );
        error
            .context(format_args!("the source can't send what comes after {}", self.stored))
            .hint(hint)
    }

    pub(super) fn told_of(&mut self, wal_end: Lsn) {
        self.sent_end = self.sent_end.max(wal_end);
        self.source_end = self.source_end.max(wal_end);
    }

    fn take_message(&mut self, payload: &[u8]) -> Result<()> {
        if let Some(xid) = self.block {
            let decoded = pgoutput::decode(payload, Block::Streamed).map_err(protocol)?;
            return match decoded.message {
                Message::StreamStop => {
                    self.block = None;
                    Ok(())
                }
                message => match self.streamed.get_mut(&xid) {
                    Some(spill) => {
                        // The source describes a relation once, in whichever subtransaction wrote
                        // it first, and counts on that also where this one is rolled back.
                        let owner = match message {
                            Message::Relation(_) => xid,
                            _ => decoded.subxid.unwrap_or(xid),
                        };
                        spill.append(owner, payload).map_err(spilling)
                    }
                    None => Err(OdsError::new(
                        ErrorKind::Protocol,
                        "a streamed change of an unknown transaction",
                    )),
                },
            };
        }
        match pgoutput::decode(payload, Block::Plain).map_err(protocol)?.message {
            Message::Begin { final_lsn, committed_at_us, xid } => {
                // Its changes may lie before the end of what was committed last.
                self.sent_end = self.sent_end.max(Lsn(final_lsn.0.saturating_add(1)));
                self.incoming = Some(Incoming {
                    stamp: Stamp::of_transaction(committed_at_us, xid),
                    has_origin: false,
                });
                Ok(())
            }
            Message::Commit(commit) => self.transaction_ended(commit),
            Message::StreamStart { xid, .. } => {
                if let Entry::Vacant(streamed) = self.streamed.entry(xid) {
                    // A private file that has no name: it vanishes with this process.
                    let spill = Spill::create(Path::new("base/pgsql_tmp")).map_err(spilling)?;
                    streamed.insert(spill);
                }
                self.block = Some(xid);
                Ok(())
            }
            Message::StreamCommit { xid, commit } => self.streamed_commit(xid, commit),
            Message::StreamAbort { xid, subxid } => {
                if xid == subxid {
                    self.streamed.remove(&xid);
                } else if let Some(spill) = self.streamed.get_mut(&xid) {
                    spill.abort_sub(subxid);
                }
                Ok(())
            }
            message => self.take_content(&message),
        }
    }

    /// What a transaction holds between its begin and its end.
    fn take_content(&mut self, message: &Message<'_>) -> Result<()> {
        match message {
            Message::Relation(relation) => {
                let relation = named_in_utf8(relation, self.applier.encoding())?;
                self.described.insert(relation.id, relation.into_owned());
            }
            Message::Origin { .. } => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.has_origin = true;
                }
            }
            Message::Change(change) => {
                let stamp = self.stamp()?;
                self.batch_began.get_or_insert_with(Instant::now);
                self.meet(change.relation)?;
                self.pass_unroutable(change.relation)?;
                self.applier.push(change, stamp)?;
            }
            Message::Truncate(truncate) => {
                let stamp = self.stamp()?;
                self.batch_began.get_or_insert_with(Instant::now);
                for relation in &truncate.relations {
                    self.meet(*relation)?;
                    self.pass_unroutable(*relation)?;
                }
                self.reload_due |= self.applier.truncate(&truncate.relations, stamp)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Follows what a relation was described as, where the first change of that shape comes: of a
    /// transaction that was rolled back in part, descriptions stay, and tell of what never was.
    fn meet(&mut self, relation: u32) -> Result<()> {
        if self.described.is_empty() {
            return Ok(());
        }
        let Some(relation) = self.described.remove(&relation) else { return Ok(()) };
        self.follow_shape(&relation)?;
        self.applier.announce(&relation);
        self.place(&relation)
    }

    /// Finds out whether a relation that nobody knows yet is a new partition of a synced table.
    /// Changes of it pass by, and its table is read from this transaction on.
    fn place(&mut self, relation: &Relation) -> Result<()> {
        let id = relation.id;
        if self.applier.feeds(id) || self.upkeep.root_of(id).is_some() || !self.placed.insert(id) {
            return Ok(());
        }
        let above = ancestors(&self.access, id)?;
        let Some(table) = self.applier.table_of_root(&above) else { return Ok(()) };
        let (schema, name) = (relation.namespace.to_string(), relation.name.to_string());
        self.applier.within(|applier| {
            publication::add_member(table, id, &schema, &name)?;
            if let Some(table) = applier.table(table) {
                table.begin_loading();
            }
            Ok(())
        })?;
        self.reload_due = true;
        Ok(())
    }

    pub(super) fn stamp(&self) -> Result<Stamp> {
        self.incoming
            .as_ref()
            .map(|incoming| incoming.stamp)
            .ok_or_else(|| OdsError::new(ErrorKind::Protocol, "a change outside of a transaction"))
    }

    pub(super) fn streamed_commit(&mut self, xid: u32, commit: Commit) -> Result<()> {
        let Some(mut spill) = self.streamed.remove(&xid) else {
            return Err(OdsError::new(
                ErrorKind::Protocol,
                "a commit of an unknown streamed transaction",
            ));
        };
        self.sent_end = self.sent_end.max(commit.end_lsn);
        let stamp = Stamp::of_transaction(commit.committed_at_us, xid);
        self.incoming = Some(Incoming { stamp, has_origin: false });
        let mut replay = spill.replay().map_err(spilling)?;
        let mut count = 0usize;
        while let Some(payload) = replay.next_message().map_err(spilling)? {
            let decoded = pgoutput::decode(payload, Block::Streamed).map_err(protocol)?;
            self.take_content(&decoded.message)?;
            count += 1;
            if count.is_multiple_of(MESSAGES_AT_ONCE) {
                // A large transaction takes its time; the source must not take us for dead.
                interrupt::check();
                self.seen();
                if self.replication.status_due() {
                    self.report(Reply::NotNeeded)?;
                }
            }
        }
        self.transaction_ended(commit)
    }

    pub(super) fn transaction_ended(&mut self, commit: Commit) -> Result<()> {
        if self.incoming.take().is_some_and(|incoming| !incoming.has_origin) {
            self.fresh.prove(commit.committed_at_us);
        }
        self.position = self.position.max(commit.end_lsn);
        self.told_of(commit.end_lsn);
        self.transactions += 1;
        self.changed_at = Instant::now();
        if self.applier.is_committing_due() || self.course.singly_until.is_some() {
            self.commit()?;
        }
        Ok(())
    }
}

/// The relation with its names as the catalog has them.
fn named_in_utf8(relation: &Relation, encoding: i32) -> Result<Cow<'_, Relation>> {
    let mut named = relation.clone();
    if named.names_mut().all(|name| name.as_bytes().is_ascii()) {
        return Ok(Cow::Borrowed(relation));
    }
    xact::with_catalog(|| {
        for name in named.names_mut() {
            if let Some(text) = encoding::to_utf8(name.as_bytes(), encoding) {
                *name = Name::from(text.as_bytes());
            }
        }
        Ok(())
    })?;
    Ok(Cow::Owned(named))
}

/// Whether an error is one that rows raise on their way out: values that can't be written (22), what
/// exceeds a limit or the memory (53, 54), and what Postgres thinks can't happen (XX), as a value of a
/// gigabyte is.
fn is_unsendable(detail: Option<&str>) -> bool {
    let class = detail.and_then(|detail| detail.strip_prefix("SQLSTATE ")?.get(..2));
    matches!(class, Some("22" | "53" | "54" | "XX"))
}

fn protocol(error: crate::decode::DecodeError) -> OdsError {
    OdsError::new(ErrorKind::Protocol, format!("the source sent something unreadable: {error}"))
}

fn spilling(error: std::io::Error) -> OdsError {
    OdsError::new(
        ErrorKind::Limit,
        format!("can't keep a large transaction of the source on disk: {error}"),
    )
}
