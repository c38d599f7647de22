//! Heartbeats, and keeping the publication and what it carries as the catalog wants them.

use crate::apply::applier::Applier;
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::stream::Stream;
use crate::catalog::table::{self, TableState};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::wait::Deadline;
use crate::pg::{clock, xact};
use crate::settings;
use crate::source::postgres::exchange::Exchange;
use crate::source::postgres::upkeep::{self, Coverage, Heartbeat, Partitions, Published};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// A statement that the source refused is not tried again sooner.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

enum Doing {
    Nothing,
    Heartbeat { sent: Instant, sent_us: i64 },
    Altering { table: Option<i32>, sql: String },
}

/// What goes over the control connection.
pub struct Upkeep {
    interval: Duration,
    partitions: Partitions,
    next: Instant,
    doing: Doing,
    /// Statements to run, each for a table whose loading waits for it.
    queue: Vec<(Option<i32>, String)>,
    published: HashSet<i32>,
    not_before: Instant,
    clock_skew: i64,
    obstacle: Option<String>,
}

impl Upkeep {
    /// Upkeep with a heartbeat every `interval`, at a source that publishes `partitions` so.
    pub fn new(interval: Duration, partitions: Partitions) -> Self {
        let now = Instant::now();
        Self {
            interval,
            partitions,
            next: now,
            doing: Doing::Nothing,
            queue: Vec::new(),
            published: HashSet::new(),
            not_before: now,
            clock_skew: 0,
            obstacle: None,
        }
    }

    /// Time between heartbeats.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Tables whose changes the stream carries.
    pub fn published(&self) -> &HashSet<i32> {
        &self.published
    }

    /// What stands in the way of a table, for the status.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// The source's clock minus ours, in microseconds.
    pub fn clock_skew(&self) -> i64 {
        self.clock_skew
    }

    /// When to go on at the latest.
    pub fn next_at(&self) -> Instant {
        match self.doing {
            Doing::Nothing => self.next,
            _ => Instant::now() + self.interval,
        }
    }

    /// Has the next heartbeat go out at once.
    pub fn look_soon(&mut self) {
        self.next = Instant::now();
    }

    /// How long a heartbeat has been without an answer.
    pub fn unanswered_for(&self) -> Option<Duration> {
        match self.doing {
            Doing::Heartbeat { sent, .. } => Some(sent.elapsed()),
            _ => None,
        }
    }

    /// Goes on at the source; the answer of a heartbeat once it is there.
    pub fn advance(
        &mut self,
        control: &mut Exchange,
        stream: &Stream,
        applier: &mut Applier,
    ) -> Result<Option<Heartbeat>> {
        if control.is_running() {
            let answer = match control.advance() {
                Ok(None) => return Ok(None),
                Ok(Some(answer)) => Ok(answer),
                Err(error) => Err(error),
            };
            match (std::mem::replace(&mut self.doing, Doing::Nothing), answer) {
                (Doing::Heartbeat { sent, sent_us }, Ok(answer)) => {
                    let heartbeat = upkeep::read(&answer)?;
                    let half = i64::try_from(sent.elapsed().as_micros() / 2).unwrap_or(0);
                    self.clock_skew = heartbeat.probe.clock_us - (sent_us + half);
                    return Ok(Some(heartbeat));
                }
                (Doing::Altering { .. }, Ok(_)) => {
                    self.obstacle = None;
                    self.look_soon();
                }
                (Doing::Altering { table, sql }, Err(error))
                    if error.kind == ErrorKind::SourceRefused =>
                {
                    self.refused(stream, applier, table, &sql, &error)?;
                }
                (_, Err(error)) => return Err(error),
                (Doing::Nothing, Ok(_)) => {}
            }
        }
        let now = Instant::now();
        if now >= self.not_before
            && let Some((table, sql)) = self.queue.pop()
        {
            control.send(&upkeep::brief(&sql), Deadline::after(settings::network_timeout()), 0)?;
            self.doing = Doing::Altering { table, sql };
            return Ok(None);
        }
        if now >= self.next {
            self.next = now + self.interval;
            let sql = upkeep::heartbeat_sql(&stream.slot, &stream.publication);
            control.send(&sql, Deadline::after(settings::network_timeout()), 0)?;
            self.doing = Doing::Heartbeat { sent: now, sent_us: clock::now() };
        }
        Ok(None)
    }

