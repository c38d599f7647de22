//! What the publication carries, compared with what the catalog wants.

use super::drift::{self, Change};
use super::{Obstacle, Pending, Upkeep};
use crate::apply::applier::Applier;
use crate::catalog::incident::{self, IncidentKind};
use crate::catalog::stream::Stream;
use crate::catalog::table::{self, Marks, Sweep, SyncedTable, TableState};
use crate::drift::ask;
use crate::error::{Result, Retry};
use crate::pg::libpq::Connection;
use crate::pg::xact;
use crate::source::postgres::connect::ServerAccess;
use crate::source::postgres::quote::{quote_ident, quote_qualified};
use crate::source::postgres::upkeep::{self, Coverage, Heartbeat, Partitions, Published};
use pgrx::pg_sys::Oid;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Compares what the publication carries with what the catalog wants; true if the catalog changed.
/// `fresh_as_of` is what the stream is fresh as of, provided that everything matches.
pub fn compare(
    heartbeat: &Heartbeat,
    stream: &Stream,
    access: &ServerAccess,
    applier: &mut Applier,
    upkeep: &mut Upkeep,
    fresh_as_of: Option<i64>,
) -> Result<bool> {
    let followed: Vec<i32> = applier
        .tables()
        .filter(|table| table.synced.misses_nothing())
        .map(|table| table.synced.id)
        .collect();
    let changed = look(heartbeat, stream, access, applier, upkeep)?;
    if changed {
        // What was found now has been so since the last look, at the longest.
        let at = upkeep.matched_at;
        xact::in_transaction(|| followed.iter().try_for_each(|id| table::freeze_at(*id, at)))?;
    } else if upkeep.looks.is_empty() {
        upkeep.matched_at = fresh_as_of;
    }
    Ok(changed)
}

fn look(
    heartbeat: &Heartbeat,
    stream: &Stream,
    access: &ServerAccess,
    applier: &mut Applier,
    upkeep: &mut Upkeep,
) -> Result<bool> {
    let mut changed = false;
    upkeep.roots = heartbeat.published.iter().map(|there| (there.oid, there.root)).collect();
    upkeep.published.clear();
    upkeep.queue.clear();
    let mut wanted_roots = HashSet::new();
    let mut obstacles = HashMap::new();
    let mut connection = None;
    for table in applier.tables() {
        let synced = &mut table.synced;
        wanted_roots.insert(synced.source_oid);
        // The jobs worker holds the state of a table while it writes its rows anew.
        if !matches!(synced.state, TableState::Live | TableState::Loading) || synced.is_reshaped {
            continue;
        }
        let (carried, missing): (Vec<&Published>, Vec<&Published>) = heartbeat
            .published
            .iter()
            .filter(|there| there.root == synced.source_oid || there.oid == synced.source_oid)
            .partition(|there| there.coverage == Coverage::Carried);
        let anew = heartbeat.published.iter().find(|there| {
            there.root_schema == synced.source_schema && there.root_name == synced.source_table
        });
        if carried.is_empty() && synced.misses_nothing() {
            lost(stream, synced)?;
            changed = true;
        } else if carried.is_empty()
            && let Some(anew) = anew
        {
            let connection = asking(&mut connection, access)?;
            changed |= take_over(connection, synced, anew)?;
        } else if carried.is_empty() || !missing.is_empty() {
            let add = match (carried.is_empty(), upkeep.partitions) {
                (true, Partitions::ByRoot) => {
                    let root = (synced.source_schema.as_str(), synced.source_table.as_str());
                    upkeep::add_tables_sql(&stream.publication, std::iter::once(root))
                }
                (true, Partitions::ByLeaf) => {
                    let leaves = synced.members.iter();
                    let leaves = leaves.map(|leaf| (leaf.schema.as_str(), leaf.table.as_str()));
                    upkeep::add_tables_sql(&stream.publication, leaves)
                }
                (false, _) => {
                    let missing = missing.iter();
                    let missing = missing.map(|there| (there.schema.as_str(), there.name.as_str()));
                    upkeep::add_tables_sql(&stream.publication, missing)
                }
            };
            if let Some(obstacle) = add_to_publication(stream, upkeep, synced, add) {
                changed |= tell(stream, upkeep, synced, &obstacle)?;
                obstacles.insert(synced.id, obstacle);
            }
        } else if carried.iter().any(|there| there.is_narrowed) {
            let reason = format!(
                "publication {} leaves out some changes, rows or columns of {}",
                quote_ident(&stream.publication),
                source_name(synced)
            );
            set_aside(stream, synced, IncidentKind::Publication, &reason)?;
            changed = true;
        } else if same_members(synced, &carried) {
            if follow_names(stream, synced, &carried)?
                || follow_marks(stream, access, &mut connection, upkeep, synced, &carried)?
            {
                changed = true;
            } else {
                upkeep.published.insert(synced.id);
                store_estimates(upkeep, synced, &carried)?;
            }
        } else {
            change_members(synced, &carried)?;
            changed = true;
        }
    }
    upkeep.told.retain(|id, _| obstacles.contains_key(id));
    if stream.owns_publication {
        let unwanted: BTreeSet<(&str, &str)> = heartbeat
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
            upkeep.ask_for(upkeep::drop_table_sql(&stream.publication, schema, name));
        }
    }
    Ok(changed)
}

