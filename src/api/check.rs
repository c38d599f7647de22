//! `ods.check_server`: what a source must offer, and what to do about what it doesn't.

use crate::pg::foreign;
use crate::pg::wait::Deadline;
use crate::source::check::Status;
use crate::source::server::{self, Kind};
use crate::source::{kafka, postgres};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{default, name, pg_extern};
use std::time::Duration;

/// A person waits for the answer; a source that needs longer is not well.
const PATIENCE: Duration = Duration::from_secs(30);

/// Each prerequisite of `server`, and of `tables` (topics of a Kafka server) at it, met or not, with the statement that mends it.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn check_server(
    server: &str,
    tables: default!(Option<Vec<Option<String>>>, "NULL"),
) -> Result<
    TableIterator<
        'static,
        (
            name!(check_name, String),
            name!(status, &'static str),
            name!(met, bool),
            name!(detail, String),
            name!(fix, Option<String>),
        ),
    >,
    ErrorReport,
> {
    let tables: Vec<String> = tables.into_iter().flatten().flatten().collect();
    let (user, deadline) = (foreign::current_user(), Deadline::after(PATIENCE));
    let checks = match server::for_caller(server)? {
        (server, Kind::Postgres) => postgres::checkup::check_up(server, user, &tables, deadline)?,
        (server, Kind::Kafka) => kafka::checkup::check_up(server, user, &tables, deadline)?,
    };
    Ok(TableIterator::new(checks.into_iter().map(|check| {
        let met = check.status != Status::Failed;
        (check.name, check.status.word(), met, check.detail, check.fix)
    })))
}
