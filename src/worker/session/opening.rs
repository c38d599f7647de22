//! How a session begins, and how a stream leaves its source or has a gap.

use super::{Course, End, Session};
use crate::apply::applier::Applier;
use crate::catalog::stream::{self, StoredPosition, Stream};
use crate::catalog::table::TableState;
use crate::catalog::{incident, table};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::freshness::{FreshAsOf, Probes};
use crate::load::loader::Loader;
use crate::pg::wait::{Deadline, WaitSet};
use crate::pg::{encoding, guc, xact};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control, connect_replication};
use crate::source::postgres::establish::{self, Continuity};
use crate::source::postgres::exchange::Exchange;
use crate::source::postgres::quote::quote_literal;
use crate::source::postgres::replication::Replication;
use crate::source::postgres::slot;
use crate::worker::board::{StreamEntry, StreamState};
use crate::worker::publication::Upkeep;
use crate::worker::unflushed::Unflushed;
use pgrx::Spi;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A new slot waits for the transactions that run at the source.
const SLOT_PATIENCE: Duration = Duration::from_secs(300);

/// What opening came to.
pub enum Opened<'e> {
    /// A session.
    Session(Box<Session<'e>>),
    /// None, for this reason.
    Ended(End),
}

impl<'e> Session<'e> {
    /// Connects, checks that the stream can go on where it stopped, and starts it. `course` is what
    /// the session before it has left.
    pub fn open(entry: &'e StreamEntry, course: &Course) -> Result<Opened<'e>> {
        let id = entry.stream_id();
        let Some((stream, stored, access, tables)) = xact::in_transaction(|| {
            let Some(stream) = stream::by_id(id)? else { return Ok(None) };
            let access = ServerAccess::for_worker(&stream.server)?;
            Ok(Some((stream, stream::position(id)?, access, count_tables(id)?)))
        })?
        else {
            return Ok(Opened::Ended(End::Stop));
        };
        if tables.all == 0 {
            entry.set_state(
                StreamState::Connecting,
                "leaving the source, since no table follows it any more",
            );
            return Ok(Opened::Ended(leave(&stream, &access)?));
        }
        if stored.position.is_none() && tables.followed == 0 {
            // Nobody reads the slot, which would keep WAL at the source for ever.
            slot::drop(&access, &stream.slot, None)?;
            entry.set_state(
                StreamState::Failed,
                &format!(
                    "no table of this server follows it. SELECT ods.resume(table_name) FROM ods.sync_status WHERE server = {} AND state IN ('paused', 'failed');",
                    quote_literal(&stream.server)
                ),
            );
            return Ok(Opened::Ended(End::Wait(Duration::from_secs(30))));
        }
        let connecting = || Deadline::after(settings::connect_timeout());
        let mut control = connect_control(&access, connecting())?;
        guc::set_lock_timeout(settings::lock_timeout());
        // First of all: what follows may wait for a lock here, time after time, while the WAL at
        // the source grows.
        if stored.position.is_some()
            && let Some(limit) = settings::max_retained_wal()
            && let Some(retained) = slot::retained(&mut control, &stream.slot)?
            && retained > limit
        {
            give_up(&stream, &retained_too_much(retained))?;
            return Ok(Opened::Ended(End::Again));
        }
        let mut connection = connect_replication(&access, connecting())?;
        let identity = establish::identify(&mut connection)?;
        // The position may have been committed, before a failure, without being flushed; what is
        // confirmed below must survive a crash.
        xact::flush_all();
        let resumed = match stored.position.as_deref().map(str::parse::<Lsn>) {
            Some(Ok(position)) => {
                match establish::continuity(&mut connection, &stream, &stored, position, &identity)?
                {
                    Continuity::Whole => {
                        if establish::publication(&mut control, &stream)? != stored.publication {
                            give_up(&stream, &publication_gone(&stream))?;
                            return Ok(Opened::Ended(End::Again));
                        }
                        if stored.timeline != Some(identity.timeline) {
                            xact::in_transaction(|| stream::set_timeline(id, identity.timeline))?;
                        }
                        Some(position)
                    }
                    Continuity::Gap(reason) => {
                        give_up(&stream, &reason)?;
                        return Ok(Opened::Ended(End::Again));
                    }
                }
            }
            Some(Err(_)) => {
                return Err(OdsError::new(ErrorKind::Bug, "the stored position is not an LSN"));
            }
            None => None,
        };
        // In a source that is not the one it was, nothing is made.
        establish::ensure_publication(&mut control, &stream)?;
        let publication = establish::publication(&mut control, &stream)?;
        let position = match resumed {
            Some(position) => position,
            None => {
                entry.set_state(
                    StreamState::Connecting,
                    "making the replication slot, which waits for the transactions running at the source",
                );
                begin(&mut connection, &stream, &access, identity, publication)?
            }
        };
        let server_encoding = connection
            .parameter_status(c"server_encoding")
            .and_then(|name| encoding::number(&name))
            .ok_or_else(|| {
                OdsError::new(ErrorKind::Unsupported, "the source's encoding is not known here")
            })?;
        let care = course.care();
        let mut applier = Applier::new(id, server_encoding, care);
        applier.set_asks_labels(course.asked_until.is_none());
        xact::in_transaction(|| applier.reload())?;
        let version = control.server_version();
        let replication = Replication::start(
            connection,
            &stream.slot,
            &stream.publication,
            position,
            Deadline::after(settings::network_timeout()),
        )?;
        let now = Instant::now();
        entry.progress(position.0, position.0, position.0, position.0);
        Ok(Opened::Session(Box::new(Self {
            entry,
            upkeep: Upkeep::new(access.stream.heartbeat_interval, version),
            access,
            replication,
            control: Exchange::new(control),
            loader: Loader::new(),
            applier,
            care,
            course: course.clone(),
            sockets: WaitSet::new(),
            incoming: None,
            streamed: HashMap::new(),
            block: None,
            position,
            stored: position,
            flushed: position,
            unflushed: Unflushed::default(),
            sent_end: position,
            source_end: position,
            fresh: FreshAsOf::default(),
            stored_fresh: FreshAsOf::default(),
            probes: Probes::default(),
            batch_began: None,
            transactions: 0,
            stored_at: now,
            counted_at: now,
            asked_at: now,
            changed_at: now,
            reload_due: false,
            heartbeat: None,
            labels: None,
            renames: None,
            reshape_asked_at: now,
            publication,
            heard_at: now,
            placed: HashSet::new(),
            described: HashMap::new(),
            stream,
        })))
    }
}

/// How many tables a stream has.
struct Tables {
    all: i64,
    followed: i64,
}

fn count_tables(stream_id: i32) -> Result<Tables> {
    let (all, followed) = Spi::get_two_with_args::<i64, i64>(
        "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE s.state IN ('loading', 'live')) \
         FROM ods.synced_table t JOIN ods.table_state s USING (table_id) WHERE t.stream_id = $1",
        &[stream_id.into()],
    )
    .map_err(table::spi_error)?;
    Ok(Tables { all: all.unwrap_or(0), followed: followed.unwrap_or(0) })
}

/// Takes slot and publication back from the source, then forgets the stream.
fn leave(stream: &Stream, access: &ServerAccess) -> Result<End> {
    let publication = stream.owns_publication.then_some(stream.publication.as_str());
    slot::drop(access, &stream.slot, publication)?;
    xact::in_transaction(|| {
        if stream::remove_unused(stream.id)? {
            return Ok(End::Stop);
        }
        // A table came meanwhile: the stream begins anew.
        stream::begin(stream.id, &StoredPosition::default())?;
        Ok(End::Again)
    })
}

/// Makes the slot and stores where it begins.
fn begin(
    connection: &mut crate::pg::libpq::Connection,
    stream: &Stream,
    access: &ServerAccess,
    identity: establish::SourceIdentity,
    publication: Option<u32>,
) -> Result<Lsn> {
    if let Some(slot) = establish::slot(connection, &stream.slot)? {
        if access.stream.slot_name.is_some() && !slot.is_lost {
            return Err(OdsError::new(
                ErrorKind::WrongState,
                format!("replication slot {} exists already, and its changes before now would be missed", stream.slot),
            )
            .hint(format!(
                "SELECT pg_drop_replication_slot({});  -- at the source",
                quote_literal(&stream.slot)
            )));
        }
        establish::drop_slot(connection, &stream.slot)?;
    }
    let position = establish::create_slot(connection, stream, Deadline::after(SLOT_PATIENCE))?;
    xact::in_transaction(|| {
        stream::begin(
            stream.id,
            &StoredPosition {
                position: Some(position.to_string()),
                system_identifier: Some(identity.system_identifier),
                timeline: Some(identity.timeline),
                database: Some(identity.database),
                publication,
            },
        )
    })?;
    Ok(position)
}

/// Why a slot is given up that keeps too much at its source.
pub(super) fn retained_too_much(bytes: u64) -> String {
    format!("the source kept {bytes} bytes of WAL for us, more than ods.max_retained_wal")
}

/// Why a stream can't go on with the publication: decoding looks it up as it was at each change.
pub(super) fn publication_gone(stream: &Stream) -> String {
    format!("publication {} is gone, or was dropped and made anew", stream.publication)
}

/// The stream has a gap: its tables are set aside, and it begins anew when one is resumed.
pub(super) fn give_up(stream: &Stream, reason: &str) -> Result<()> {
    xact::recover();
    xact::in_transaction(|| {
        for synced in table::of_stream(stream.id)? {
            if matches!(synced.state, TableState::Live | TableState::Loading) {
                let name = synced.display();
                let fix = synced.resume_sql();
                table::set_state(synced.id, TableState::Failed, Some(reason), Some(&fix))?;
                incident::record(
                    stream.id,
                    Some((synced.relation, &name)),
                    incident::IncidentKind::Gap,
                    reason,
                    Some(&fix),
                )?;
            }
        }
        stream::begin(stream.id, &StoredPosition::default())
    })?;
    pgrx::warning!("ods: stream {} of server {} has a gap: {reason}", stream.slot, stream.server);
    Ok(())
}
