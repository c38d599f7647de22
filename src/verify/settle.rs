//! Tells what is different from what was only on its way.
//!
//! A suspected key is read at the source, and compared here once the stream has passed that read;
//! then again, after every transaction has ended that held a lock for writing the table meanwhile. It
//! differs if the same version of its row, or none, was at the source and here three times running.
//!
//! A change that the stream had brought by one comparison is seen by the next read, which would find
//! another version there; one that came after it would have left another version here. A commit that
//! is in the log and not visible yet, since it waits for a standby, still holds its lock. A row that
//! waits to be read again for lack of a value is not compared; one that was brought by that between a
//! comparison and the look at what waits is caught by the third time.

use super::{Kind, Place, Verification, chunk_of, number, odd};
use crate::catalog::key;
use crate::catalog::table::{SyncedTable, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::load::copy_text;
use crate::load::writers::{self, Writers};
use crate::pg::wait::{Deadline, wait_for_latch};
use crate::pg::{bgworker, interrupt, owner};
use crate::worker::board;
use pgrx::Spi;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long a key is looked at that changes all the time, or that a transaction holds up.
const SETTLING: Duration = Duration::from_secs(60);
/// How long the stream may need to reach what was read.
const CATCHING_UP: Duration = Duration::from_secs(300);
/// How long a table may need to follow again that is being read.
const LOADING: Duration = Duration::from_secs(60);
/// How many times running a key must differ in the same way.
const TIMES: u32 = 3;
/// How soon to look again.
const AGAIN: Duration = Duration::from_millis(50);

/// A key that may differ.
pub struct Suspect {
    key: Vec<String>,
    kind: Kind,
    /// What was seen of it when it was last compared, and how many times running.
    seen: Option<(Versions, u32)>,
}

/// The versions of a row at the source and here; none where there is no row.
type Versions = (Option<String>, Option<String>);

/// How suspects differ, by their places. Versions that are none have not been read.
type Sightings = HashMap<usize, (Kind, Option<Versions>)>;

impl Suspect {
    /// A key that differs at first sight.
    pub fn new(kind: Kind, key: Vec<String>) -> Self {
        Self { key, kind, seen: None }
    }
}

/// How a table follows its stream.
pub struct Standing {
    /// Tells one time from the next.
    load: String,
    /// Rows that wait to be read again for lack of a value.
    lacking: HashSet<Vec<String>>,
    /// Keys whose changes could not be applied, which are told by their dead letters.
    parked: HashSet<Vec<String>>,
}

/// Waits while a table is being read from end to end; an error if it does not follow its stream.
pub fn attend(place: Place, table: &SyncedTable) -> Result<Standing> {
    let deadline = Deadline::after(LOADING);
    loop {
        let (state, standing) = place.step(|| owner::as_extension_owner(|| standing(table.id)))?;
        let name = table.display();
        match (state.as_deref(), standing) {
            (Some("live"), Some(standing)) => return Ok(standing),
            (Some("loading"), _) if !deadline.is_past() => pause(AGAIN),
            (Some("loading"), _) => {
                return Err(OdsError::new(
                    ErrorKind::WrongState,
                    format!(
                        "synced table {name} is being read from its source, which reconciles it"
                    ),
                )
                .hint(format!(
                    "SELECT ods.wait_until_loaded({});",
                    pgrx::spi::quote_literal(&name)
                )));
            }
            (Some(state), _) => {
                return Err(OdsError::new(
                    ErrorKind::WrongState,
                    format!("synced table {name} is {state}: it does not follow its source"),
                )
                .hint(table.resume_sql()));
            }
            (None, _) => {
                return Err(OdsError::new(
                    ErrorKind::NotFound,
                    format!("{name} is no longer a synced table"),
                ));
            }
        }
    }
}

/// The state of a table, where one that only lacks values counts as live. Seen anew at each call.
fn standing(table_id: i32) -> Result<(Option<String>, Option<Standing>)> {
    Spi::connect_mut(|client| {
        let keys = client
            .update("SELECT key FROM ods.reread WHERE table_id = $1", None, &[table_id.into()])
            .map_err(spi_error)?;
        let lacking = keys
            .filter_map(|row| row.get::<Vec<String>>(1).ok().flatten())
            .map(key::read)
            .collect();
        let letters = client
            .update(
                "SELECT key FROM ods.dead_letter WHERE table_id = $1 \
                 UNION SELECT other_key FROM ods.dead_letter WHERE table_id = $1 AND other_key IS NOT NULL",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let parked = letters.filter_map(|row| row.get::<Vec<String>>(1).ok().flatten()).collect();
        let mut states = client
            .update(
                "SELECT CASE WHEN s.state = 'loading' AND (s.resync = 'asked' OR s.sweep = 'none' AND NOT EXISTS \
                            (SELECT FROM ods.source_member m WHERE m.table_id = $1 AND m.state = 'loading')) \
                        THEN 'live' ELSE s.state END, \
                        coalesce(s.load_started_at::text, 'none') \
                 FROM ods.table_state s WHERE s.table_id = $1",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        let Some(row) = states.next() else { return Ok((None, None)) };
        let load = row.get::<String>(2).ok().flatten();
        Ok((
            row.get::<String>(1).ok().flatten(),
            load.map(|load| Standing { load, lacking, parked }),
        ))
    })
}

fn pause(duration: Duration) {
    wait_for_latch(Deadline::after(duration));
    interrupt::check();
}

impl Verification {
    /// Looks at all suspects until each is cleared, found or given up.
    pub(super) fn settle(&mut self) -> Result<()> {
        let mut suspects = std::mem::take(&mut self.suspects);
        if suspects.is_empty() {
            return Ok(());
        }
        let deadline = Deadline::after(SETTLING);
        let mut standing = attend(self.place, &self.table)?;
        while !suspects.is_empty() && !deadline.is_past() {
            let mut sightings = self.look(&suspects)?;
            let now = attend(self.place, &self.table)?;
            let follows_still = now.load == standing.load;
            standing = now;
            let mut rest = Vec::with_capacity(sightings.len());
            for (place, mut suspect) in suspects.into_iter().enumerate() {
                let Some((kind, versions)) = sightings.remove(&place) else { continue };
                if standing.parked.contains(&suspect.key) {
                    continue;
                }
                let is_lacking = standing.lacking.contains(&suspect.key);
                let versions = versions.filter(|_| follows_still && !is_lacking);
                let times = match (&versions, &suspect.seen) {
                    (Some(now), Some((before, times))) if now == before => times + 1,
                    _ => 1,
                };
                if times >= TIMES {
                    self.report.add(kind, suspect.key);
                    continue;
                }
                suspect.kind = kind;
                suspect.seen = versions.map(|versions| (versions, times));
                rest.push(suspect);
            }
            suspects = rest;
            if !suspects.is_empty() {
                self.outlast_writers(deadline)?;
            }
        }
        for suspect in suspects {
            self.report.add(Kind::Undecided, suspect.key);
        }
        Ok(())
    }

    /// Reads suspects at the source, waits until the stream has passed that, and compares.
    fn look(&mut self, suspects: &[Suspect]) -> Result<Sightings> {
        let mut found = HashMap::new();
        let mut first = 0;
        while first < suspects.len() {
            let group = &suspects[first..suspects.len().min(first + self.group)];
            let seen = self.look_at(group)?;
            found.extend(seen.into_iter().map(|(place, sighting)| (first + place, sighting)));
            first += group.len();
        }
        Ok(found)
    }

    fn look_at(&mut self, suspects: &[Suspect]) -> Result<Sightings> {
        let keys: Vec<Vec<String>> = suspects.iter().map(|suspect| suspect.key.clone()).collect();
        let (schema, table) = (&self.table.source_schema, &self.table.source_table);
        let answer = self.ask(&self.source.versions(schema, table, &keys))?;
        let rows = chunk_of(answer.chunk)?;
        self.wait_for(rows.mark)?;
        // The place of each row's key, and the row's version.
        let mut read = Vec::with_capacity(rows.len());
        let mut is_there = vec![false; keys.len()];
        for line in rows.iter() {
            let mut fields = copy_text::fields(line).map(|field| {
                let mut value = Vec::new();
                field.unescape_into(&mut value);
                value
            });
            let (place, version) = fields.next().zip(fields.next()).ok_or_else(odd)?;
            let place = number(&place)?.checked_sub(1).ok_or_else(odd)?;
            *is_there.get_mut(place).ok_or_else(odd)? = true;
            read.push((place, String::from_utf8_lossy(&version).into_owned()));
        }
        let mut found = HashMap::new();
        for (row, difference) in self.differing(&rows, 2)? {
            let (place, version) = read.get(row).ok_or_else(odd)?;
            let versions = (Some(version.clone()), difference.version);
            found.insert(*place, (difference.kind, Some(versions)));
        }
        let others: Vec<usize> = (0..keys.len()).filter(|place| !is_there[*place]).collect();
        if answer.cut {
            // Rows are wider than thought: those that did not come are read in the next round.
            self.group = (self.group / 2).max(1);
            found.extend(others.into_iter().map(|place| (place, (suspects[place].kind, None))));
            return Ok(found);
        }
        let gone: Vec<&[String]> = others.iter().map(|place| keys[*place].as_slice()).collect();
        for (number, version) in self.present(&gone)? {
            let place = *others.get(number).ok_or_else(odd)?;
            found.insert(place, (Kind::Phantom, Some((None, Some(version)))));
        }
        Ok(found)
    }

    fn wait_for(&self, position: u64) -> Result<()> {
        let deadline = Instant::now() + CATCHING_UP;
        match board::wait_until_durable(bgworker::my_database(), self.stream, position, deadline)? {
            board::Wait::Reached => Ok(()),
            board::Wait::Gone | board::Wait::TimedOut => Err(OdsError::new(
                ErrorKind::Timeout,
                format!(
                    "the stream of synced table {} did not reach what was read at its source",
                    self.table.display()
                ),
            )
            .hint("TABLE ods.stream_status;")),
        }
    }

    /// Waits until the transactions have ended that hold locks for writing the source's table now.
    fn outlast_writers(&mut self, deadline: Deadline) -> Result<()> {
        let sql = writers::sql(self.table.members.iter().map(|member| member.oid));
        let mut writers = None;
        while !deadline.is_past() {
            let answer = self.ask(&sql)?;
            let now = answer.results.last().map(writers::holders_in).unwrap_or_default();
            let looked = Writers::look(writers.take(), now);
            if looked.holders.is_empty() {
                return Ok(());
            }
            pause(looked.again.saturating_duration_since(Instant::now()));
            writers = Some(looked);
        }
        Ok(())
    }
}
