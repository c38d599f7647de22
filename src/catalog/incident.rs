//! What happened that a person may want to know later.

use super::table::execute;
use crate::error::Result;
use crate::pg::encoding;
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
    /// A topic has more partitions than before.
    Partitions,
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
            Self::Partitions => "partitions",
            Self::Difference => "difference",
        }
    }
}

/// When an incident is not worth telling again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unless {
    /// The same message is the latest of its kind.
    Latest,
    /// It is known with the same fix, whatever has happened since: for what stays so until a person acts.
    Known,
    /// It is known with whatever fix: for what is found again by each session.
    Told,
}

impl Unless {
    /// Whether an incident of the values `$1` to `$6` is new.
    fn is_new(self) -> String {
        let same = "FROM ods.incident i \
             WHERE i.stream_id = $1 AND i.relation IS NOT DISTINCT FROM $2::pg_catalog.regclass AND i.kind = $4";
        match self {
            Self::Latest => format!(
                "$5 IS DISTINCT FROM (SELECT i.message {same} ORDER BY i.incident_id DESC LIMIT 1)"
            ),
            Self::Known => format!(
                "NOT EXISTS (SELECT {same} AND i.message = $5 AND i.fix IS NOT DISTINCT FROM $6)"
            ),
            Self::Told => format!("NOT EXISTS (SELECT {same} AND i.message = $5)"),
        }
    }
}

/// Records an incident, once: the same message is not repeated while it is the latest of its kind.
pub fn record(
    stream_id: i32,
    table: Option<(pg_sys::Oid, &str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> Result<()> {
    record_unless(Unless::Latest, stream_id, table, kind, message, fix)
}

/// Records an incident where it is worth telling.
pub fn record_unless(
    unless: Unless,
    stream_id: i32,
    table: Option<(pg_sys::Oid, &str)>,
    kind: IncidentKind,
    message: &str,
    fix: Option<&str>,
) -> Result<()> {
    execute(
        &format!(
            "INSERT INTO ods.incident (stream_id, relation, table_name, kind, message, fix) \
             SELECT $1, $2, $3, $4, $5, $6 WHERE {}",
            unless.is_new()
        ),
        &[
            stream_id.into(),
            table.map(|(relation, _)| relation).into(),
            table.map(|(_, name)| name).into(),
            kind.name().into(),
            encoding::told(message).into(),
            fix.map(encoding::told).into(),
        ],
    )?;
    Ok(())
}
