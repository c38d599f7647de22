//! What is checked, and made where it is missing, before a stream starts.
//!
//! The source silently begins at the slot's own position when it is asked for an older one, so that
//! the slot's position is compared with ours first; so are the source's identity and timeline.

use crate::catalog::stream::{StoredPosition, Stream};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::{Connection, PqError, Rows};
use crate::pg::wait::Deadline;
use crate::settings;
use crate::source::postgres::quote::{quote_ident, quote_literal};

/// Who the source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceIdentity {
    /// Its cluster.
    pub system_identifier: String,
    /// Its timeline.
    pub timeline: i32,
    /// Its database.
    pub database: String,
    /// Where its WAL on disk ends.
    pub flushed: Lsn,
}

/// Asks a walsender who it serves.
pub fn identify(replication: &mut Connection) -> Result<SourceIdentity> {
    let rows = replication.query("IDENTIFY_SYSTEM", &[], deadline())?;
    let odd = || OdsError::new(ErrorKind::Protocol, "the source did not identify itself");
    Ok(SourceIdentity {
        system_identifier: rows.get(0, 0).ok_or_else(odd)?.to_owned(),
        timeline: rows.get(0, 1).and_then(|text| text.parse().ok()).ok_or_else(odd)?,
        database: rows.get(0, 3).ok_or_else(odd)?.to_owned(),
        flushed: rows.get(0, 2).and_then(|text| text.parse().ok()).ok_or_else(odd)?,
    })
}

/// What stands between a stored position and its continuation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// The stream may go on; the source may have a new timeline.
    Whole,
    /// Changes are lost, for this reason.
    Gap(String),
}

/// Whether the stream can go on from `stored` without losing a change.
pub fn continuity(
    replication: &mut Connection,
    stream: &Stream,
    stored: &StoredPosition,
    position: Lsn,
    identity: &SourceIdentity,
) -> Result<Continuity> {
    if stored.system_identifier.as_ref() != Some(&identity.system_identifier) {
        return Ok(Continuity::Gap(format!(
            "the source is another cluster: its system identifier is {}, it was {}",
            identity.system_identifier,
            stored.system_identifier.as_deref().unwrap_or("unknown")
        )));
    }
    if stored.database.as_ref() != Some(&identity.database) {
        return Ok(Continuity::Gap(format!(
            "the source is another database: {}",
            identity.database
        )));
    }
    if let Some(before) = stored.timeline {
        if identity.timeline < before {
            return Ok(Continuity::Gap(format!(
                "the source went back from timeline {before} to {}",
                identity.timeline
            )));
        }
        if identity.timeline > before {
            let fork = fork_of(replication, identity.timeline, before)?;
            if let Some(reason) = fork_before(fork, before, identity.timeline, position) {
                return Ok(Continuity::Gap(reason));
            }
        }
    }
    // Only what is on disk there is ever sent.
    if identity.flushed < position {
        return Ok(Continuity::Gap(format!(
            "the source went back: its WAL ends at {}, before our position {position}",
            identity.flushed
        )));
    }
    slot_continuity(replication, stream, position)
}

fn slot_continuity(
    replication: &mut Connection,
    stream: &Stream,
    position: Lsn,
) -> Result<Continuity> {
    let slot = slot(replication, &stream.slot)?;
    let Some(slot) = slot else {
        return Ok(Continuity::Gap(format!("replication slot {} is gone", stream.slot)));
    };
    if slot.is_lost {
        return Ok(Continuity::Gap(format!(
            "replication slot {} was invalidated: the source removed WAL that it still needed",
            stream.slot
        )));
    }
    match slot.confirmed {
        Some(confirmed) if confirmed > position => Ok(Continuity::Gap(format!(
            "replication slot {} stands at {confirmed}, ahead of our position {position}: somebody else has read it",
            stream.slot
        ))),
        _ => Ok(Continuity::Whole),
    }
}

/// A slot as the source has it.
pub struct Slot {
    /// Up to where it was confirmed.
    pub confirmed: Option<Lsn>,
    /// Whether the WAL it needs is gone.
    pub is_lost: bool,
}

