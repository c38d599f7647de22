//! The replication connection: START_REPLICATION, its messages, and what we confirm.
//!
//! Format: "Streaming Replication Protocol" and "Logical Streaming Replication Parameters" in the
//! Postgres manual.

use crate::decode::lsn::Lsn;
use crate::decode::pgoutput;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::clock;
use crate::pg::libpq::{Connection, CopyBuffer, CopyPoll, Flush, Put, Step};
use crate::pg::wait::{Deadline, Interest, Watch, wait_for_socket};
use std::time::{Duration, Instant};

/// How often a status goes out unasked. A third of the shortest usual `wal_sender_timeout`.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// What we have of the stream, as the source is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// Received here.
    pub received: Lsn,
    /// Committed here, and the local WAL that holds it flushed. The source may forget all before.
    pub flushed: Lsn,
}

/// Whether the source is asked to answer with a keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It need not answer.
    NotNeeded,
    /// It answers at once with how far it has sent.
    Requested,
}

/// A running replication stream.
pub struct Replication {
    connection: Connection,
    status_sent: Instant,
    unsent: Flush,
}

/// The next message.
pub enum Next {
    /// One payload, to be parsed by [`pgoutput`].
    Payload(CopyBuffer),
    /// Nothing has arrived.
    Nothing,
}

impl Replication {
    /// Starts the stream of `slot` at `from` on a replication connection.
    pub fn start(
        mut connection: Connection,
        slot: &str,
        publication: &str,
        from: Lsn,
        deadline: Deadline,
    ) -> Result<Self> {
        let streaming = connection.server_version() >= 140_000;
        let sql = format!(
            "START_REPLICATION SLOT \"{slot}\" LOGICAL {from} (proto_version '{}', publication_names '{}'{})",
            if streaming { 2 } else { 1 },
            quoted_publication(publication),
            if streaming { ", streaming 'on'" } else { "" },
        );
        connection.send_query(&sql)?;
        connection.flush()?;
        loop {
            match connection.next_result()? {
                Step::CopyBoth => break,
                Step::WouldBlock => {
                    if deadline.is_past() {
                        return Err(OdsError::new(
                            ErrorKind::SourceUnreachable,
                            "the source did not start the replication stream in time",
                        ));
                    }
                    wait_for_socket(connection.socket(), Interest::Read, deadline);
                    connection.consume_input()?;
                }
                Step::Rows(_) | Step::CopyOut | Step::Done => {
                    return Err(OdsError::new(
                        ErrorKind::Protocol,
                        "the source did not start the replication stream",
                    ));
                }
            }
        }
        Ok(Self { connection, status_sent: Instant::now(), unsent: Flush::Done })
    }

    /// What to wait for.
    pub fn watch(&self) -> Watch {
        self.connection.watch(match self.unsent {
            Flush::Done => Interest::Read,
            Flush::Pending => Interest::ReadWrite,
        })
    }

    /// Takes in what has arrived at the socket.
    pub fn receive(&mut self) -> Result<()> {
        self.connection.consume_input()?;
        if self.unsent == Flush::Pending {
            self.unsent = self.connection.flush()?;
        }
        Ok(())
    }

    /// The next message, without waiting.
    pub fn next(&mut self) -> Result<Next> {
        match self.connection.get_copy_data()? {
            CopyPoll::Row(payload) => Ok(Next::Payload(payload)),
            CopyPoll::WouldBlock => Ok(Next::Nothing),
            CopyPoll::End => match self.connection.next_result() {
                Err(error) => Err(error.into()),
                Ok(_) => Err(OdsError::new(
                    ErrorKind::SourceUnreachable,
                    "the source ended the replication stream",
                )),
            },
        }
    }

    /// Tells the source what we have, if it is time to or an answer is wanted.
    pub fn report(&mut self, confirmed: Confirmed, reply: Reply) -> Result<()> {
        let message = pgoutput::StatusUpdate {
            written: confirmed.received,
            flushed: confirmed.flushed,
            applied: confirmed.flushed,
            sent_at_us: clock::now(),
            request_reply: reply == Reply::Requested,
        }
        .encode();
        if self.connection.put_copy_data(&message)? == Put::Queued {
            self.status_sent = Instant::now();
        }
        self.unsent = self.connection.flush()?;
        Ok(())
    }

    /// Whether a status is due although nothing moved.
    pub fn status_due(&self) -> bool {
        self.status_sent.elapsed() >= STATUS_INTERVAL
    }
}

/// A publication name inside the option's string: an identifier within a literal.
fn quoted_publication(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\"")).replace('\'', "''")
}

#[cfg(test)]
mod tests {
    use super::quoted_publication;

    #[test]
    fn publication_names_are_quoted_twice() {
        assert_eq!(quoted_publication("a\"b'c"), "\"a\"\"b''c\"");
    }
}
