//! Which rows to read next, table by table, on a connection of their own.

mod next;

use crate::apply::applier::Applier;
use crate::apply::chunk as apply_chunk;
use crate::catalog::table::{self, Sweep, TableState};
use crate::error::{ErrorKind, OdsError, Result, Retry};
use crate::load::chunk::{Rows, key_of, refusal};
use crate::load::writers::{self, Writers};
use crate::pg::wait::{Deadline, Watch};
use crate::pg::xact;
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::exchange::{Answer, Exchange};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Chunks that wait for the stream to pass their mark hold this many times the bytes of one at most.
const CHUNKS_AHEAD: usize = 2;
/// How long a table whose rows the source refused is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long a table is left alone whose state somebody is about to change.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// What one chunk reads.
#[derive(Clone, Debug)]
pub enum What {
    /// Rows of a member in key order.
    Range {
        /// The member.
        member: u32,
        /// How many were asked for.
        limit: usize,
    },
    /// Whether the source still has these keys, which are here.
    Sweep {
        /// The keys.
        keys: Vec<Vec<String>>,
    },
    /// Rows that lack a value here.
    Rereads {
        /// Their keys.
        keys: Vec<Vec<String>>,
    },
}

/// A chunk that was read and waits for the stream.
pub struct Chunk {
    /// The synced table.
    pub table: i32,
    /// What was asked.
    pub what: What,
    /// What came.
    pub rows: Rows,
    /// The last key of a range.
    pub last_key: Option<Vec<String>>,
    /// Whether a range has reached the end.
    pub is_last: bool,
    /// Rows a second at which a range was read.
    pub rate: Option<f64>,
}

enum Step {
    Nothing,
    /// Asking which transactions may have written the table unseen.
    Writers {
        table: i32,
    },
    Reading {
        table: i32,
        what: What,
    },
}

impl Step {
    fn table(&self) -> Option<i32> {
        match self {
            Self::Nothing => None,
            Self::Writers { table } | Self::Reading { table, .. } => Some(*table),
        }
    }
}

/// The loader of one stream.
pub struct Loader {
    exchange: Option<Exchange>,
    step: Step,
    ready: VecDeque<Chunk>,
    /// Tables whose earlier writers have ended.
    settled: HashSet<i32>,
    /// Tables whose earlier writers have not.
    writers: HashMap<i32, Writers>,
    /// How far each member was read, which is ahead of what was applied.
    cursors: HashMap<(i32, u32), Cursor>,
    row_bytes: HashMap<i32, usize>,
    /// Tables whose rows the source refused, until when they are left alone, and why.
    refused: HashMap<i32, (Instant, String)>,
    /// Tables whose rows were all read and are being compared, and what is compared.
    phases: HashMap<i32, &'static str>,
    /// What was last said of each loading table.
    said: HashMap<i32, Option<String>>,
    /// When the last range of each table came, or its first was asked for.
    paced: HashMap<i32, Instant>,
    /// Until when tables whose load is bounded are not read.
    resting: HashMap<i32, Instant>,
    /// When the question on its way was sent.
    sent: Instant,
    indexes_wait: bool,
}

#[derive(Clone, Default)]
struct Cursor {
    after: Option<Vec<String>>,
    at_end: bool,
}

impl Default for Loader {
    fn default() -> Self {
        Self::new()
    }
}

impl Loader {
    /// A loader with nothing under way.
    pub fn new() -> Self {
        Self {
            exchange: None,
            step: Step::Nothing,
            ready: VecDeque::new(),
            settled: HashSet::new(),
            writers: HashMap::new(),
            cursors: HashMap::new(),
            row_bytes: HashMap::new(),
            refused: HashMap::new(),
            phases: HashMap::new(),
            said: HashMap::new(),
            paced: HashMap::new(),
            resting: HashMap::new(),
            sent: Instant::now(),
            indexes_wait: false,
        }
    }

    /// The socket to wait for.
    pub fn watch(&self) -> Option<Watch> {
        self.exchange.as_ref().filter(|exchange| exchange.is_running()).map(Exchange::watch)
    }

    /// When to look again although nothing arrives.
    pub fn wake_at(&self) -> Option<Instant> {
        let now = Instant::now();
        let resting = self.resting.values().copied().filter(|until| *until > now);
        self.writers.values().map(|writers| writers.again).chain(resting).min()
    }

    /// Whether a load that indexes wait for has ended since this was last asked.
    pub fn indexes_wait(&mut self) -> bool {
        std::mem::take(&mut self.indexes_wait)
    }

    /// The mark that the stream must pass for the next chunk.
    pub fn awaited_mark(&self) -> Option<u64> {
        self.ready.front().map(|chunk| chunk.rows.mark)
    }

