//! Background workers: the launcher, one maintenance worker a database, one stream worker a stream, and
//! for as long as there are jobs, one jobs worker a database.
//!
//! The launcher alone starts workers, and restarts them with growing pauses. What is to run stands
//! in the catalog of each database, which its maintenance worker copies to the board.

pub mod backoff;
pub mod board;
mod enums;
mod jobs;
mod kafka;
mod launcher;
mod maintenance;
mod publication;
mod reshape;
mod schedule;
mod session;
mod stream;
mod unflushed;
pub mod warnings;

use crate::pg::bgworker::Worker;
use std::time::Duration;

/// `backend_type` of the launcher in `pg_stat_activity`.
pub const LAUNCHER: &str = "ods launcher";
/// `backend_type` of maintenance workers.
pub const MAINTENANCE: &str = "ods maintenance";
/// `backend_type` of jobs workers, which come when a job waits and go when none is left.
pub const JOBS: &str = "ods jobs";
/// `backend_type` of stream workers.
pub const STREAM: &str = "ods stream";

/// Asks for the board and registers the launcher; called once, from `_PG_init`.
pub fn install() {
    board::install();
    Worker { kind: LAUNCHER, name: LAUNCHER, function: "ods_launcher_main", argument: 0 }
        .register_static(Duration::from_secs(1));
}