/// A table that the publication carried and no longer does has missed changes.
fn lost(stream: &Stream, synced: &SyncedTable) -> Result<()> {
    let reason = format!(
        "{} is no longer in publication {}, or was dropped or made anew",
        source_name(synced),
        quote_ident(&stream.publication)
    );
    set_aside(stream, synced, IncidentKind::Gap, &reason)
}

fn set_aside(
    stream: &Stream,
    synced: &SyncedTable,
    kind: IncidentKind,
    reason: &str,
) -> Result<()> {
    let (name, fix) = (synced.display(), synced.resume_sql());
    xact::in_transaction(|| {
        table::set_state(synced.id, TableState::Failed, Some(reason), Some(&fix))?;
        incident::record(stream.id, Some((synced.relation, &name)), kind, reason, Some(&fix))
    })
}

/// Follows a source table, or a partition of it, to another name or schema; true if it has one.
fn follow_names(stream: &Stream, synced: &SyncedTable, carried: &[&Published]) -> Result<bool> {
    let Some(first) = carried.first() else { return Ok(false) };
    let same_root =
        (&first.root_schema, &first.root_name) == (&synced.source_schema, &synced.source_table);
    let renamed = |there: &&&Published| {
        synced.members.iter().any(|member| {
            member.oid == there.oid
                && (&member.schema, &member.table) != (&there.schema, &there.name)
        })
    };
    let members: Vec<_> = carried.iter().filter(renamed).collect();
    if same_root && members.is_empty() {
        return Ok(false);
    }
    let now = quote_qualified(&first.root_schema, &first.root_name);
    xact::in_transaction(|| {
        table::execute(
            "UPDATE ods.synced_table SET source_schema = $2, source_table = $3 WHERE table_id = $1",
            &[synced.id.into(), first.root_schema.as_str().into(), first.root_name.as_str().into()],
        )?;
        for there in &members {
            table::execute(
                "UPDATE ods.source_member SET source_schema = $3, source_table = $4 WHERE table_id = $1 AND source_oid = $2",
                &[
                    synced.id.into(),
                    Oid::from(there.oid).into(),
                    there.schema.as_str().into(),
                    there.name.as_str().into(),
                ],
            )?;
        }
        if same_root {
            return Ok(());
        }
        incident::record(
            stream.id,
            Some((synced.relation, &synced.display())),
            IncidentKind::Drift,
            &format!(
                "{} is named {now} at the source now, and followed there",
                source_name(synced)
            ),
            None,
        )
    })?;
    Ok(true)
}

