//! Entries of databases: what their maintenance worker tells, and what others read.

use super::process::Process;
use super::text::Reason;
use super::{Board, board, wake_launcher};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::shmem::Region;
use crate::pg::{bgworker, clock, exit};
use pgrx::pg_sys::{InvalidOid, Oid};

/// What is known of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// Nobody has looked yet.
    Unknown,
    /// It has the extension, and its maintenance worker looks after it.
    Running,
    /// An attempt to start its maintenance worker failed; the next one follows after a pause.
    Waiting,
    /// Its catalog is of a version that this library does not know.
    Refused,
    /// It does not have the extension.
    Absent,
}

impl DatabaseState {
    /// The name in views; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "starting",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Absent => "absent",
        }
    }
}

/// A database on the board.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Invalid when the entry is free.
    pub oid: Oid,
    /// The catalog has changed since the maintenance worker last read it.
    pub dirty: bool,
    /// Its maintenance worker.
    pub process: Process,
    /// The worker that does its long jobs, one after the other.
    pub jobs: Process,
    /// Whether any job waits to be done.
    pub jobs_wanted: bool,
    /// What is known of it.
    pub state: DatabaseState,
    reason: Reason,
}

impl Entry {
    pub(super) const FREE: Self = Self {
        oid: InvalidOid,
        dirty: false,
        process: Process::STOPPED,
        jobs: Process::STOPPED,
        jobs_wanted: false,
        state: DatabaseState::Unknown,
        reason: Reason::EMPTY,
    };

    /// Whether the entry belongs to no database.
    pub fn is_free(&self) -> bool {
        self.oid == InvalidOid
    }

    /// Gives the entry back.
    pub fn free(&mut self) {
        *self = Self::FREE;
    }

    /// Says what is known of the database, and why where that needs saying.
    pub fn say(&mut self, state: DatabaseState, reason: &str) {
        self.state = state;
        self.reason = Reason::new(reason);
    }

    /// The maintenance worker has ended.
    fn ended(&mut self, now: i64) {
        if self.state == DatabaseState::Absent {
            self.process.left();
        } else {
            self.process.ended(now);
            self.state = DatabaseState::Waiting;
        }
    }
}

/// A database as others see it.
#[derive(Clone, Debug)]
pub struct DatabaseView {
    /// Process of its maintenance worker; 0 when none runs.
    pub pid: i32,
    /// What is known of it.
    pub state: DatabaseState,
    /// Why, where that needs saying.
    pub reason: String,
    /// Failures to start in a row.
    pub attempts: u32,
}

impl DatabaseView {
    /// The database, if it is on the board.
    pub fn of(database: Oid) -> Result<Option<Self>> {
        Ok(board()?.read(|header, _| {
            header.databases.iter().find(|entry| entry.oid == database).map(|entry| Self {
                pid: entry.process.pid,
                state: entry.state,
                reason: entry.reason.as_str().to_owned(),
                attempts: entry.process.attempts,
            })
        }))
    }
}

/// What a worker of a database is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    Maintenance,
    Jobs,
}

impl Entry {
    fn seat(&mut self, seat: Seat) -> &mut Process {
        match seat {
            Seat::Maintenance => &mut self.process,
            Seat::Jobs => &mut self.jobs,
        }
    }

    /// The worker in a seat has ended.
    fn vacate(&mut self, seat: Seat, now: i64) {
        match seat {
            Seat::Maintenance => self.ended(now),
            Seat::Jobs if self.jobs_wanted => self.jobs.ended(now),
            Seat::Jobs => self.jobs.left(),
        }
    }
}

/// Puts this process into a seat of the database at `index`, and out of it when it ends.
fn take_seat(index: i32, seat: Seat) -> Result<(&'static Region<Board>, usize, Oid)> {
    let board = board()?;
    let (me, now) = (bgworker::my_pid(), clock::now());
    let attached = board.write(|header, _| {
        let index = usize::try_from(index).ok()?;
        let database = header.databases.get(index)?.oid;
        let held = header.is_held(database);
        let entry = header.databases.get_mut(index).filter(|entry| !entry.is_free())?;
        let process = entry.seat(seat);
        if held {
            if process.pid == 0 {
                process.left();
            }
            return None;
        }
        process.attach(me, now).then_some((index, database))
    });
    let (index, database) = attached.ok_or_else(|| {
        OdsError::new(ErrorKind::WrongState, "the database needs no worker of this kind")
    })?;
    exit::at_exit(move || {
        let now = clock::now();
        board.write(|header, _| {
            let entry = header.databases.get_mut(index);
            if let Some(entry) = entry
                && entry.seat(seat).pid == me
            {
                entry.vacate(seat, now);
            }
        });
        board.changed().broadcast();
        wake_launcher();
    });
    Ok((board, index, database))
}

/// The entry of a database, held by its maintenance worker.
pub struct MaintenanceEntry {
    board: &'static Region<Board>,
    index: usize,
    database: Oid,
}

impl MaintenanceEntry {
    /// Attaches this process as the maintenance worker of the database at `index`.
    ///
    /// An error means that the process is not wanted: another one is attached, or workers stay out
    /// of the database. To be called before the process connects to it.
    pub fn attach_index(index: i32) -> Result<Self> {
        let (board, index, database) = take_seat(index, Seat::Maintenance)?;
        Ok(Self { board, index, database })
    }

    /// The database.
    pub fn database(&self) -> Oid {
        self.database
    }

    /// Says what is known of the database.
    pub fn say(&self, state: DatabaseState, reason: &str) {
        self.board.write(|header, _| {
            if let Some(entry) = header.databases.get_mut(self.index) {
                entry.say(state, reason);
            }
        });
        wake_launcher();
    }

    /// Says whether any job waits to be done.
    pub fn want_jobs(&self, wanted: bool) {
        self.board.write(|header, _| {
            if let Some(entry) = header.databases.get_mut(self.index) {
                entry.jobs_wanted = wanted;
            }
        });
        wake_launcher();
    }

    /// Whether the catalog has changed since this was last asked.
    pub fn take_dirty(&self) -> bool {
        self.board.write(|header, _| {
            header
                .databases
                .get_mut(self.index)
                .is_some_and(|entry| std::mem::take(&mut entry.dirty))
        })
    }
}

/// The place of a database's jobs worker.
pub struct JobsEntry {
    board: &'static Region<Board>,
    index: usize,
    database: Oid,
}

impl JobsEntry {
    /// Attaches this process as the jobs worker of the database at `index`, as
    /// [`MaintenanceEntry::attach_index`] does for the maintenance worker.
    pub fn attach_index(index: i32) -> Result<Self> {
        let (board, index, database) = take_seat(index, Seat::Jobs)?;
        Ok(Self { board, index, database })
    }

    /// The database.
    pub fn database(&self) -> Oid {
        self.database
    }

    /// Says that no job is left.
    pub fn done(&self) {
        self.board.write(|header, _| {
            if let Some(entry) = header.databases.get_mut(self.index) {
                entry.jobs_wanted = false;
            }
        });
    }
}
