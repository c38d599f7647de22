//! The worker of one stream: it keeps a session with the source going, and begins a new one with
//! growing pauses after each failure.

use super::board::{StreamEntry, StreamState};
use super::session::{Course, End, Opened, Session};
use super::{STREAM, backoff, kafka, warnings};
use crate::catalog::stream;
use crate::error::{OdsError, Result, Retry};
use crate::fence::{self, Fence};
use crate::pg::{bgworker, interrupt, latch, xact};
use crate::source::server::{self, Kind};
use pgrx::prelude::*;
use std::time::{Duration, Instant};

/// Where a fenced or foreign catalog is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Main function of a stream worker; the argument is the index of its entry on the board.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ods_stream_main(index: pg_sys::Datum) {
    let Ok(entry) = StreamEntry::attach_index(index.value() as i32) else { return };
    let name = format!("{STREAM} {}", entry.stream_id());
    bgworker::prepare_worker(Some(entry.database()), &name);
    let mut attempts = 0;
    let mut courses = Courses::default();
    loop {
        interrupt::check();
        interrupt::reload_config_if_asked();
        let began = Instant::now();
        let kind = xact::catch(|| {
            if !may_connect(&entry)? {
                return Ok(None);
            }
            entry.set_state(StreamState::Connecting, "");
            kind_of(entry.stream_id()).map(Some)
        });
        let ended = match kind {
            Ok(None) => Ok(End::Wait(LOOK_AGAIN)),
            Ok(Some(None)) => Ok(End::Stop),
            Ok(Some(Some(Kind::Postgres))) => courses.follow_postgres(&entry),
            Ok(Some(Some(Kind::Kafka))) => courses.follow_kafka(&entry),
            Err(error) => Err(error),
        };
        match ended {
            Ok(End::Again) => attempts = 0,
            Ok(End::Wait(pause)) => {
                attempts = 0;
                latch::wait(Some(pause));
            }
            Ok(End::Stop) => return,
            Err(failure) => {
                attempts = backoff::after_failure(attempts, began.elapsed());
                let pause = backoff::delay(attempts);
                report(&entry, failure);
                latch::wait(Some(pause));
            }
        }
    }
}

/// What the kind of server is that a stream reads from; none if the stream is gone.
fn kind_of(stream_id: i32) -> Result<Option<Kind>> {
    xact::in_transaction(|| match stream::names(stream_id)? {
        Some((server, _)) => server::find(&server).map(|(_, kind)| Some(kind)),
        None => Ok(None),
    })
}

/// What each session leaves to the one after it.
#[derive(Default)]
struct Courses {
    postgres: Course,
    kafka: kafka::Course,
}

impl Courses {
    /// A session outlives an error in it until the transaction has been rolled back: what it holds of
    /// Postgres is given back in the right order.
    fn follow_postgres(&mut self, entry: &StreamEntry) -> Result<End> {
        match xact::catch(|| Session::open(entry, &self.postgres))? {
            Opened::Ended(end) => Ok(end),
            Opened::Session(mut session) => {
                let ended = xact::catch(|| session.run());
                self.postgres = std::mem::take(&mut session.course);
                ended
            }
        }
    }

    /// The same for Kafka.
    fn follow_kafka(&mut self, entry: &StreamEntry) -> Result<End> {
        match xact::catch(|| kafka::Session::open(entry, &self.kafka))? {
            kafka::Opened::Ended(end) => Ok(end),
            kafka::Opened::Session(mut session) => {
                let ended = xact::catch(|| session.run());
                self.kafka = std::mem::take(&mut session.course);
                ended
            }
        }
    }
}

/// A copy never touches the sources, and a catalog of another version is left alone.
fn may_connect(entry: &StreamEntry) -> Result<bool> {
    let (fence, foreign_version) =
        xact::in_transaction(|| Ok((fence::confirm()?, fence::foreign_version()?)))?;
    if let Some(error) = foreign_version {
        entry.set_state(StreamState::Failed, &error.told());
        return Ok(false);
    }
    match fence {
        Fence::Ours => Ok(true),
        Fence::NoIdentity => {
            entry.set_state(
                StreamState::Fenced,
                "the catalog has no identity: SELECT ods.adopt_database();",
            );
            Ok(false)
        }
        Fence::Foreign { reason } => {
            entry
                .set_state(StreamState::Fenced, &format!("{reason}: SELECT ods.adopt_database();"));
            Ok(false)
        }
    }
}

/// Shows a failure, and tells the log of it once in a while.
fn report(entry: &StreamEntry, failure: OdsError) {
    let state = match failure.kind.retry() {
        Retry::Backoff => StreamState::Waiting,
        Retry::Never => StreamState::Failed,
    };
    entry.set_state(state, &failure.told());
    warnings::tell(failure.context(format_args!("{STREAM} {}", entry.stream_id())));
}
