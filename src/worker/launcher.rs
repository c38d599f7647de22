//! The launcher: starts every other worker, and again when one has ended.

use super::board::{self, Board, DatabaseState, StreamState};
use super::schedule::{self, Order};
use super::{JOBS, LAUNCHER, MAINTENANCE, STREAM, warnings};
use crate::error::{ErrorKind, OdsError};
use crate::pg::bgworker::{self, NoFreeSlot, Worker};
use crate::pg::shmem::Region;
use crate::pg::{clock, database, guc, latch, xact};
use pgrx::prelude::*;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A database can come without a word to us, as a copy of a template does.
const LOOK_AROUND_EVERY: Duration = Duration::from_secs(60);

/// The pause after an error of the launcher's own.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Main function of the launcher.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn ods_launcher_main(_argument: pg_sys::Datum) {
    bgworker::prepare_worker(None, LAUNCHER);
    let Ok(board) = board::board() else { return };
    while !board::attach_launcher().unwrap_or(false) {
        latch::wait(Some(AFTER_ERROR));
    }
    let mut launcher = Launcher::new(board);
    loop {
        let pause = xact::catch(|| launcher.pass()).unwrap_or_else(|error| {
            warnings::tell(error.context(LAUNCHER));
            AFTER_ERROR
        });
        latch::wait(Some(pause));
    }
}

struct Launcher {
    board: &'static Region<Board>,
    /// Databases that accept connections.
    databases: Vec<pg_sys::Oid>,
    /// Those of them that are known to lack the extension.
    absent: HashSet<pg_sys::Oid>,
    looked_around: Option<Instant>,
}

impl Launcher {
    fn new(board: &'static Region<Board>) -> Self {
        Self { board, databases: Vec::new(), absent: HashSet::new(), looked_around: None }
    }

    /// Does what is to be done now, and returns for how long nothing will be.
    fn pass(&mut self) -> crate::error::Result<Duration> {
        board::release_abandoned(self.board);
        let now = clock::now();
        let is_asked = self.board.write(|header, _| std::mem::take(&mut header.look_around));
        let is_time = self.looked_around.is_none_or(|at| at.elapsed() >= LOOK_AROUND_EVERY);
        let is_due =
            self.board.read(|header, streams| schedule::is_anything_due(header, streams, now));
        if is_asked || is_time || is_due {
            // A request that could not be met stands.
            self.databases = database::connectable().inspect_err(|_| {
                self.board.write(|header, _| header.look_around |= is_asked);
            })?;
        }
        if is_asked || is_time {
            self.look_around();
        }
        let plan = self.board.write(|header, streams| {
            schedule::plan(header, streams, &self.databases, clock::now())
        });
        self.absent.extend(&plan.absent);
        self.carry_out(&plan.orders);
        let until_decision = plan
            .look_again_at
            .map(|at| Duration::from_micros(u64::try_from(at - clock::now()).unwrap_or_default()));
        Ok(until_decision.unwrap_or(LOOK_AROUND_EVERY).min(LOOK_AROUND_EVERY))
    }

    /// Puts databases on the board that nobody has looked into yet.
    fn look_around(&mut self) {
        self.looked_around = Some(Instant::now());
        self.absent.retain(|oid| self.databases.contains(oid));
        let unknown: Vec<_> =
            self.databases.iter().filter(|oid| !self.absent.contains(oid)).copied().collect();
        self.board.write(|header, _| {
            // Where the board has no room, the next look around comes to the rest.
            for oid in unknown {
                header.database_or_new(oid);
            }
        });
    }

    fn carry_out(&mut self, orders: &[Order]) {
        for order in orders {
            match *order {
                Order::Terminate(pid) => bgworker::terminate(pid),
                Order::StartMaintenance { index, database } => {
                    self.absent.remove(&database);
                    let name = format!("{MAINTENANCE} {}", database.to_u32());
                    if start(MAINTENANCE, &name, "ods_maintenance_main", index).is_err() {
                        self.no_slot_for_maintenance(index);
                    }
                }
                Order::StartJobs { index, database } => {
                    let name = format!("{JOBS} {}", database.to_u32());
                    if start(JOBS, &name, "ods_jobs_main", index).is_err() {
                        self.no_slot_for_jobs(index);
                    }
                }
                Order::StartStream { index, database, stream_id } => {
                    let name = format!("{STREAM} {}/{stream_id}", database.to_u32());
                    if start(STREAM, &name, "ods_stream_main", index).is_err() {
                        self.no_slot_for_stream(index);
                    }
                }
            }
        }
    }

    fn no_slot_for_maintenance(&mut self, index: usize) {
        let now = clock::now();
        self.board.write(|header, _| {
            if let Some(entry) = header.databases.get_mut(index) {
                entry.process.ended(now);
                entry.say(DatabaseState::Waiting, &no_slot().told());
            }
        });
        warn_no_slot();
    }

    fn no_slot_for_jobs(&mut self, index: usize) {
        let now = clock::now();
        self.board.write(|header, _| {
            if let Some(entry) = header.databases.get_mut(index) {
                entry.jobs.ended(now);
            }
        });
        warn_no_slot();
    }

    fn no_slot_for_stream(&mut self, index: usize) {
        let now = clock::now();
        self.board.write(|_, streams| {
            if let Some(entry) = streams.get_mut(index) {
                entry.process.ended(now);
                entry.say(StreamState::Waiting, &no_slot().told(), now);
            }
        });
        warn_no_slot();
    }
}

fn start(kind: &str, name: &str, function: &str, index: usize) -> Result<(), NoFreeSlot> {
    let argument = i32::try_from(index).map_err(|_| NoFreeSlot)?;
    Worker { kind, name, function, argument }.start()
}

fn warn_no_slot() {
    warnings::tell(no_slot().context("workers of ods wait"));
}

fn no_slot() -> OdsError {
    let most = guc::max_worker_processes();
    OdsError::new(
        ErrorKind::Limit,
        format!("no free background worker, max_worker_processes is {most}"),
    )
    .hint(format!(
        "ALTER SYSTEM SET max_worker_processes = {}; -- then restart the server",
        most.saturating_add(8)
    ))
}