    /// Forgets what is under way for tables that are no longer being read.
    pub fn retain(&mut self, applier: &mut Applier) {
        let wanted: HashSet<i32> = applier
            .tables()
            .filter(|table| table.memory.is_some())
            .map(|table| table.synced.id)
            .collect();
        self.settled.retain(|id| wanted.contains(id));
        self.cursors.retain(|(id, _), _| wanted.contains(id));
        self.ready.retain(|chunk| wanted.contains(&chunk.table));
        self.refused.retain(|id, _| wanted.contains(id));
        self.writers.retain(|id, _| wanted.contains(id));
        self.phases.retain(|id, _| wanted.contains(id));
        self.paced.retain(|id, _| wanted.contains(id));
        self.resting.retain(|id, _| wanted.contains(id));
        // The reason of a table may have been set by whoever changed its state.
        self.said.clear();
        if self.step.table().is_some_and(|table| !wanted.contains(&table)) {
            self.step = Step::Nothing;
        }
    }

    /// Starts a table's reading anew, as the catalog has it.
    pub fn restart(&mut self, table: i32) {
        self.cursors.retain(|(id, _), _| *id != table);
        self.ready.retain(|chunk| chunk.table != table);
        self.settled.remove(&table);
        self.writers.remove(&table);
        self.phases.remove(&table);
        self.paced.remove(&table);
        self.resting.remove(&table);
        // An answer that is still on its way belongs to what was before.
        if self.step.table() == Some(table) {
            self.step = Step::Nothing;
        }
    }

