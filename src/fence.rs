//! A copy never touches the sources.
//!
//! The catalog keeps the identity of the database that it was written for. Found anywhere else, in
//! a restored dump, a database made from a template, a promoted standby, it stands fenced: no
//! connection to any source, rows may be restored, and [`adopt`] begins anew. A copy made file by
//! file can't be told from the original here; the check of the slot at connect is its guard.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::identity::{self, Identity};
use crate::pg::role::ActAs;
use crate::pg::{extension, scan};
use crate::settings;
use crate::worker::board;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, Spi};
use std::cmp::Ordering;

/// The version of the catalog tables that this library reads and writes. A worker leaves a catalog
/// of another version alone; `ods.catalog_version()` tells which it is.
const CATALOG_VERSION: i32 = 1;

/// Whether this database is the one its catalog was written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// No identity is recorded: there is no stream yet, or a restore is under way.
    NoIdentity,
    /// This is the database that the catalog was written for.
    Ours,
    /// It is a copy, or a promoted standby.
    Foreign {
        /// How that is known, for the person who reads `ods.sync_status`.
        reason: String,
    },
}

/// What a promotion means for the streams of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// A promoted standby stands fenced: its primary may still be alive and streaming.
    Fences,
    /// A promoted standby takes the streams over.
    TakesOver,
}

impl Promotion {
    /// What the setting `ods.takeover_on_promotion` says.
    fn setting() -> Self {
        if settings::takeover_on_promotion() { Self::TakesOver } else { Self::Fences }
    }
}

/// The row of `ods.identity`.
fn recorded() -> Option<Identity> {
    let columns = [c"system_identifier", c"database_oid", c"timeline"];
    let rows = scan::rows(extension::table(c"identity")?, columns, |[system, oid, timeline]| {
        Some(Identity {
            system_identifier: system.text()?,
            database: oid.oid()?,
            timeline: timeline.integer()?.cast_unsigned(),
        })
    });
    rows.into_iter().next()
}

/// Compares the identity recorded with the one found here.
fn judge(recorded: Option<&Identity>, here: &Identity, promotion: Promotion) -> Fence {
    let Some(recorded) = recorded else { return Fence::NoIdentity };
    let reason = if recorded.system_identifier != here.system_identifier {
        format!(
            "the catalog was written in the cluster with system identifier {}, this is {}",
            recorded.system_identifier, here.system_identifier
        )
    } else if recorded.database != here.database {
        format!(
            "the catalog was written in the database with oid {}, this is {}",
            recorded.database.to_u32(),
            here.database.to_u32()
        )
    } else if recorded.timeline == here.timeline
        || (recorded.timeline < here.timeline && promotion == Promotion::TakesOver)
    {
        return Fence::Ours;
    } else {
        format!(
            "the catalog was written on timeline {}, this is timeline {}",
            recorded.timeline, here.timeline
        )
    };
    Fence::Foreign { reason }
}

/// Whether this database may connect to its sources. Only [`Fence::Ours`] may.
pub fn status() -> Fence {
    judge(recorded().as_ref(), &identity::current(), Promotion::setting())
}

/// What is to be told where the catalog tables are not of the version that this library knows.
pub fn foreign_version() -> Result<Option<OdsError>> {
    if extension::table(c"identity").is_none() {
        return Ok(None);
    }
    let version = Spi::get_one::<i32>("SELECT ods.catalog_version()")
        .map_err(|error| bug(&error))?
        .unwrap_or_default();
    let hint = match version.cmp(&CATALOG_VERSION) {
        Ordering::Equal => return Ok(None),
        Ordering::Less => "ALTER EXTENSION ods UPDATE;",
        Ordering::Greater => "Install the release of ods that made it, then restart this server.",
    };
    let message =
        format!("the catalog has version {version}, this library knows {CATALOG_VERSION}");
    Ok(Some(OdsError::new(ErrorKind::WrongState, message).hint(hint)))
}

/// Whether rows may be inserted into synced tables by anyone: the database does not stream, and a
/// restore may be filling it.
pub fn lets_rows_in() -> bool {
    status() != Fence::Ours
}

/// Records the identity of this database, in the caller's transaction, unless one is recorded.
/// To be called where a stream is made.
pub fn record() -> Result<()> {
    write_identity("ON CONFLICT (only_row) DO NOTHING")
}

/// [`status`], after moving the record on to the timeline of a promotion that takes over. For the
/// workers, in their own transaction, before they connect anywhere.
pub fn confirm() -> Result<Fence> {
    let status = status();
    let here = identity::current();
    if status == Fence::Ours
        && recorded().is_some_and(|recorded| recorded.timeline != here.timeline)
    {
        replace()?;
    }
    Ok(status)
}

/// Records the identity of this database over whatever is recorded.
fn replace() -> Result<()> {
    write_identity(
        "ON CONFLICT (only_row) DO UPDATE SET system_identifier = EXCLUDED.system_identifier, \
         database_oid = EXCLUDED.database_oid, timeline = EXCLUDED.timeline",
    )
}

fn write_identity(on_conflict: &str) -> Result<()> {
    let Some(catalog) = extension::table(c"identity") else {
        return Err(OdsError::new(ErrorKind::NotFound, "extension \"ods\" is not installed here")
            .hint("CREATE EXTENSION ods;"));
    };
    let here = identity::current();
    let _owner = ActAs::owner_of(catalog);
    Spi::run_with_args(
        &format!(
            "INSERT INTO ods.identity (system_identifier, database_oid, timeline) \
             VALUES ($1, $2, $3) {on_conflict}"
        ),
        &[here.system_identifier.into(), here.database.into(), here.timeline.cast_signed().into()],
    )
    .map_err(|error| bug(&error))
}