/// Compares what the members are known by; true if the table has to be read anew. Where columns or
/// rows may be others, the source is asked, and the stream has to be that far first.
fn follow_marks(
    stream: &Stream,
    access: &ServerAccess,
    connection: &mut Option<Connection>,
    upkeep: &mut Upkeep,
    synced: &mut SyncedTable,
    carried: &[&Published],
) -> Result<bool> {
    if synced.passes_until.is_some() || upkeep.looks.contains_key(&synced.id) {
        return Ok(false);
    }
    let mut finding = Finding::default();
    let mut altered = false;
    for there in carried {
        let Some(now) = &there.marks else { continue };
        let before = synced.members.iter().find(|member| member.oid == there.oid);
        let before = before.and_then(|member| member.marks.as_ref());
        match drift::change(before, now) {
            Change::None => continue,
            Change::New => {}
            Change::Membership => finding.missed.push(there.oid),
            Change::Definition => {}
        }
        // A first look too: what it was made by, or set aside with, may be old by now.
        altered |= before.is_none_or(|before| before.shape != now.shape);
        if before.is_some_and(|before| drift::is_rewritten(before, now)) {
            finding.rewritten.push(there.oid);
        }
        let seen = before.map(|before| before.shape.clone());
        finding.marks.push((there.oid, seen, now.clone()));
    }
    if finding.marks.is_empty() {
        return Ok(false);
    }
    if altered {
        let known = synced.columns.clone();
        let connection = match asking(connection, access) {
            // A source that gives no further connection holds up a table that is being read, and none
            // that follows the stream: the next heartbeat looks again.
            Err(error) if error.kind.retry() == Retry::Backoff && !synced.misses_nothing() => {
                return Ok(false);
            }
            connection => connection?,
        };
        if let Some(look) = ask::look_over(connection, synced.source_oid)? {
            upkeep.looks.insert(synced.id, Pending { known, look, finding });
        }
        return Ok(false);
    }
    let reads_anew = xact::in_transaction(|| finding.settle(stream, synced))?;
    for (oid, _, marks) in finding.marks {
        if let Some(member) = synced.members.iter_mut().find(|member| member.oid == oid) {
            member.marks = Some(marks);
        }
    }
    Ok(reads_anew)
}

/// The connection for questions about tables, made when the first is asked.
fn asking<'c>(
    connection: &'c mut Option<Connection>,
    access: &ServerAccess,
) -> Result<&'c mut Connection> {
    match connection {
        Some(connection) => Ok(connection),
        None => Ok(connection.insert(ask::connect(access)?)),
    }
}

/// What a heartbeat has found of the members of a table.
#[derive(Default)]
pub struct Finding {
    /// What they are known by now, and what their shape was known by before.
    marks: Vec<(u32, Option<String>, Marks)>,
    /// Those whose changes may not all have been sent.
    missed: Vec<u32>,
    /// Those whose rows were written anew.
    rewritten: Vec<u32>,
}

impl Finding {
    /// Takes note of it in the open transaction; true if the table is read anew for it.
    pub fn settle(&self, stream: &Stream, synced: &SyncedTable) -> Result<bool> {
        table::store_marks(synced.id, synced.on_drift, &self.marks)?;
        let (kind, reason) = if !self.missed.is_empty() {
            let reason = format!(
                "{} may not have been in publication {} all the time",
                source_name(synced),
                quote_ident(&stream.publication)
            );
            (IncidentKind::Gap, reason)
        } else if !self.rewritten.is_empty() {
            let reason = format!("rows of {} were written anew at the source", source_name(synced));
            (IncidentKind::Drift, reason)
        } else {
            return Ok(false);
        };
        let members: Vec<u32> = self.missed.iter().chain(&self.rewritten).copied().collect();
        table::read_members_anew(synced.id, &members)?;
        table::set_state(synced.id, TableState::Loading, Some(&reason), None)?;
        incident::record(
            stream.id,
            Some((synced.relation, &synced.display())),
            kind,
            &format!("{reason}: it is reconciled"),
            None,
        )?;
        Ok(true)
    }
}