    /// Goes on with what is under way at the source, and begins what comes next.
    /// `published` tells the tables whose changes the stream carries.
    pub fn advance(
        &mut self,
        applier: &mut Applier,
        published: &HashSet<i32>,
        access: &ServerAccess,
    ) -> Result<()> {
        if let Some(exchange) = &mut self.exchange
            && exchange.is_running()
        {
            match exchange.advance() {
                Ok(None) => return Ok(()),
                Ok(Some(answer)) => self.answered(applier, answer)?,
                // The source refuses to give the rows of one table, for lack of a right or because
                // of a lock, or this connection alone is lost: rows are asked for again later, and
                // the stream goes on.
                Err(error) if error.kind.retry() == Retry::Backoff => {
                    // The connection stands in a transaction that failed.
                    self.exchange = None;
                    if let Some(table) = self.step.table() {
                        self.step = Step::Nothing;
                        let until = Instant::now() + REFUSED_PAUSE;
                        if let Some(found) = applier.table(table) {
                            let synced = &found.synced;
                            let why = match error.kind {
                                ErrorKind::SourceRefused => {
                                    refusal(&error, &synced.source_schema, &synced.source_table)
                                }
                                _ => format!("the connection to read rows by is lost: {error}"),
                            };
                            self.refused.insert(table, (until, why));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.say(applier, published)?;
        // A stream with a backlog passes the marks late: small chunks are read far ahead then.
        let waiting: usize = self.ready.iter().map(|chunk| chunk.rows.lines.len()).sum();
        if waiting >= CHUNKS_AHEAD * settings::chunk_bytes() {
            return Ok(());
        }
        self.begin_next(applier, published, access)
    }

    fn answered(&mut self, applier: &mut Applier, answer: Answer) -> Result<()> {
        match std::mem::replace(&mut self.step, Step::Nothing) {
            Step::Writers { table } => {
                self.refused.remove(&table);
                let now = answer.results.last().map(writers::holders_in).unwrap_or_default();
                let writers = Writers::look(self.writers.remove(&table), now);
                if writers.holders.is_empty() {
                    self.settled.insert(table);
                } else {
                    self.writers.insert(table, writers);
                }
            }
            Step::Reading { table, what } => {
                let Some(rows) = answer.chunk else { return Ok(()) };
                self.refused.remove(&table);
                self.received(applier, table, what, rows, answer.cut);
            }
            Step::Nothing => {}
        }
        Ok(())
    }

    fn received(&mut self, applier: &mut Applier, id: i32, what: What, rows: Rows, cut: bool) {
        let encoding = applier.encoding();
        let Some(table) = applier.table(id) else { return };
        if table.memory.is_none() {
            return;
        }
        if let Some(per_second) = table.synced.rows_per_second {
            let asked = match &what {
                What::Range { .. } => rows.len(),
                What::Sweep { keys } => keys.len(),
                What::Rereads { .. } => 0,
            };
            let rest = Duration::from_secs_f64(asked as f64 / per_second.max(1) as f64);
            self.resting.insert(id, self.sent + rest);
        }
        let mut last_key = None;
        let mut is_last = false;
        let mut rate = None;
        if let What::Range { member, limit } = &what {
            if !rows.is_empty() {
                self.row_bytes.insert(id, (rows.lines.len() / rows.len()).max(1));
                last_key = match last_key_of(&rows, &table.synced.key(), encoding) {
                    Ok(key) => key,
                    Err(error) => {
                        self.restart(id);
                        applier.fail(id, error.context("loading"));
                        return;
                    }
                };
            }
            is_last = !cut && rows.len() < *limit;
            let cursor = self.cursors.entry((id, *member)).or_default();
            if last_key.is_some() {
                cursor.after.clone_from(&last_key);
            }
            cursor.at_end = is_last;
            let now = Instant::now();
            rate = self.paced.insert(id, now).map(|before| {
                rows.len() as f64 / now.duration_since(before).as_secs_f64().max(1e-6)
            });
        }
        self.ready.push_back(Chunk { table: id, what, rows, last_key, is_last, rate });
    }

    /// The next chunk that the stream has caught up with.
    pub fn take_ready(&mut self, position: u64) -> Option<Chunk> {
        if self.ready.front()?.rows.mark > position {
            return None;
        }
        self.ready.pop_front()
    }

    /// Writes a chunk and commits it with `position`, where it can be; the applier has nothing
    /// pending. `mend` says whether it has taken the cause of an error away, so that the rows are
    /// worth reading again.
    pub fn apply(
        &mut self,
        applier: &mut Applier,
        chunk: Chunk,
        position: &str,
        fresh_as_of: Option<i64>,
        mend: &mut dyn FnMut(&OdsError) -> Result<bool>,
    ) -> Result<apply_chunk::Outcome> {
        let id = chunk.table;
        let exchange = &mut self.exchange;
        let keep_reading = &mut || {
            if let Some(exchange) = exchange {
                // A lost connection is noticed when it is next used.
                let _ = exchange.absorb();
            }
        };
        let applied = xact::catch(|| {
            apply_chunk::apply(applier, &chunk, position, fresh_as_of, keep_reading, mend)
        });
        match applied {
            Ok(outcome) => {
                match outcome {
                    apply_chunk::Outcome::ReadAgain => self.restart(id),
                    apply_chunk::Outcome::Held => {
                        self.restart(id);
                        let until = Instant::now() + HELD_PAUSE;
                        let reason = "another session is about to change its state".to_owned();
                        self.refused.insert(id, (until, reason));
                    }
                    apply_chunk::Outcome::Applied | apply_chunk::Outcome::Skipped => {}
                }
                Ok(outcome)
            }
            // Rows that can't be written set their table aside, and nothing else.
            Err(error) if error.kind.retry() == Retry::Never => {
                applier.forget_transaction();
                applier.read_parked_again(id)?;
                if mend(&error)? {
                    self.restart(id);
                    return Ok(apply_chunk::Outcome::ReadAgain);
                }
                applier.fail(id, error.context("loading"));
                self.restart(id);
                Ok(apply_chunk::Outcome::Skipped)
            }
            Err(error) => Err(error),
        }
    }

    /// Says in the catalog what each loading table is doing, where that has changed.
    fn say(&mut self, applier: &mut Applier, published: &HashSet<i32>) -> Result<()> {
        if applier.has_pending() {
            return Ok(());
        }
        for table in applier.tables() {
            let id = table.synced.id;
            let is_mine = table.synced.state == TableState::Loading && !table.synced.is_reshaped;
            if !is_mine || !published.contains(&id) {
                continue;
            }
            let reason = if let Some((_, refusal)) = self.refused.get(&id) {
                Some(refusal.clone())
            } else if let Some(writers) = self.writers.get(&id) {
                Some(writers.reason())
            } else if let Some(phase) = self.phases.get(&id) {
                Some((*phase).to_owned())
            } else if table.synced.sweep == Sweep::Due {
                let bound = table.synced.rows_per_second;
                let bound =
                    bound.map_or_else(String::new, |rows| format!(", at most {rows} rows/s"));
                Some(format!("reconciling with the source{bound}"))
            } else {
                None
            };
            if self.said.get(&id) != Some(&reason)
                && xact::in_transaction(|| table::set_reason(id, reason.as_deref()))?
            {
                self.said.insert(id, reason);
            }
        }
        Ok(())
    }

    /// Connects where that is still to be done. A source that gives no further connection holds up
    /// the reading of this table, and not the stream.
    fn is_connected(&mut self, access: &ServerAccess, table: i32) -> bool {
        if self.exchange.is_some() {
            return true;
        }
        match connect_control(access, Deadline::after(settings::connect_timeout())) {
            Ok(connection) => {
                self.exchange = Some(Exchange::new(connection));
                true
            }
            Err(error) => {
                let reason = format!("no connection to read rows by: {error}");
                self.refused.insert(table, (Instant::now() + REFUSED_PAUSE, reason));
                false
            }
        }
    }

    fn exchange(&mut self) -> Result<&mut Exchange> {
        self.exchange
            .as_mut()
            .ok_or_else(|| OdsError::new(ErrorKind::Bug, "the loader has no connection"))
    }
}

/// The key of the last row.
fn last_key_of(rows: &Rows, key: &[usize], encoding: i32) -> Result<Option<Vec<String>>> {
    let Some(key) = key_of(rows.line(rows.len() - 1), key) else { return Ok(None) };
    let as_text = || apply_chunk::key_text(key.iter().map(Vec::as_slice), encoding);
    if key.iter().all(|part| part.is_ascii()) {
        return as_text().map(Some);
    }
    xact::with_catalog(as_text).map(Some)
}
