//! What happened that a person may want to know later.

use super::table::execute;
use crate::error::Result;
use crate::pg::encoding;
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;

/// The kinds of incident, as `ods.incidents` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// A change could not be applied; its table was set aside.
    ApplyFailed,
    /// The stream lost its continuity.
    Gap,
    /// The publication lacks a table and could not be altered.
    Publication,
    /// The definition of a table changed at the source.
    Drift,
    /// An index that was set aside for a load could not be built.
    Index,
    /// A comparison found a table to differ from its source.
    Difference,
}

impl IncidentKind {
    fn name(self) -> &'static str {
        match self {
            Self::ApplyFailed => "apply failed",
            Self::Gap => "gap",
            Self::Publication => "publication",
            Self::Drift => "drift",
            Self::Index => "index",
            Self::Difference => "difference",
        }
    }
}

/// Records an incident unless it is known, whatever has happened since: for what stays so until a
/// person acts.
pub fn record_once(
    stream_id: i32,
    table: Option<(pg_sys::Oid, &str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> Result<()> {
    insert(
        "NOT EXISTS (SELECT FROM ods.incident i \
             WHERE i.stream_id = $1 AND i.relation IS NOT DISTINCT FROM $2::pg_catalog.regclass AND i.kind = $4 \
               AND i.message = $5 AND i.fix IS NOT DISTINCT FROM $6)",
        &values(stream_id, table, kind, message, fix),
    )
}

/// As [`record_once`], whatever is to be done by now: for what is found again by each session.
pub fn record_first(
    stream_id: i32,
    table: Option<(pg_sys::Oid, &str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> Result<()> {
    insert(
        "NOT EXISTS (SELECT FROM ods.incident i \
             WHERE i.stream_id = $1 AND i.relation IS NOT DISTINCT FROM $2::pg_catalog.regclass AND i.kind = $4 \
               AND i.message = $5)",
        &values(stream_id, table, kind, message, fix),
    )
}

/// Adds an incident where `condition` on its values holds.
fn insert(condition: &str, values: &[DatumWithOid<'_>]) -> Result<()> {
    execute(
        &format!(
            "INSERT INTO ods.incident (stream_id, relation, table_name, kind, message, fix) \
             SELECT $1, $2, $3, $4, $5, $6 WHERE {condition}"
        ),
        values,
    )?;
    Ok(())
}

fn values<'v>(
    stream_id: i32,
    table: Option<(pg_sys::Oid, &'v str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> [DatumWithOid<'v>; 6] {
    [
        stream_id.into(),
        table.map(|(relation, _)| relation).into(),
        table.map(|(_, name)| name).into(),
        kind.name().into(),
        encoding::told(message).into(),
        fix.map(encoding::told).into(),
    ]
}

/// Records an incident, once: the same message is not repeated while it is the latest of its kind.
pub fn record(
    stream_id: i32,
    table: Option<(pg_sys::Oid, &str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> Result<()> {
    insert(
        "$5 IS DISTINCT FROM (SELECT i.message FROM ods.incident i \
             WHERE i.stream_id = $1 AND i.relation IS NOT DISTINCT FROM $2::pg_catalog.regclass AND i.kind = $4 \
             ORDER BY i.incident_id DESC LIMIT 1)",
        &values(stream_id, table, kind, message, fix),
    )
}