/// Takes a partition that the stream has met before a heartbeat did into its table, within the
/// transaction that holds the changes before it: the table is read from then on.
pub fn add_member(table_id: i32, oid: u32, schema: &str, name: &str) -> Result<()> {
    table::execute(
        "INSERT INTO ods.source_member (table_id, source_oid, source_schema, source_table) \
         VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        &[table_id.into(), Oid::from(oid).into(), schema.into(), name.into()],
    )?;
    begin_again(table_id, Sweep::Due)?;
    table::set_state(table_id, TableState::Loading, Some(PARTITIONS_CHANGED), None)
}

/// The opposite: the rows of one that went are searched for.
pub fn drop_member(table_id: i32, oid: u32) -> Result<()> {
    begin_again(table_id, Sweep::Due)?;
    table::execute(
        "DELETE FROM ods.source_member WHERE table_id = $1 AND source_oid = $2",
        &[table_id.into(), Oid::from(oid).into()],
    )?;
    table::set_state(table_id, TableState::Loading, Some(PARTITIONS_CHANGED), None)
}

const PARTITIONS_CHANGED: &str = "the source's partitions changed";

/// Has `add` run at the source where that is ours to do; what a person must know where it is not,
/// or where the source refuses.
fn add_to_publication(
    stream: &Stream,
    upkeep: &mut Upkeep,
    synced: &SyncedTable,
    add: String,
) -> Option<Obstacle> {
    let reason = format!(
        "{} is not wholly in publication {}",
        source_name(synced),
        quote_ident(&stream.publication)
    );
    let fix = format!("{add};  -- at the source, by a role that may");
    if stream.owns_publication {
        let refusal = upkeep.ask_for(add)?;
        return Some(Obstacle { reason: format!("{reason}: {refusal}"), fix });
    }
    Some(Obstacle { reason, fix })
}

fn source_name(synced: &SyncedTable) -> String {
    quote_qualified(&synced.source_schema, &synced.source_table)
}

/// Says in the catalog what stands in the way of a table, where that is new; true if the table has
/// to be read anew for it: a live one misses the changes of some of its partitions from now on.
fn tell(
    stream: &Stream,
    upkeep: &mut Upkeep,
    synced: &SyncedTable,
    obstacle: &Obstacle,
) -> Result<bool> {
    let was_live = synced.misses_nothing();
    if !was_live && upkeep.told.get(&synced.id) == Some(obstacle) {
        return Ok(false);
    }
    let (reason, fix) = (obstacle.reason.as_str(), obstacle.fix.as_str());
    let is_told = xact::in_transaction(|| {
        if was_live {
            begin_again(synced.id, Sweep::Due)?;
            table::set_state(synced.id, TableState::Loading, Some(reason), Some(fix))?;
        } else if !table::set_obstacle(synced.id, reason, fix)? {
            return Ok(false);
        }
        let name = synced.display();
        let table = Some((synced.relation, name.as_str()));
        incident::record(stream.id, table, IncidentKind::Publication, reason, Some(fix))?;
        Ok(true)
    })?;
    if is_told {
        upkeep.told.insert(synced.id, obstacle.clone());
    }
    Ok(was_live)
}

/// Takes note of how many rows the members of a loading table have, by which its end is foretold.
fn store_estimates(
    upkeep: &mut Upkeep,
    synced: &SyncedTable,
    carried: &[&Published],
) -> Result<()> {
    if synced.state != TableState::Loading {
        return Ok(());
    }
    let found: Vec<(u32, i64)> =
        carried.iter().map(|there| (there.oid, there.estimated_rows)).collect();
    if upkeep.estimates.get(&synced.id) == Some(&found) {
        return Ok(());
    }
    let (members, rows): (Vec<Oid>, Vec<i64>) =
        found.iter().map(|(member, rows)| (Oid::from(*member), *rows)).unzip();
    let is_stored = xact::in_transaction(|| {
        let is_held = table::hold_load(synced.id, synced.load_started, None)?;
        if is_held {
            table::execute(
                "UPDATE ods.source_member m SET rows_estimated = nullif(e.rows, 0) \
                 FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.oid[]), pg_catalog.unnest($3::pg_catalog.int8[])) AS e (member, rows) \
                 WHERE m.table_id = $1 AND m.source_oid = e.member",
                &[synced.id.into(), members.into(), rows.into()],
            )?;
        }
        Ok(is_held)
    })?;
    if is_stored {
        upkeep.estimates.insert(synced.id, found);
    }
    Ok(())
}