fn bug(error: &pgrx::spi::SpiError) -> OdsError {
    OdsError::new(ErrorKind::Bug, error.to_string())
}

/// Makes this database the one that its catalog was written for, with streams of its own: new
/// slots, positions forgotten, every table that isn't paused to be reconciled with its source.
/// Returns how many tables those are.
///
/// The slots recorded so far belong to the original and are left alone; a NOTICE names each.
///
/// # Errors
/// If this database is not fenced: adopting would abandon slots that are in use.
pub fn adopt() -> Result<i64> {
    let Some(catalog) = extension::table(c"identity") else {
        return Err(OdsError::new(ErrorKind::NotFound, "extension \"ods\" is not installed here")
            .hint("CREATE EXTENSION ods;"));
    };
    let _owner = ActAs::owner_of(catalog);
    // One adoption at a time; a second one then finds the database its own.
    Spi::run("LOCK TABLE ods.identity IN SHARE ROW EXCLUSIVE MODE").map_err(|error| bug(&error))?;
    if status() == Fence::Ours {
        return Err(OdsError::new(ErrorKind::WrongState, "this database is not fenced")
            .detail("Its streams are its own already."));
    }
    let old_slots = slots().map_err(|error| bug(&error))?;
    replace()?;
    let tables = Spi::connect_mut(|client| {
        for statement in BEGIN_ANEW {
            client.update(*statement, None, &[])?;
        }
        Ok(client.update(RELOAD, None, &[])?.len())
    })
    .map_err(|error: pgrx::spi::SpiError| bug(&error))?;
    for (server, slot) in old_slots {
        ErrorReport::new(
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("replication slot \"{slot}\" of server \"{server}\" stays with the original"),
            "ods",
        )
        .set_hint(format!(
            "If the original is gone, run at the source: SELECT pg_drop_replication_slot('{}');",
            slot.replace('\'', "''")
        ))
        .report(PgLogLevel::NOTICE);
    }
    board::wake_at_commit();
    i64::try_from(tables).map_err(|_| OdsError::new(ErrorKind::Bug, "too many tables"))
}

/// The replication slots recorded, as `(server, slot)`.
fn slots() -> std::result::Result<Vec<(String, String)>, pgrx::spi::SpiError> {
    Spi::connect(|client| {
        let rows = client.select(
            "SELECT server_name::pg_catalog.text, stream_name FROM ods.stream ORDER BY 1, 2",
            None,
            &[],
        )?;
        let mut slots = Vec::new();
        for row in rows {
            if let (Some(server), Some(slot)) = (row.get(1)?, row.get(2)?) {
                slots.push((server, slot));
            }
        }
        Ok(slots)
    })
}

/// Forgets all that ties the streams to the original. A slot and the publication made for it share
/// a name with 64 random bits; a publication that somebody else made keeps its own.
const BEGIN_ANEW: &[&str] = &[
    "UPDATE ods.stream s SET stream_name = n.name, \
     publication_name = CASE WHEN s.publication_made_by_ods THEN n.name ELSE s.publication_name END \
     FROM (SELECT stream_id, 'ods_' || pg_catalog.left(pg_catalog.encode(pg_catalog.sha256(\
     pg_catalog.uuid_send(pg_catalog.gen_random_uuid())), 'hex'), 16) AS name \
     FROM ods.stream) n WHERE n.stream_id OPERATOR(pg_catalog.=) s.stream_id",
    "UPDATE ods.stream_position SET position = NULL, source_system_identifier = NULL, \
     source_timeline = NULL, source_database = NULL",
    "UPDATE ods.source_member SET state = 'loading', last_key = NULL, rows_done = 0",
    "DELETE FROM ods.reread",
];

const RELOAD: &str = "UPDATE ods.table_state SET state = 'loading', reason = NULL, fix = NULL, \
     since = pg_catalog.clock_timestamp(), sweep = 'due', sweep_key = NULL, load_started_at = NULL \
     WHERE state OPERATOR(pg_catalog.<>) 'paused'";

#[cfg(test)]
mod tests {
    use super::*;
    use pgrx::pg_sys::Oid;

    fn identity(system: &str, database: u32, timeline: u32) -> Identity {
        Identity { system_identifier: system.into(), database: Oid::from_u32(database), timeline }
    }

    fn is_foreign(recorded: &Identity, promotion: Promotion) -> bool {
        let fence = judge(Some(recorded), &identity("7", 5, 2), promotion);
        matches!(fence, Fence::Foreign { .. })
    }

    #[test]
    fn another_cluster_or_database_is_foreign_whatever_the_setting() {
        for promotion in [Promotion::Fences, Promotion::TakesOver] {
            assert!(is_foreign(&identity("8", 5, 2), promotion));
            assert!(is_foreign(&identity("7", 6, 2), promotion));
            assert!(!is_foreign(&identity("7", 5, 2), promotion));
        }
    }

    #[test]
    fn only_a_later_timeline_is_a_promotion() {
        assert!(is_foreign(&identity("7", 5, 1), Promotion::Fences));
        assert!(!is_foreign(&identity("7", 5, 1), Promotion::TakesOver));
        assert!(is_foreign(&identity("7", 5, 3), Promotion::TakesOver));
    }

    #[test]
    fn nothing_recorded_is_no_identity() {
        let fence = judge(None, &identity("7", 5, 2), Promotion::Fences);
        assert_eq!(fence, Fence::NoIdentity);
    }
}
