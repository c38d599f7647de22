//! `ods.seek`: another place in its topics for a table to go on from.

use crate::api::lookup;
use crate::catalog::table::{self, SyncedTable, TableState, execute, set_state, spi_error};
use crate::catalog::topics::{self, Partition, Place};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::owner;
use crate::pg::wait::Deadline;
use crate::source::kafka::access::KafkaAccess;
use crate::source::kafka::client::{Client, Topic};
use crate::source::kafka::start::{Start, time};
use crate::source::server;
use crate::worker::board;
use pgrx::PgRelation;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use std::time::Duration;

/// A person waits for the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has a table go on at another place of its topics: `earliest`, `latest`, a time, or offsets by
/// partition. Records between are applied again over the rows that are here, or never; the answer tells
/// how many offsets that is in each partition.
#[pg_extern(volatile, parallel_unsafe)]
#[expect(clippy::type_complexity, reason = "the columns of a SQL function")]
fn seek(
    relation: PgRelation,
    start: &str,
) -> std::result::Result<
    TableIterator<
        'static,
        (
            name!(topic, String),
            name!(partition_number, i32),
            name!(old_offset, Option<i64>),
            name!(new_offset, i64),
            name!(means, String),
        ),
    >,
    ErrorReport,
> {
    let id = lookup::owned_table(&relation)?;
    let name = relation.name().to_owned();
    drop(relation);
    let moved = owner::as_extension_owner(|| table::by_id(id))?
        .ok_or_else(|| OdsError::new(ErrorKind::NotFound, format!("{name} is not a synced table")))
        .and_then(|synced| {
            let source = topics_of(&synced)?;
            let start = Start::parse(start, source, time)?;
            move_to(&synced, &start)
        })?;
    board::wake_at_commit();
    Ok(TableIterator::new(moved.into_iter().map(|(partition, old, new)| {
        let means = match old {
            Some(old) if new < old => format!("{} offsets are read again", old - new),
            Some(old) if new > old => format!("{} offsets are never read", new - old),
            Some(_) => "it goes on".to_owned(),
            None => "it is read from here on".to_owned(),
        };
        (partition.topic, partition.number, old, new, means)
    })))
}

/// The topics of a table that has any.
fn topics_of(synced: &SyncedTable) -> Result<&[String]> {
    match &synced.topics {
        Some(source) => Ok(&source.topics),
        None => Err(OdsError::new(
            ErrorKind::WrongState,
            format!("synced table {} follows no topic", synced.display()),
        )
        .hint(format!(
            "SELECT ods.resync({});  -- reads it anew",
            pgrx::spi::quote_literal(synced.display())
        ))),
    }
}

/// A partition, the offset that it stood at and the one that it stands at now.
type Moved = (Partition, Option<i64>, i64);

/// Has a table go on at another place; where it stood, and stands now. The workers are yet to be woken.
pub fn move_to(synced: &SyncedTable, start: &Start) -> Result<Vec<Moved>> {
    let names = topics_of(synced)?.to_vec();
    let server = owner::as_extension_owner(|| {
        Spi::get_one_with_args::<String>(
            "SELECT s.server_name::text FROM ods.stream s JOIN ods.synced_table t USING (stream_id) WHERE t.table_id = $1",
            &[synced.id.into()],
        )
        .map_err(spi_error)
    })?;
    let server =
        server.ok_or_else(|| OdsError::new(ErrorKind::NotFound, "the table's server is gone"))?;
    let deadline = Deadline::after(PATIENCE);
    // Whoever owns the table may not have its server; its topics were chosen by who had.
    let (server, _) = server::find(&server)?;
    let owner = server.owner;
    let access = KafkaAccess::with_mapping_of(server, owner)?;
    let client = Client::open(access)?;
    let found: Vec<Topic> = names
        .iter()
        .map(|name| crate::source::kafka::peek::find(&client, client.server(), name, deadline))
        .collect::<Result<_>>()?;
    let places = start.places(&client, &found, deadline)?;
    drop(client);
    owner::as_extension_owner(|| {
        table::state_for_update(synced.id)?;
        let old = topics::places(synced.id)?;
        execute("DELETE FROM ods.partition_position WHERE table_id = $1", &[synced.id.into()])?;
        for (partition, place) in &places {
            let known = old.get(partition);
            let read = known.map(|place| place.next.max(place.replays_to.unwrap_or(0)));
            let replays_to = read.filter(|read| place.next < *read);
            topics::begin(synced.id, partition, &Place { replays_to, ..place.clone() })?;
        }
        begin_reading(synced.id, "reading its topics from where ods.seek has set it")?;
        Ok(places
            .into_iter()
            .map(|(partition, Place { next, .. })| {
                let old = old.get(&partition).map(|place| place.next);
                (partition, old, next)
            })
            .collect())
    })
}

/// Has a table go on where it stands in its topics, and count as being loaded until it has caught up.
pub fn go_on(table_id: i32) -> Result<()> {
    execute(
        "UPDATE ods.partition_position SET loads_to = NULL WHERE table_id = $1",
        &[table_id.into()],
    )?;
    begin_reading(table_id, "catching up with its topics")
}

fn begin_reading(table_id: i32, reason: &str) -> Result<()> {
    execute(
        "UPDATE ods.table_state SET load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
        &[table_id.into()],
    )?;
    set_state(table_id, TableState::Loading, Some(reason), None)
}

/// Has a table read its topics anew from their beginning, over the rows that are here.
pub fn replay(synced: &SyncedTable) -> Result<()> {
    move_to(synced, &Start::Earliest).map(drop)
}
