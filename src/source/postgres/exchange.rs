//! A statement on its way at the source while the stream goes on.

use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::load::chunk::Rows as ChunkRows;
use crate::load::snapshot::Snapshot;
use crate::pg::libpq::{Connection, CopyPoll, Flush, Rows, Step};
use crate::pg::wait::{Deadline, Interest, Watch};

/// A connection on which one statement at a time runs without blocking.
pub struct Exchange {
    connection: Connection,
    running: Option<Running>,
    unsent: Flush,
}

struct Running {
    deadline: Deadline,
    results: Vec<Rows>,
    copy: Copy,
    chunk: Option<ChunkRows>,
    chunk_limit: usize,
    failure: Option<OdsError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Copy {
    No,
    Receiving,
    /// Rows beyond the byte limit are read off the wire and dropped.
    Draining,
}

/// What a statement brought.
pub struct Answer {
    /// Its results in order.
    pub results: Vec<Rows>,
    /// The rows of its COPY.
    pub chunk: Option<ChunkRows>,
    /// Whether rows were left out because the chunk had grown too large.
    pub cut: bool,
}

impl Exchange {
    /// An exchange over an idle connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection, running: None, unsent: Flush::Done }
    }

    /// Whether a statement is on its way.
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Sends a statement, or several in one message. Rows of a COPY beyond `chunk_limit` bytes are
    /// dropped.
    pub fn send(&mut self, sql: &str, deadline: Deadline, chunk_limit: usize) -> Result<()> {
        self.connection.send_query(sql)?;
        self.unsent = self.connection.flush()?;
        self.running = Some(Running {
            deadline,
            results: Vec::new(),
            copy: Copy::No,
            chunk: None,
            chunk_limit,
            failure: None,
        });
        Ok(())
    }

    /// What to wait for.
    pub fn watch(&self) -> Watch {
        self.connection.watch(match self.unsent {
            Flush::Done => Interest::Read,
            Flush::Pending => Interest::ReadWrite,
        })
    }

    /// Takes in what has arrived without looking at it, so that the source can go on sending.
    pub fn absorb(&mut self) -> Result<()> {
        Ok(self.connection.consume_input()?)
    }

    /// Goes on with the statement as far as bytes have arrived; its answer once it is over.
    pub fn advance(&mut self) -> Result<Option<Answer>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        self.connection.consume_input()?;
        if self.unsent == Flush::Pending {
            self.unsent = self.connection.flush()?;
        }
        loop {
            if running.copy != Copy::No {
                match self.connection.get_copy_data()? {
                    CopyPoll::Row(line) => {
                        if let (Copy::Receiving, Some(chunk)) = (running.copy, &mut running.chunk) {
                            if chunk.lines.len() >= running.chunk_limit {
                                running.copy = Copy::Draining;
                            } else {
                                chunk.push(&line);
                            }
                        }
                        continue;
                    }
                    CopyPoll::WouldBlock => return self.late(),
                    CopyPoll::End => {
                        if running.copy == Copy::Draining {
                            running.chunk_limit = 0;
                        }
                        running.copy = Copy::No;
                    }
                }
            }
            match self.connection.next_result() {
                Ok(Step::Rows(rows)) => running.results.push(rows),
                Ok(Step::CopyOut) => {
                    running.chunk = Some(begin_chunk(&running.results)?);
                    running.copy = Copy::Receiving;
                }
                Ok(Step::WouldBlock) => return self.late(),
                Ok(Step::Done) => break,
                Ok(Step::CopyBoth) => {
                    return Err(OdsError::new(
                        ErrorKind::Protocol,
                        "the source began a stream unasked",
                    ));
                }
                Err(error) => {
                    let lost = !matches!(error, crate::pg::libpq::PqError::Refused(_));
                    running.failure.get_or_insert_with(|| error.into());
                    if lost {
                        break;
                    }
                }
            }
        }
        match self.running.take() {
            Some(Running { failure: Some(error), .. }) => Err(error),
            Some(Running { results, chunk, chunk_limit, .. }) => {
                Ok(Some(Answer { results, chunk, cut: chunk_limit == 0 }))
            }
            None => Ok(None),
        }
    }

    fn late(&self) -> Result<Option<Answer>> {
        match &self.running {
            Some(running) if running.deadline.is_past() => Err(OdsError::new(
                ErrorKind::SourceUnreachable,
                "the source did not answer in time",
            )
            .hint("ALTER SYSTEM SET ods.network_timeout = '60s'; SELECT pg_reload_conf();")),
            _ => Ok(None),
        }
    }
}

/// The rows before a chunk's COPY tell its snapshot and mark.
fn begin_chunk(results: &[Rows]) -> Result<ChunkRows> {
    let odd =
        || OdsError::new(ErrorKind::Protocol, "the source did not tell the snapshot of a chunk");
    let head =
        results.iter().rev().find(|rows| rows.width() == 2 && rows.len() == 1).ok_or_else(odd)?;
    let snapshot = head.get(0, 0).and_then(|text| text.parse::<Snapshot>().ok()).ok_or_else(odd)?;
    let mark = head.get(0, 1).and_then(|text| text.parse::<Lsn>().ok()).ok_or_else(odd)?;
    Ok(ChunkRows::new(snapshot, mark.0))
}
