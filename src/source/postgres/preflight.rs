//! What a source must offer before its tables can be followed, each with the statement that mends it.
//!
//! [`ask`] reads the facts, [`judge`] is pure.

mod judge;

pub use judge::{judge, replication_fix};

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use std::time::{SystemTime, UNIX_EPOCH};

/// Oldest major that sends what we need.
pub const OLDEST_MAJOR: i32 = 12;
/// Newest major that was looked at.
pub const NEWEST_MAJOR: i32 = 18;

/// What the source says about itself and about our role there.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// Whether it replays somebody else's WAL.
    pub is_standby: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_replication_slots`.
    pub max_slots: i64,
    /// Slots that exist.
    pub used_slots: i64,
    /// Whether one of them is this server's.
    pub has_slot: bool,
    /// `max_wal_senders`.
    pub max_senders: i64,
    /// Walsenders that run.
    pub used_senders: i64,
    /// Whether one of them serves this server.
    pub has_sender: bool,
    /// `max_slot_wal_keep_size` in MB, -1 for no limit; none on 12.
    pub slot_keep_mb: Option<i64>,
    /// `wal_sender_timeout` in milliseconds, 0 for never.
    pub sender_timeout_ms: i64,
    /// `server_encoding`.
    pub encoding: String,
    /// The database we are connected to.
    pub database: String,
    /// The role we are there.
    pub role: String,
    /// Whether the role has REPLICATION or is a superuser.
    pub has_replication: bool,
    /// Whether the role may write a message into the WAL, which loads do.
    pub may_emit: bool,
    /// Whether the role may create a publication.
    pub may_publish: bool,
    /// The publication that the server names.
    pub publication: NamedPublication,
    /// Source's clock minus ours.
    pub skew: Skew,
}

/// A publication that a person keeps for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedPublication {
    /// The server names none: `ods` makes its own.
    None,
    /// It names this one, which is not there.
    Missing(String),
    /// It names this one.
    Found(Publication),
}

/// What a publication sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// Whether inserts, updates, deletes and truncates are all sent.
    pub sends_all: bool,
    /// Whether changes of leaves are sent as their root's (13+).
    pub via_root: bool,
    /// Tables of which it sends some rows or columns only (15+).
    pub partial_tables: Vec<String>,
}

/// How far two clocks are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Source minus here, in microseconds.
    pub micros: i64,
    /// Half the round trip: the truth is within this of `micros`.
    pub uncertainty_micros: i64,
}

const FACTS: &str = "
SELECT pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('wal_level'),
    pg_catalog.current_setting('max_replication_slots'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
    pg_catalog.current_setting('max_wal_senders'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
    pg_catalog.current_setting('server_encoding'),
    pg_catalog.current_database(),
    r.rolname,
    r.rolsuper OR r.rolreplication,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
    EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1),
    EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1 AND s.active),
    (SELECT pg_catalog.bool_and(pg_catalog.has_function_privilege(p.oid, 'EXECUTE')) FROM pg_catalog.pg_proc p
      WHERE p.proname = 'pg_logical_emit_message' AND p.proargtypes[2] = 'pg_catalog.text'::pg_catalog.regtype AND p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Reads the facts over a control session. `publication` is the one that the server names or has,
/// `slot` the one that it has.
pub fn ask(
    connection: &mut Connection,
    publication: Option<&str>,
    slot: Option<&str>,
    deadline: Deadline,
) -> Result<Facts> {
    let skew = measure_skew(connection, deadline)?;
    let version = connection.server_version();
    let publication = match publication {
        Some(name) => find_publication(connection, name, deadline)?,
        None => NamedPublication::None,
    };
    let rows = connection.query(FACTS, &[slot], deadline)?;
    let text = |column: usize| rows.parse::<String>(0, column);
    Ok(Facts {
        version,
        is_standby: text(0)? == "t",
        wal_level: text(1)?,
        max_slots: rows.parse(0, 2)?,
        used_slots: rows.parse(0, 3)?,
        has_slot: text(13)? == "t",
        max_senders: rows.parse(0, 4)?,
        used_senders: rows.parse(0, 5)?,
        has_sender: text(14)? == "t",
        slot_keep_mb: rows.get(0, 6).and_then(|setting| setting.parse().ok()),
        sender_timeout_ms: rows.parse(0, 7)?,
        encoding: text(8)?,
        database: text(9)?,
        role: text(10)?,
        has_replication: text(11)? == "t",
        may_emit: text(15)? == "t",
        may_publish: text(12)? == "t",
        publication,
        skew,
    })
}

/// to_jsonb reads columns that older versions don't have.
const PUBLICATION: &str = "
SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
    coalesce((pg_catalog.to_jsonb(p) ->> 'pubviaroot')::boolean, false),
    (SELECT coalesce(pg_catalog.json_agg(r.prrelid::pg_catalog.regclass::text ORDER BY r.prrelid), '[]')
     FROM pg_catalog.pg_publication_rel r
     WHERE r.prpubid = p.oid
       AND (pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL OR pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL))
FROM pg_catalog.pg_publication p WHERE p.pubname = $1";

fn find_publication(
    connection: &mut Connection,
    name: &str,
    deadline: Deadline,
) -> Result<NamedPublication> {
    let rows = connection.query(PUBLICATION, &[Some(name)], deadline)?;
    if rows.is_empty() {
        return Ok(NamedPublication::Missing(name.to_owned()));
    }
    let partial_tables = serde_json::from_str(rows.get(0, 2).unwrap_or("[]")).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes a publication in an unknown way")
            .detail(error.to_string())
    })?;
    Ok(NamedPublication::Found(Publication {
        name: name.to_owned(),
        sends_all: rows.get(0, 0) == Some("t"),
        via_root: rows.get(0, 1) == Some("t"),
        partial_tables,
    }))
}

/// Of a few questions the quickest answer is the most exact.
const SKEW_TRIES: usize = 3;

fn measure_skew(connection: &mut Connection, deadline: Deadline) -> Result<Skew> {
    const CLOCK: &str =
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
    let mut best: Option<Skew> = None;
    for _ in 0..SKEW_TRIES {
        let asked = micros_now();
        let rows = connection.query(CLOCK, &[], deadline)?;
        let skew = skew_of(asked, micros_now(), rows.parse(0, 0)?);
        if best.is_none_or(|best| skew.uncertainty_micros < best.uncertainty_micros) {
            best = Some(skew);
        }
    }
    Ok(best.unwrap_or_default())
}

/// The source read its clock somewhere between question and answer.
fn skew_of(asked: i64, answered: i64, source: i64) -> Skew {
    let half = answered.saturating_sub(asked).max(0) / 2;
    Skew { micros: source.saturating_sub(asked.saturating_add(half)), uncertainty_micros: half }
}

fn micros_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