    /// The source does not let us: a person must, and is told what to run.
    fn refused(
        &mut self,
        stream: &Stream,
        applier: &mut Applier,
        table: Option<i32>,
        sql: &str,
        error: &OdsError,
    ) -> Result<()> {
        self.not_before = Instant::now() + REFUSED_PAUSE;
        let fix = format!("{sql};  -- at the source, by a role that may");
        self.obstacle = Some(format!("{error}. {fix}"));
        let Some(table) = table.and_then(|id| applier.table(id)) else { return Ok(()) };
        if applier_is_busy() {
            return Ok(());
        }
        let name = table.synced.display();
        let relation = table.synced.relation;
        let message = format!(
            "{}.{} is not in publication {}: {error}",
            table.synced.source_schema, table.synced.source_table, stream.publication
        );
        xact::in_transaction(|| {
            incident::record(
                stream.id,
                Some((relation, &name)),
                IncidentKind::Publication,
                &message,
                Some(&fix),
            )
        })
    }
}

/// Whether a transaction with rows is open, into which nothing else may be written.
fn applier_is_busy() -> bool {
    xact::is_open()
}

/// Compares what the publication carries with what the catalog wants; true if the catalog changed.
pub fn compare(
    heartbeat: &Heartbeat,
    stream: &Stream,
    applier: &mut Applier,
    upkeep: &mut Upkeep,
) -> Result<bool> {
    let mut changed = false;
    upkeep.published.clear();
    upkeep.queue.clear();
    let mut wanted_roots = HashSet::new();
    for table in applier.tables() {
        let synced = &table.synced;
        wanted_roots.insert(synced.source_oid);
        if !table.is_followed() {
            continue;
        }
        let (carried, missing): (Vec<&Published>, Vec<&Published>) = heartbeat
            .published
            .iter()
            .filter(|there| there.root == synced.source_oid || there.oid == synced.source_oid)
            .partition(|there| there.coverage == Coverage::Carried);
        if carried.is_empty() && synced.state == TableState::Loading {
            let named = heartbeat.published.iter().find(|there| {
                there.root_schema == synced.source_schema && there.root_name == synced.source_table
            });
            if let Some(anew) = named {
                take_over(synced, anew)?;
                changed = true;
                continue;
            }
        }
        if carried.is_empty() {
            changed |= not_carried(stream, upkeep, synced)?;
            continue;
        }
        if !missing.is_empty() {
            let missing = missing.iter().map(|there| (there.schema.as_str(), there.name.as_str()));
            let add = upkeep::add_tables_sql(&stream.publication, missing);
            wants_adding(stream, upkeep, synced, add)?;
            continue;
        }
        if same_members(synced, &carried) {
            upkeep.published.insert(synced.id);
        } else {
            change_members(synced, &carried)?;
            changed = true;
        }
    }
    if stream.owns_publication {
        let unwanted: HashSet<(&str, &str)> = heartbeat
            .published
            .iter()
            .filter(|there| {
                there.coverage == Coverage::Carried
                    && !wanted_roots.contains(&there.root)
                    && !wanted_roots.contains(&there.oid)
            })
            .map(|there| match upkeep.partitions {
                Partitions::ByRoot => (there.root_schema.as_str(), there.root_name.as_str()),
                Partitions::ByLeaf => (there.schema.as_str(), there.name.as_str()),
            })
            .collect();
        for (schema, name) in unwanted {
            upkeep.queue.push((None, upkeep::drop_table_sql(&stream.publication, schema, name)));
        }
    }
    Ok(changed)
}