/// Looks a slot up.
pub fn slot(connection: &mut Connection, name: &str) -> Result<Option<Slot>> {
    let lost = if connection.server_version() >= 130_000 {
        "coalesce(s.wal_status = 'lost', false)"
    } else {
        "false"
    };
    let sql = format!(
        "SELECT s.confirmed_flush_lsn::text, {lost} FROM pg_catalog.pg_replication_slots s \
         WHERE s.slot_name = {}",
        quote_literal(name)
    );
    let rows = connection.query(&sql, &[], deadline())?;
    Ok((!rows.is_empty()).then(|| Slot {
        confirmed: rows.get(0, 0).and_then(|text| text.parse().ok()),
        is_lost: rows.get(0, 1) == Some("t"),
    }))
}

/// Where `timeline` left its ancestor `before`; none if it does not descend from it.
fn fork_of(replication: &mut Connection, timeline: i32, before: i32) -> Result<Option<Lsn>> {
    let rows: Rows = replication.query(&format!("TIMELINE_HISTORY {timeline}"), &[], deadline())?;
    let Some(content) = rows.get(0, 1) else { return Ok(None) };
    Ok(fork_in_history(content, before))
}

/// Why a source that is on timeline `now` can't follow on what we have of timeline `before`; none
/// if it left that one at or after our position.
fn fork_before(fork: Option<Lsn>, before: i32, now: i32, position: Lsn) -> Option<String> {
    match fork {
        Some(fork) if position <= fork => None,
        Some(fork) => Some(format!(
            "the source's history forked at {fork} on timeline {before}, before our position {position}"
        )),
        None => Some(format!(
            "the source is on timeline {now}, whose history does not tell that it follows timeline {before}"
        )),
    }
}

/// Reads a timeline history file: lines of timeline, LSN where it ended, and a reason.
fn fork_in_history(content: &str, timeline: i32) -> Option<Lsn> {
    content
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let number: i32 = words.next()?.parse().ok()?;
            let lsn: Lsn = words.next()?.parse().ok()?;
            (number == timeline).then_some(lsn)
        })
        .next()
}

/// The oid of the publication, none where there is none.
pub fn publication(control: &mut Connection, stream: &Stream) -> Result<Option<u32>> {
    let sql = format!(
        "SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = {}",
        quote_literal(&stream.publication)
    );
    let rows = control.query(&sql, &[], deadline())?;
    Ok(rows.get(0, 0).and_then(|oid| oid.parse().ok()))
}

/// Makes the publication if it is missing and ours to make; it must exist before the slot does.
pub fn ensure_publication(control: &mut Connection, stream: &Stream) -> Result<()> {
    refuse_partial(control, stream)?;
    let sql = format!(
        "SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate \
         FROM pg_catalog.pg_publication p WHERE p.pubname = {}",
        quote_literal(&stream.publication)
    );
    let rows = control.query(&sql, &[], deadline())?;
    match (rows.get(0, 0), stream.owns_publication) {
        (Some("t"), _) => Ok(()),
        (Some(_), _) => Err(OdsError::new(
            ErrorKind::SourceRefused,
            format!("publication {} leaves out some kinds of change", stream.publication),
        )
        .hint(format!(
            "ALTER PUBLICATION {} SET (publish = 'insert, update, delete, truncate');  -- at the source",
            quote_ident(&stream.publication)
        ))),
        (None, true) => {
            let sql = format!("CREATE PUBLICATION {}", quote_ident(&stream.publication));
            match control.query(&sql, &[], deadline()) {
                Ok(_) => Ok(()),
                Err(error) if error.sqlstate() == Some("42501") => Err(OdsError::from(error)
                    .context(format!("can't create publication {}", stream.publication))
                    .hint(format!("{sql};  -- at the source, by a role that may"))),
                Err(error) => Err(error.into()),
            }
        }
        (None, false) => Err(OdsError::new(
            ErrorKind::SourceRefused,
            format!("the source has no publication {}", stream.publication),
        )
        .hint(format!("CREATE PUBLICATION {};  -- at the source", quote_ident(&stream.publication)))),
    }
}