/// Has the loader take up a table again, over the rows that are here.
fn begin_again(table_id: i32, sweep: Sweep) -> Result<()> {
    table::execute(
        "UPDATE ods.table_state SET sweep = CASE WHEN $2 THEN 'due' ELSE sweep END, sweep_key = NULL, \
                load_started_at = pg_catalog.clock_timestamp() WHERE table_id = $1",
        &[table_id.into(), (sweep == Sweep::Due).into()],
    )?;
    Ok(())
}

fn same_members(synced: &SyncedTable, carried: &[&Published]) -> bool {
    carried.len() == synced.members.len()
        && carried.iter().all(|there| synced.members.iter().any(|member| member.oid == there.oid))
}

/// A table of the name was made anew at the source, and a person has resumed ours, or its first load
/// is under way: what is read is the new one, over whatever rows are here. False if that is gone too.
fn take_over(connection: &mut Connection, synced: &SyncedTable, anew: &Published) -> Result<bool> {
    let Some(look) = ask::look_over(connection, anew.root)? else { return Ok(false) };
    let (names, numbers): (Vec<String>, Vec<i16>) =
        look.source.columns.into_iter().map(|column| (column.name, column.attnum)).unzip();
    xact::in_transaction(|| {
        begin_again(synced.id, Sweep::Due)?;
        table::execute(
            "UPDATE ods.synced_table SET source_oid = $2, newest_attnum = 0 WHERE table_id = $1",
            &[synced.id.into(), Oid::from(anew.root).into()],
        )?;
        // Numbers are another table's: a column is the one of its name, or has a number of nobody's.
        table::execute(
            "UPDATE ods.synced_column c SET source_attnum = coalesce( \
                 (SELECT n.attnum FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::int2[])) AS n (name, attnum) \
                   WHERE n.name = c.source_name), -c.ordinal) \
             WHERE c.table_id = $1",
            &[synced.id.into(), names.into(), numbers.into()],
        )?;
        table::execute("DELETE FROM ods.source_member WHERE table_id = $1", &[synced.id.into()])?;
        Ok(true)
    })
}

/// Partitions came or went: new ones are loaded, the rows of those that went are searched for.
fn change_members(synced: &SyncedTable, carried: &[&Published]) -> Result<()> {
    let gone =
        synced.members.iter().any(|member| carried.iter().all(|there| there.oid != member.oid));
    xact::in_transaction(|| {
        table::execute(
            "DELETE FROM ods.source_member WHERE table_id = $1 AND source_oid <> ALL ($2)",
            &[
                synced.id.into(),
                carried.iter().map(|there| Oid::from(there.oid)).collect::<Vec<_>>().into(),
            ],
        )?;
        for there in carried {
            table::execute(
                "INSERT INTO ods.source_member (table_id, source_oid, source_schema, source_table, rows_estimated) \
                 VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
                &[
                    synced.id.into(),
                    Oid::from(there.oid).into(),
                    there.schema.as_str().into(),
                    there.name.as_str().into(),
                    there.estimated_rows.into(),
                ],
            )?;
        }
        // A partition that was attached with rows may hold keys that stood elsewhere before.
        let is_new = synced.misses_nothing();
        begin_again(synced.id, if gone || is_new { Sweep::Due } else { Sweep::None })?;
        if is_new {
            table::set_state(synced.id, TableState::Loading, Some(PARTITIONS_CHANGED), None)?;
        }
        Ok(())
    })
}
