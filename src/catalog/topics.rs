//! Topics that feed synced tables, and where each table stands in their partitions.

use super::table::{execute, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use pgrx::prelude::*;
use pgrx::spi::OwnedPreparedStatement;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub number: i32,
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.topic, self.number)
    }
}

/// Where the records of a synced table come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSource {
    /// The topics, each once.
    pub topics: Vec<String>,
    /// How records are read and which concern the table, as `source::kafka::format` writes it.
    pub format: String,
    /// The connector that writes the records, once one has told.
    pub connector: Option<String>,
}

/// Where a table stands in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The offset to go on with.
    pub next: i64,
    /// The table is loading until it has come here.
    pub loads_to: Option<i64>,
    /// Records before this offset have been read before.
    pub replays_to: Option<i64>,
    /// The record that was read last.
    pub last: Option<Last>,
    /// Where the partition ended when that was last heard.
    pub end: Option<i64>,
}

/// A record that was read, by what tells it from another one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Its offset.
    pub offset: i64,
    /// Made of its time, its key and its length.
    pub mark: i64,
}

/// Where a table stands in a partition behind a commit.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The table.
    pub table: i32,
    /// The partition.
    pub partition: Partition,
    /// The offset that the catalog has it go on with.
    pub stored: i64,
    /// Where it stands now.
    pub place: Place,
}

/// Takes note of where a new table's records come from.
pub fn add(table_id: i32, source: &TopicSource) -> Result<()> {
    execute(
        "INSERT INTO ods.topic_source (table_id, topics, format, connector) VALUES ($1, $2, $3::pg_catalog.jsonb, $4)",
        &[
            table_id.into(),
            source.topics.clone().into(),
            source.format.as_str().into(),
            source.connector.as_deref().into(),
        ],
    )?;
    Ok(())
}

/// Where the records of a table come from; none for a table that is fed otherwise.
pub fn of_table(table_id: i32) -> Result<Option<TopicSource>> {
    Spi::connect(|client| {
        let mut rows = client
            .select(
                "SELECT topics, format::pg_catalog.text, connector FROM ods.topic_source WHERE table_id = $1",
                Some(1),
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let Some(row) = rows.next() else { return Ok(None) };
        let missing = || OdsError::new(ErrorKind::Bug, "a row of ods.topic_source is incomplete");
        Ok(Some(TopicSource {
            topics: row.get(1).ok().flatten().ok_or_else(missing)?,
            format: row.get(2).ok().flatten().ok_or_else(missing)?,
            connector: row.get(3).ok().flatten(),
        }))
    })
}

/// Takes note of the connector that writes a table's records.
pub fn set_connector(table_id: i32, connector: &str) -> Result<()> {
    execute(
        "UPDATE ods.topic_source SET connector = $2 WHERE table_id = $1 AND connector IS DISTINCT FROM $2",
        &[table_id.into(), connector.into()],
    )?;
    Ok(())
}

/// Has a table begin in a partition.
pub fn begin(table_id: i32, partition: &Partition, place: &Place) -> Result<()> {
    execute(
        "INSERT INTO ods.partition_position (table_id, topic, partition_number, next_offset, loads_to, end_offset, replays_to) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) \
         ON CONFLICT (table_id, topic, partition_number) DO UPDATE SET next_offset = excluded.next_offset, \
             loads_to = excluded.loads_to, replays_to = excluded.replays_to, last_offset = NULL, last_mark = NULL, end_offset = excluded.end_offset",
        &[
            table_id.into(),
            partition.topic.as_str().into(),
            partition.number.into(),
            place.next.into(),
            place.loads_to.into(),
            place.end.into(),
            place.replays_to.into(),
        ],
    )?;
    Ok(())
}

/// Where a table stands in each of its partitions.
pub fn places(table_id: i32) -> Result<BTreeMap<Partition, Place>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT topic, partition_number, next_offset, loads_to, last_offset, last_mark, end_offset, replays_to \
                 FROM ods.partition_position WHERE table_id = $1",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let missing =
            || OdsError::new(ErrorKind::Bug, "a row of ods.partition_position is incomplete");
        rows.map(|row| {
            let number = |column| row.get::<i64>(column).ok().flatten();
            Ok((
                Partition {
                    topic: row.get(1).ok().flatten().ok_or_else(missing)?,
                    number: row.get(2).ok().flatten().ok_or_else(missing)?,
                },
                Place {
                    next: number(3).ok_or_else(missing)?,
                    loads_to: number(4),
                    last: number(5).zip(number(6)).map(|(offset, mark)| Last { offset, mark }),
                    end: number(7),
                    replays_to: number(8),
                },
            ))
        })
        .collect()
    })
}

