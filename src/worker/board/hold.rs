//! Keeping workers out of a database while it is dropped, renamed, moved or copied, and that of a
//! stream while its server is dropped.

use super::process::Process;
use super::{Board, Stream, board};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::shmem::Region;
use crate::pg::{bgworker, latch, xact};
use pgrx::pg_sys::{InvalidOid, Oid};
use std::time::Duration;

/// Postgres itself waits this long for others to leave a database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who stays out of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// Every worker.
    All,
    /// The worker of this stream.
    Stream(i32),
}

impl Out {
    fn concerns(self, stream: &Stream) -> bool {
        self == Self::All || self == Self::Stream(stream.stream_id)
    }
}

/// A session that keeps workers out of a database.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The database.
    pub database: Oid,
    /// Which workers.
    pub out: Out,
    /// The session; 0 when the entry is free.
    pub pid: i32,
}

impl Entry {
    pub(super) const FREE: Self = Self { database: InvalidOid, out: Out::All, pid: 0 };

    pub(super) fn keeps_out_all(&self, database: Oid) -> bool {
        self.pid != 0 && self.database == database && self.out == Out::All
    }

    pub(super) fn keeps_out(&self, database: Oid, stream_id: i32) -> bool {
        self.keeps_out_all(database)
            || (self.pid != 0 && self.database == database && self.out == Out::Stream(stream_id))
    }

    fn is(&self, pid: i32, database: Oid, out: Out) -> bool {
        self.pid == pid && self.database == database && self.out == out
    }
}

/// Proof that workers stay out until the current transaction ends, or the subtransaction that asked
/// is rolled back.
///
/// There is nothing to release earlier: before the end nobody else sees what the transaction did
/// to the database, so a worker that came back would meet its locks.
#[derive(Debug)]
pub struct Hold(());

/// Has the workers of the database end, waits until they have left it, and keeps them away until
/// what the current transaction does is done or undone. Without the board there are no workers, and
/// nothing to do.
///
/// # Errors
/// When workers have not left after five seconds.
pub fn hold_database(database: Oid) -> Result<Hold> {
    hold(database, &[Out::All])
}

/// As [`hold_database`], of the workers of these streams only: other servers' tables stay fresh.
///
/// # Errors
/// When the workers have not left after five seconds.
pub fn hold_streams(database: Oid, stream_ids: &[i32]) -> Result<Hold> {
    let wanted: Vec<Out> = stream_ids.iter().map(|id| Out::Stream(*id)).collect();
    hold(database, &wanted)
}

fn hold(database: Oid, wanted: &[Out]) -> Result<Hold> {
    let Ok(board) = board() else { return Ok(Hold(())) };
    let me = bgworker::my_pid();
    for &out in wanted {
        take(board, me, database, out)?;
    }
    inside(board, database, wanted).into_iter().for_each(bgworker::terminate);
    board
        .changed()
        .wait_until(PATIENCE, || inside(board, database, wanted).is_empty().then_some(Hold(())))
        .ok_or_else(|| {
            OdsError::new(
                ErrorKind::Timeout,
                "the background workers of ods have not left the database within 5 seconds",
            )
            .hint("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'ods %';")
        })
}

/// Takes a place on the board, unless this session has it from earlier in its transaction.
fn take(board: &'static Region<Board>, me: i32, database: Oid, out: Out) -> Result<()> {
    let is_new = board.write(|header, _| {
        if header.holds.iter().any(|hold| hold.is(me, database, out)) {
            return Some(false);
        }
        let free = header.holds.iter_mut().find(|hold| hold.pid == 0)?;
        *free = Entry { database, out, pid: me };
        Some(true)
    });
    match is_new {
        Some(true) => xact::at_end_or_undo(move |_| release(board, me, database, out)),
        Some(false) => {}
        None => {
            return Err(OdsError::new(
                ErrorKind::Limit,
                "too many sessions keep the workers of ods out of databases",
            )
            .hint("Try again when other DROP, ALTER or CREATE DATABASE commands have ended."));
        }
    }
    Ok(())
}

/// Processes of the workers in the database that are to leave.
fn inside(board: &Region<Board>, database: Oid, wanted: &[Out]) -> Vec<i32> {
    let all = wanted.contains(&Out::All);
    board.read(|header, streams| {
        let maintenance = header.databases.iter().filter(|entry| all && entry.oid == database);
        let streams = streams.iter().filter(|stream| {
            stream.database == database && wanted.iter().any(|out| out.concerns(stream))
        });
        maintenance
            .flat_map(|entry| [entry.process.pid, entry.jobs.pid])
            .chain(streams.map(|stream| stream.process.pid))
            .filter(|pid| *pid != 0)
            .collect()
    })
}

/// Lets workers in again; the launcher finds out what has become of the database.
fn release(board: &Region<Board>, pid: i32, database: Oid, out: Out) {
    let launcher = board.write(|header, streams| {
        for hold in header.holds.iter_mut().filter(|hold| hold.is(pid, database, out)) {
            *hold = Entry::FREE;
        }
        if let Some(entry) = header.database(database) {
            entry.dirty = true;
            if out == Out::All {
                forgive(&mut entry.process);
                forgive(&mut entry.jobs);
            }
        }
        for stream in streams.iter_mut().filter(|s| s.database == database && out.concerns(s)) {
            forgive(&mut stream.process);
        }
        header.look_around = true;
        header.launcher
    });
    latch::wake(launcher);
}

/// A worker that had to leave has not failed.
fn forgive(process: &mut Process) {
    if process.is_stopped() {
        process.left();
    }
}

/// Frees the holds of sessions that have ended without saying so.
pub fn release_abandoned(board: &Region<Board>) {
    let holds = board.read(|header, _| header.holds);
    for hold in holds.iter().filter(|hold| hold.pid != 0 && !bgworker::is_alive(hold.pid)) {
        release(board, hold.pid, hold.database, hold.out);
    }
}
