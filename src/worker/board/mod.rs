//! The board: what every worker does right now, in shared memory.
//!
//! The launcher reads from it whom to start, SQL functions through it wake workers and wait for
//! them, status views show it. It is lost at a restart and holds nothing that is not found again
//! from the catalog.

pub mod process;

mod database;
pub mod hold;
pub mod sql;
mod stream;
mod text;
mod wait;

pub use database::{DatabaseState, Entry as DatabaseEntry, JobsEntry, MaintenanceEntry};
pub use hold::{hold_database, hold_streams, release_abandoned};
pub use stream::{Entry as Stream, StreamEntry, StreamState, WantedStream, slots, want};
pub use wait::{Wait, applied, wait_until_durable};

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::shmem::{self, Layout, Region, RegionCell};
use crate::pg::{bgworker, exit, latch, xact};
use crate::settings;
use pgrx::pg_sys::{InvalidOid, Oid};
use std::cell::Cell;
use std::ffi::CStr;

/// Databases that the launcher can look after at a time.
const MAX_DATABASES: usize = 256;

/// Sessions that can keep workers out of databases at a time.
const MAX_HOLDS: usize = 64;

/// The board's shape in shared memory.
pub struct Board;

static BOARD: RegionCell<Board> = RegionCell::new();

/// Stands once on the board.
#[derive(Clone, Copy)]
pub struct Header {
    /// Process of the launcher; 0 when there is none.
    pub launcher: i32,
    /// Databases may have come or gone: the launcher looks at all of them again.
    pub look_around: bool,
    /// Databases out of which workers stay, or those of single streams.
    pub holds: [hold::Entry; MAX_HOLDS],
    /// Databases that have the extension, or may have.
    pub databases: [database::Entry; MAX_DATABASES],
}

impl Header {
    /// Whether all workers must stay out of the database.
    pub fn is_held(&self, database: Oid) -> bool {
        self.holds.iter().any(|hold| hold.keeps_out_all(database))
    }

    /// Whether the worker of the stream must stay out of its database.
    pub fn is_stream_held(&self, database: Oid, stream_id: i32) -> bool {
        self.holds.iter().any(|hold| hold.keeps_out(database, stream_id))
    }

    /// The entry of the database.
    pub fn database(&mut self, oid: Oid) -> Option<&mut database::Entry> {
        self.databases.iter_mut().find(|entry| entry.oid == oid)
    }

    /// The entry of the database, a new one if need be; `None` when there is no room.
    pub fn database_or_new(&mut self, oid: Oid) -> Option<&mut database::Entry> {
        let known = self.databases.iter().position(|entry| entry.oid == oid);
        let index =
            known.or_else(|| self.databases.iter().position(|entry| entry.oid == InvalidOid))?;
        let entry = &mut self.databases[index];
        if known.is_none() {
            *entry = database::Entry::FREE;
            entry.oid = oid;
        }
        Some(entry)
    }
}

impl Layout for Board {
    const NAME: &'static CStr = c"ods board";
    type Header = Header;
    type Entry = stream::Entry;

    fn entries() -> usize {
        settings::max_streams()
    }

    fn header() -> Header {
        Header {
            launcher: 0,
            look_around: true,
            holds: [hold::Entry::FREE; MAX_HOLDS],
            databases: [database::Entry::FREE; MAX_DATABASES],
        }
    }

    fn entry() -> stream::Entry {
        stream::Entry::FREE
    }

    fn cell() -> &'static RegionCell<Self> {
        &BOARD
    }
}

/// Asks for the board's shared memory; called once, from `_PG_init`.
pub fn install() {
    shmem::install::<Board>();
}

/// The board, or the error that tells how to get one.
pub fn board() -> Result<&'static Region<Board>> {
    BOARD.get().ok_or_else(|| {
        OdsError::new(ErrorKind::NotRunning, "the ods library is not preloaded").hint(
            "ALTER SYSTEM SET shared_preload_libraries = 'ods'; -- beside what is there, then restart the server",
        )
    })
}

thread_local! {
    static WAKES_AT_COMMIT: Cell<bool> = const { Cell::new(false) };
}

/// Once the current transaction has committed, has the workers of this database read the catalog
/// again. Nothing happens when it aborts.
pub fn wake_at_commit() {
    if BOARD.get().is_none() || WAKES_AT_COMMIT.replace(true) {
        return;
    }
    let database = bgworker::my_database();
    xact::at_end(move |end| {
        WAKES_AT_COMMIT.set(false);
        if end != xact::End::Aborted {
            wake_database(database);
        }
    });
}

/// Has the workers of the database read the catalog again, and tries at once what waits to be
/// tried again there. Never raises.
pub fn wake_database(database: Oid) {
    let Some(board) = BOARD.get() else { return };
    let pids = board.write(|header, streams| {
        let mut pids = vec![header.launcher];
        match header.database_or_new(database) {
            Some(entry) => {
                entry.dirty = true;
                entry.process.retry_now();
                pids.push(entry.process.pid);
            }
            None => header.look_around = true,
        }
        for stream in streams.iter_mut().filter(|stream| stream.database == database) {
            stream.process.retry_now();
            pids.push(stream.process.pid);
        }
        pids
    });
    pids.into_iter().for_each(latch::wake);
}

/// Has the maintenance worker of this database read the catalog again. Never raises.
pub fn wake_maintenance() {
    let Some(board) = BOARD.get() else { return };
    let database = bgworker::my_database();
    let pid = board.write(|header, _| {
        let entry = header.database(database)?;
        entry.dirty = true;
        Some(entry.process.pid)
    });
    pid.into_iter().for_each(latch::wake);
}

/// Wakes the launcher. Never raises.
pub fn wake_launcher() {
    let Some(board) = BOARD.get() else { return };
    latch::wake(board.read(|header, _| header.launcher));
}

/// Makes this process the launcher that others wake. Returns false when there is one already.
pub fn attach_launcher() -> Result<bool> {
    let board = board()?;
    let me = bgworker::my_pid();
    let attached = board.write(|header, _| {
        let free = header.launcher == 0;
        if free {
            header.launcher = me;
            header.look_around = true;
        }
        free
    });
    if attached {
        exit::at_exit(move || board.write(|header, _| header.launcher = 0));
    }
    Ok(attached)
}