/// Stores where tables stand; part of the transaction that holds the rows up to there. How many of the
/// places were stored: one that a person has changed meanwhile stays as they want it.
pub fn advance(reached: &[&Reached]) -> Result<usize> {
    thread_local! {
        /// Runs with every commit, so that it is planned once.
        static ADVANCE: RefCell<Option<OwnedPreparedStatement>> = const { RefCell::new(None) };
    }
    if reached.is_empty() {
        return Ok(0);
    }
    let tables: Vec<i32> = reached.iter().map(|r| r.table).collect();
    let topics: Vec<&str> = reached.iter().map(|r| r.partition.topic.as_str()).collect();
    let numbers: Vec<i32> = reached.iter().map(|r| r.partition.number).collect();
    let column = |of: fn(&Place) -> Option<i64>| -> Vec<Option<i64>> {
        reached.iter().map(|r| of(&r.place)).collect()
    };
    Spi::connect_mut(|client| {
        ADVANCE.with_borrow_mut(|kept| {
            if kept.is_none() {
                let eights = PgOid::BuiltIn(PgBuiltInOids::INT8ARRAYOID);
                let statement = client
                    .prepare_mut(
                        "UPDATE ods.partition_position p SET next_offset = n.next, loads_to = n.loads_to, \
                                last_offset = n.last_offset, last_mark = n.last_mark, end_offset = n.end_offset \
                         FROM ROWS FROM (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), \
                              pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9)) \
                              AS n (table_id, topic, number, next, loads_to, last_offset, last_mark, end_offset, stored) \
                         WHERE p.table_id = n.table_id AND p.topic = n.topic AND p.partition_number = n.number \
                           AND p.next_offset = n.stored RETURNING 1",
                        &[
                            PgOid::BuiltIn(PgBuiltInOids::INT4ARRAYOID),
                            PgOid::BuiltIn(PgBuiltInOids::TEXTARRAYOID),
                            PgOid::BuiltIn(PgBuiltInOids::INT4ARRAYOID),
                            eights,
                            eights,
                            eights,
                            eights,
                            eights,
                            eights,
                        ],
                    )
                    .map_err(spi_error)?;
                *kept = Some(statement.keep());
            }
            let Some(statement) = kept.as_ref() else { return Ok(0) };
            let stored: Vec<i64> = reached.iter().map(|r| r.stored).collect();
            client
                .update(
                    statement,
                    None,
                    &[
                        tables.into(),
                        topics.into(),
                        numbers.into(),
                        column(|place| Some(place.next)).into(),
                        column(|place| place.loads_to).into(),
                        column(|place| place.last.map(|last| last.offset)).into(),
                        column(|place| place.last.map(|last| last.mark)).into(),
                        column(|place| place.end).into(),
                        stored.into(),
                    ],
                )
                .map(|rows| rows.len())
                .map_err(spi_error)
        })
    })
}

/// Stores up to when everything that a connector has read of its source is here, in microseconds since
/// 2000-01-01; it only ever moves forward.
pub fn prove(stream_id: i32, connector: &str, fresh_as_of: i64) -> Result<()> {
    execute(
        "INSERT INTO ods.connector_position (stream_id, connector, fresh_as_of) VALUES ($1, $2, $3) \
         ON CONFLICT (stream_id, connector) DO UPDATE SET fresh_as_of = excluded.fresh_as_of \
         WHERE connector_position.fresh_as_of IS NULL OR connector_position.fresh_as_of < excluded.fresh_as_of",
        &[
            stream_id.into(),
            connector.into(),
            TimestampWithTimeZone::try_from(fresh_as_of).ok().into(),
        ],
    )?;
    Ok(())
}