/// A table that the publication does not carry: it is added where that is ours to do. One that was
/// carried before has missed changes.
fn not_carried(stream: &Stream, upkeep: &mut Upkeep, synced: &table::SyncedTable) -> Result<bool> {
    let add = match upkeep.partitions {
        Partitions::ByRoot => {
            let root = (synced.source_schema.as_str(), synced.source_table.as_str());
            upkeep::add_tables_sql(&stream.publication, std::iter::once(root))
        }
        Partitions::ByLeaf => {
            let leaves =
                synced.members.iter().map(|leaf| (leaf.schema.as_str(), leaf.table.as_str()));
            upkeep::add_tables_sql(&stream.publication, leaves)
        }
    };
    if synced.state == TableState::Live {
        let reason = format!(
            "{}.{} is no longer in publication {}, or was dropped or made anew",
            synced.source_schema, synced.source_table, stream.publication
        );
        let name = synced.display();
        let fix = format!("SELECT ods.resume('{name}');");
        xact::in_transaction(|| {
            table::set_state(synced.id, TableState::Failed, Some(&reason), Some(&fix))?;
            incident::record(
                stream.id,
                Some((synced.relation, &name)),
                IncidentKind::Gap,
                &reason,
                Some(&fix),
            )
        })?;
        return Ok(true);
    }
    wants_adding(stream, upkeep, synced, add)?;
    Ok(false)
}

/// Has `add` run at the source where that is ours to do; else a person is told.
fn wants_adding(
    stream: &Stream,
    upkeep: &mut Upkeep,
    synced: &table::SyncedTable,
    add: String,
) -> Result<()> {
    if stream.owns_publication {
        if !upkeep.queue.iter().any(|(_, sql)| *sql == add) {
            upkeep.queue.push((Some(synced.id), add));
        }
    } else {
        let fix = format!("{add};  -- at the source");
        let message = format!(
            "{}.{} is not wholly in publication {}",
            synced.source_schema, synced.source_table, stream.publication
        );
        upkeep.obstacle = Some(format!("{message}. {fix}"));
        xact::in_transaction(|| {
            incident::record(
                stream.id,
                Some((synced.relation, &synced.display())),
                IncidentKind::Publication,
                &message,
                Some(&fix),
            )
        })?;
    }
    Ok(())
}

fn same_members(synced: &table::SyncedTable, carried: &[&Published]) -> bool {
    carried.len() == synced.members.len()
        && carried.iter().all(|there| synced.members.iter().any(|member| member.oid == there.oid))
}

/// A table of the name was made anew at the source, and a person has resumed ours: what is read is
/// the new one.
fn take_over(synced: &table::SyncedTable, anew: &Published) -> Result<()> {
    xact::in_transaction(|| {
        table::execute(
            "UPDATE ods.synced_table SET source_oid = $2 WHERE table_id = $1",
            &[synced.id.into(), pgrx::pg_sys::Oid::from(anew.root).into()],
        )?;
        table::execute("DELETE FROM ods.source_member WHERE table_id = $1", &[synced.id.into()])?;
        Ok(())
    })
}

/// Partitions came or went: new ones are loaded, the rows of those that went are searched for.
fn change_members(synced: &table::SyncedTable, carried: &[&Published]) -> Result<()> {
    let gone =
        synced.members.iter().any(|member| carried.iter().all(|there| there.oid != member.oid));
    xact::in_transaction(|| {
        table::execute(
            "DELETE FROM ods.source_member WHERE table_id = $1 AND source_oid <> ALL ($2)",
            &[
                synced.id.into(),
                carried
                    .iter()
                    .map(|there| pgrx::pg_sys::Oid::from(there.oid))
                    .collect::<Vec<_>>()
                    .into(),
            ],
        )?;
        for there in carried {
            table::execute(
                "INSERT INTO ods.source_member (table_id, source_oid, source_schema, source_table, rows_estimated) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                &[
                    synced.id.into(),
                    pgrx::pg_sys::Oid::from(there.oid).into(),
                    there.schema.as_str().into(),
                    there.name.as_str().into(),
                    there.estimated_rows.into(),
                ],
            )?;
        }
        // A partition that was attached with rows may hold keys that stood elsewhere before.
        let sweep = gone || synced.state == TableState::Live;
        table::execute(
            "UPDATE ods.table_state SET sweep = CASE WHEN $2 THEN 'due' ELSE sweep END, sweep_key = NULL, \
                    load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
            &[synced.id.into(), sweep.into()],
        )?;
        if synced.state == TableState::Live {
            table::set_state(
                synced.id,
                TableState::Loading,
                Some("the source's partitions changed"),
                None,
            )?;
        }
        Ok(())
    })
}