/// A publication that hides rows or columns, or names roots instead of leaves, does not carry what
/// is read at the source.
fn refuse_partial(control: &mut Connection, stream: &Stream) -> Result<()> {
    let version = control.server_version();
    let name = quote_literal(&stream.publication);
    let mut questions = Vec::new();
    if version >= 130_000 {
        questions.push((
            format!(
                "SELECT FROM pg_catalog.pg_publication p WHERE p.pubname = {name} AND p.pubviaroot"
            ),
            "publishes partitions as their root",
            format!(
                "ALTER PUBLICATION {} SET (publish_via_partition_root = false);  -- at the source",
                quote_ident(&stream.publication)
            ),
        ));
    }
    if version >= 150_000 {
        questions.push((
            format!(
                "SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid \
                 WHERE p.pubname = {name} AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL)"
            ),
            "has row filters or column lists",
            "Publish whole tables at the source, and use `filter` and `columns` here.".to_owned(),
        ));
    }
    for (sql, what, hint) in questions {
        if !control.query(&sql, &[], deadline())?.is_empty() {
            return Err(OdsError::new(
                ErrorKind::SourceRefused,
                format!("publication {} {what}, which ods can't follow", stream.publication),
            )
            .hint(hint));
        }
    }
    Ok(())
}

/// Makes the slot; the LSN from which it streams. Waits until the transactions that are running at
/// the source have ended, since decoding can only begin then.
pub fn create_slot(
    replication: &mut Connection,
    stream: &Stream,
    patience: Deadline,
) -> Result<Lsn> {
    let version = replication.server_version();
    let name = quote_ident(&stream.slot);
    let options = match version {
        170_000.. => " (SNAPSHOT 'nothing', FAILOVER)",
        150_000.. => " (SNAPSHOT 'nothing')",
        _ => " NOEXPORT_SNAPSHOT",
    };
    let sql = format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput{options}");
    let rows = match replication.query(&sql, &[], patience) {
        Ok(rows) => rows,
        Err(PqError::TimedOut(_)) => {
            return Err(OdsError::new(
                ErrorKind::Timeout,
                "the replication slot waits until older transactions of the source have ended",
            )
            .hint("SELECT pid, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start;  -- at the source"));
        }
        Err(error) => {
            return Err(OdsError::from(error).context("can't create the replication slot"));
        }
    };
    rows.get(0, 1).and_then(|text| text.parse().ok()).ok_or_else(|| {
        OdsError::new(ErrorKind::Protocol, "the source did not tell where the new slot begins")
    })
}

/// Drops a slot that is there; one that is still in use is waited for.
pub fn drop_slot(replication: &mut Connection, name: &str) -> Result<()> {
    let sql = format!("DROP_REPLICATION_SLOT {} WAIT", quote_ident(name));
    match replication.query(&sql, &[], deadline()) {
        Ok(_) => Ok(()),
        Err(error) if error.sqlstate() == Some("42704") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn deadline() -> Deadline {
    Deadline::after(settings::network_timeout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fork_is_found_in_the_history() {
        let history = "1\t0/3000000\tno recovery target specified\n\n2\t0/5000148\tbefore 2000\n";
        assert_eq!(fork_in_history(history, 2), Some(Lsn(0x500_0148)));
        assert_eq!(fork_in_history(history, 3), None);
        assert_eq!(fork_in_history("# 1 0/1 x", 1), None);
    }

    #[test]
    fn a_history_that_is_not_ours_is_a_gap() {
        let at = |fork| fork_before(fork, 1, 2, Lsn(100));
        assert_eq!(at(Some(Lsn(100))), None);
        assert_eq!(at(Some(Lsn(101))), None);
        assert!(at(Some(Lsn(99))).is_some_and(|reason| reason.contains("forked")));
        assert!(at(None).is_some_and(|reason| reason.contains("timeline 2")));
    }
}
