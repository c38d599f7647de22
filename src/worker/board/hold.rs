//! Keeping workers out of a database while it is dropped, renamed, moved or copied.

use super::process::Process;
use super::{Board, board};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::shmem::Region;
use crate::pg::{bgworker, latch, xact};
use pgrx::pg_sys::{InvalidOid, Oid};
use std::time::Duration;

/// Postgres itself waits this long for others to leave a database.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session that keeps workers out of a database.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The database.
    pub database: Oid,
    /// The session; 0 when the entry is free.
    pub pid: i32,
}

impl Entry {
    pub(super) const FREE: Self = Self { database: InvalidOid, pid: 0 };
}

/// Proof that workers stay out of a database until the current transaction ends.
///
/// There is nothing to release earlier: before the end nobody else sees what the transaction did
/// to the database, so a worker that came back would meet its locks.
#[derive(Debug)]
pub struct Hold(());

/// Has the workers of the database end, waits until they have left it, and keeps them away until
/// the end of the current transaction. Without the board there are no workers, and nothing to do.
///
/// # Errors
/// When workers have not left after five seconds.
pub fn hold_database(database: Oid) -> Result<Hold> {
    let Ok(board) = board() else { return Ok(Hold(())) };
    let me = bgworker::my_pid();
    let held = board.write(|header, _| {
        let free = header.holds.iter_mut().find(|hold| hold.pid == 0)?;
        *free = Entry { database, pid: me };
        Some(())
    });
    if held.is_none() {
        return Err(OdsError::new(
            ErrorKind::Limit,
            "too many sessions keep the workers of ods out of databases",
        )
        .hint("Try again when other DROP, ALTER or CREATE DATABASE commands have ended."));
    }
    xact::at_end(move |_| release(board, me, database));
    inside(board, database).into_iter().for_each(bgworker::terminate);
    board
        .changed()
        .wait_until(PATIENCE, || inside(board, database).is_empty().then_some(Hold(())))
        .ok_or_else(|| {
            OdsError::new(
                ErrorKind::Timeout,
                "the background workers of ods have not left the database within 5 seconds",
            )
            .hint("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type LIKE 'ods %';")
        })
}

/// Processes of workers in the database.
fn inside(board: &Region<Board>, database: Oid) -> Vec<i32> {
    board.read(|header, streams| {
        let maintenance = header.databases.iter().filter(|entry| entry.oid == database);
        let streams = streams.iter().filter(|stream| stream.database == database);
        maintenance
            .flat_map(|entry| [entry.process.pid, entry.jobs.pid])
            .chain(streams.map(|stream| stream.process.pid))
            .filter(|pid| *pid != 0)
            .collect()
    })
}

/// Lets workers in again; the launcher finds out what has become of the database.
fn release(board: &Region<Board>, pid: i32, database: Oid) {
    let launcher = board.write(|header, streams| {
        for hold in header.holds.iter_mut().filter(|h| h.pid == pid && h.database == database) {
            *hold = Entry::FREE;
        }
        if let Some(entry) = header.database(database) {
            entry.dirty = true;
            forgive(&mut entry.process);
            forgive(&mut entry.jobs);
        }
        for stream in streams.iter_mut().filter(|stream| stream.database == database) {
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
        release(board, hold.pid, hold.database);
    }
}
