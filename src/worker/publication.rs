//! Heartbeats, and keeping the publication and what it carries as the catalog wants them.

mod compare;
mod drift;

pub use compare::{Finding, add_member, compare, drop_member};

use crate::catalog::stream::Stream;
use crate::catalog::table::SyncedColumn;
use crate::decode::lsn::Lsn;
use crate::drift::ask::Look;
use crate::error::{ErrorKind, Result};
use crate::pg::clock;
use crate::pg::wait::Deadline;
use crate::settings;
use crate::source::postgres::exchange::Exchange;
use crate::source::postgres::upkeep::{self, Heartbeat, Partitions};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// A statement that the source refused is not tried again sooner.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

enum Doing {
    Nothing,
    Heartbeat { sent: Instant, sent_us: i64 },
    Altering { sql: String },
}

/// What stands in the way of a table, and the statement that helps.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Obstacle {
    reason: String,
    fix: String,
}

/// A table that has changed at its source.
pub struct Pending {
    /// The columns that were known when the source was asked.
    pub known: Vec<SyncedColumn>,
    /// What it answered.
    pub look: Look,
    /// What else was found.
    pub finding: Finding,
}

/// What goes over the control connection.
pub struct Upkeep {
    interval: Duration,
    partitions: Partitions,
    next: Instant,
    doing: Doing,
    /// Statements to run, as the last heartbeat made them necessary.
    queue: VecDeque<String>,
    /// Statements that the source refused, until when they are left alone, and why.
    refused: HashMap<String, (Instant, String)>,
    published: HashSet<i32>,
    /// What the catalog says of tables that something stands in the way of.
    told: HashMap<i32, Obstacle>,
    /// Rows of the members of loading tables, as last written to the catalog.
    estimates: HashMap<i32, Vec<(u32, i64)>>,
    clock_skew: i64,
    version: i32,
    /// Roots of the relations that the last heartbeat found in the publication.
    roots: HashMap<u32, u32>,
    /// Tables that have changed, as their source had them when it was asked, until the stream is there.
    looks: HashMap<i32, Pending>,
    /// What the stream was fresh as of when everything was last found to be as it should.
    matched_at: Option<i64>,
}

impl Upkeep {
    /// Upkeep with a heartbeat every `interval`, at a source of this `server_version_num`.
    pub fn new(interval: Duration, version: i32) -> Self {
        let now = Instant::now();
        Self {
            interval,
            partitions: Partitions::of_version(version),
            next: now,
            doing: Doing::Nothing,
            queue: VecDeque::new(),
            refused: HashMap::new(),
            published: HashSet::new(),
            told: HashMap::new(),
            estimates: HashMap::new(),
            clock_skew: 0,
            version,
            roots: HashMap::new(),
            looks: HashMap::new(),
            matched_at: None,
        }
    }

    /// Tables that have changed, where the stream is as far as the change.
    pub fn take_due(&mut self, position: Lsn) -> Vec<(i32, Pending)> {
        self.looks.extract_if(|_, pending| pending.look.until <= position).collect()
    }

    /// Whether a table has changed beyond where the stream is.
    pub fn awaits_position(&self) -> bool {
        !self.looks.is_empty()
    }

    /// What the stream was fresh as of when everything was last found to be as it should.
    pub fn matched_at(&self) -> Option<i64> {
        self.matched_at
    }

    /// Time between heartbeats.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Tables whose changes the stream carries.
    pub fn published(&self) -> &HashSet<i32> {
        &self.published
    }

    /// The root of a relation that the last heartbeat found in the publication.
    pub fn root_of(&self, relation: u32) -> Option<u32> {
        self.roots.get(&relation).copied()
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

    /// Takes note that somebody else has written about the tables in the catalog.
    pub fn tell_anew(&mut self) {
        self.told.clear();
        self.estimates.clear();
        self.look_soon();
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
                    // What is still to be done, this heartbeat tells anew.
                    self.queue.clear();
                    return Ok(Some(heartbeat));
                }
                (Doing::Altering { sql }, Ok(_)) => {
                    self.refused.remove(&sql);
                    self.look_soon();
                }
                (Doing::Altering { sql }, Err(error)) if error.kind == ErrorKind::SourceRefused => {
                    let until = Instant::now() + REFUSED_PAUSE;
                    self.refused.insert(sql, (until, error.to_string()));
                    self.look_soon();
                }
                (_, Err(error)) => return Err(error),
                (Doing::Nothing, Ok(_)) => {}
            }
        }
        let now = Instant::now();
        if now >= self.next {
            self.next = now + self.interval;
            let sql = upkeep::heartbeat_sql(&stream.slot, &stream.publication, self.version);
            control.send(&sql, Deadline::after(settings::network_timeout()), 0)?;
            self.doing = Doing::Heartbeat { sent: now, sent_us: clock::now() };
        } else if let Some(sql) = self.queue.pop_front() {
            control.send(&upkeep::brief(&sql), Deadline::after(settings::network_timeout()), 0)?;
            self.doing = Doing::Altering { sql };
        }
        Ok(None)
    }

    /// Has `sql` run at the source, unless it was refused a moment ago; the refusal, if there was one.
    fn ask_for(&mut self, sql: String) -> Option<String> {
        let refused = self.refused.get(&sql);
        let reason = refused.map(|(_, reason)| reason.clone());
        let is_due = refused.is_none_or(|(until, _)| *until <= Instant::now());
        if is_due && !self.queue.contains(&sql) {
            self.queue.push_back(sql);
        }
        reason
    }
}
