//! Entries of streams: what their worker tells, and what others read.

use super::process::Process;
use super::text::{Name, Reason};
use super::{Board, board, wake_launcher};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::shmem::{Region, Slot};
use crate::pg::{bgworker, clock, exit};
use pgrx::pg_sys::{InvalidOid, Oid};
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Its worker is being started.
    Starting,
    /// Its worker connects to the source.
    Connecting,
    /// Changes arrive that are older than promised.
    CatchingUp,
    /// Changes arrive as they are made.
    Live,
    /// The source answers and has nothing to send.
    Idle,
    /// An attempt failed; the next one follows after a pause.
    Waiting,
    /// The source does not answer, or something here holds the stream up.
    Stalled,
    /// It can't go on without a person.
    Failed,
    /// The database is a copy, and stays away from sources until it is adopted.
    Fenced,
    /// It is not wanted.
    Stopped,
}

impl StreamState {
    /// The name in views; stable.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Connecting => "connecting",
            Self::CatchingUp => "catching up",
            Self::Live => "live",
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Stalled => "stalled",
            Self::Failed => "failed",
            Self::Fenced => "fenced",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it is true only while the worker comes by to say so.
    fn needs_worker(self) -> bool {
        matches!(self, Self::Live | Self::Idle | Self::CatchingUp)
    }

    /// Whether it stays true when the worker that said it has ended.
    fn outlives_worker(self) -> bool {
        matches!(self, Self::Failed | Self::Fenced | Self::Stalled | Self::Stopped)
    }
}

/// What the counters of a stream's slot mean.
#[derive(Clone, Copy)]
pub(super) enum Counter {
    Received,
    Applied,
    Flushed,
    SourceEnd,
    Rows,
    Transactions,
    LastMessageAt,
    ClockSkew,
    /// When the worker last told that it is at work.
    SeenAt,
    /// Microseconds after which a worker that has not told so is stuck.
    Patience,
    /// Where the local commit of what is applied ends in the local WAL.
    LocalEnd,
    /// The complement of the lowest position that somebody waits for; 0 for nobody.
    Awaited,
}

/// A stream on the board.
#[derive(Clone, Copy)]
pub struct Entry {
    /// Invalid when the entry is free.
    pub database: Oid,
    /// `ods.stream.stream_id` in that database.
    pub stream_id: i32,
    /// The catalog wants it to run.
    pub wanted: bool,
    /// Its worker.
    pub process: Process,
    state: StreamState,
    reason: Reason,
    since: i64,
    /// Its foreign server.
    server: Name,
    /// Its slot at the source.
    slot: Name,
}

impl Entry {
    pub(super) const FREE: Self = Self {
        database: InvalidOid,
        stream_id: 0,
        wanted: false,
        process: Process::STOPPED,
        state: StreamState::Stopped,
        reason: Reason::EMPTY,
        since: 0,
        server: Name::EMPTY,
        slot: Name::EMPTY,
    };

    /// The entry of a stream that is to be started.
    pub fn wanted(database: Oid, stream_id: i32, now: i64) -> Self {
        let state = StreamState::Starting;
        Self { database, stream_id, wanted: true, state, since: now, ..Self::FREE }
    }

    /// Whether this is the entry of that stream.
    pub fn is(&self, database: Oid, stream_id: i32) -> bool {
        self.database == database && self.stream_id == stream_id && database != InvalidOid
    }

    /// Whether the entry belongs to no stream.
    pub fn is_free(&self) -> bool {
        self.database == InvalidOid
    }

    /// Gives the entry back.
    pub fn free(&mut self) {
        *self = Self::FREE;
    }

    /// Says what the stream does, and since when if that is new.
    pub fn say(&mut self, state: StreamState, reason: &str, now: i64) {
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.reason = Reason::new(reason);
    }

    /// The worker has ended; what it said last stands if it is the reason.
    fn ended(&mut self, now: i64) {
        if self.wanted {
            self.process.ended(now);
        } else {
            self.process.left();
        }
        if !self.state.outlives_worker() {
            // A worker that gives up says why it waits; one that is ended from outside can't.
            if self.state != StreamState::Waiting {
                self.say(StreamState::Waiting, "its worker ended, the server log says why", now);
            }
        }
    }
}

/// A stream as others see it. Times are microseconds since 2000-01-01 UTC, 0 for never; positions
/// are as the source counts them, 0 for none yet.
#[derive(Clone, Debug)]
pub struct StreamView {
    /// `ods.stream.stream_id`.
    pub stream_id: i32,
    /// Process of its worker; 0 when none runs.
    pub pid: i32,
    /// Whether it is to run.
    pub wanted: bool,
    /// What it does.
    pub state: StreamState,
    /// Why, where that needs saying.
    pub reason: String,
    /// When that state began.
    pub since: i64,
    /// Since when its worker is busy with one thing, where that is too long; 0 otherwise.
    pub busy_since: i64,
    /// Failures in a row.
    pub attempts: u32,
    /// When the next attempt is due, where one is waited for.
    pub retry_at: i64,
    /// Up to where changes have been received.
    pub received: u64,
    /// Up to where changes are visible here.
    pub applied: u64,
    /// Up to where changes survive a crash here.
    pub flushed: u64,
    /// Where the source's own log ended when it last said so.
    pub source_end: u64,
    /// Rows applied since the server started.
    pub rows_applied: u64,
    /// Upstream transactions applied since the server started.
    pub transactions: u64,
    /// When the source last sent anything.
    pub last_message_at: i64,
    /// The source's clock minus ours, in microseconds.
    pub clock_skew: i64,
}

/// The streams of a database that are on the board.
pub fn snapshot(database: Oid) -> Result<Vec<StreamView>> {
    let board = board()?;
    let now = clock::now();
    let entries = board.read(|_, streams| {
        let mine = streams.iter().copied().enumerate().filter(|(_, s)| s.database == database);
        mine.collect::<Vec<_>>()
    });
    Ok(entries
        .into_iter()
        .filter_map(|(index, entry)| {
            let slot = board.slot(index)?;
            let read = |counter: Counter| slot.counters[counter as usize].load(Ordering::Relaxed);
            Some(StreamView {
                stream_id: entry.stream_id,
                pid: entry.process.pid,
                wanted: entry.wanted,
                state: entry.state,
                reason: entry.reason.as_str().to_owned(),
                since: entry.since,
                busy_since: busy_since(
                    &entry,
                    read(Counter::SeenAt).cast_signed(),
                    read(Counter::Patience).cast_signed(),
                    now,
                ),
                attempts: entry.process.attempts,
                retry_at: if entry.process.is_stopped() { entry.process.retry_at } else { 0 },
                received: read(Counter::Received),
                applied: read(Counter::Applied),
                flushed: read(Counter::Flushed),
                source_end: read(Counter::SourceEnd),
                rows_applied: read(Counter::Rows),
                transactions: read(Counter::Transactions),
                last_message_at: read(Counter::LastMessageAt).cast_signed(),
                clock_skew: read(Counter::ClockSkew).cast_signed(),
            })
        })
        .collect())
}

/// Since when the worker of `entry` is busy, where that is longer than its patience.
fn busy_since(entry: &Entry, seen_at: i64, patience: i64, now: i64) -> i64 {
    let is_told = entry.process.pid != 0 && entry.state.needs_worker() && seen_at != 0;
    if is_told && now.saturating_sub(seen_at) > patience { seen_at } else { 0 }
}

/// A stream of a database that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedStream {
    /// `ods.stream.stream_id`.
    pub id: i32,
    /// Its foreign server.
    pub server: String,
    /// Its slot at the source; empty for a fenced copy, whose slot is another database's.
    pub slot: String,
}

/// Server and slot of each stream that a database runs, for those who take the database away.
/// Those of a fenced copy are not its own. Without the board there are none.
pub fn slots(database: Oid) -> Vec<(String, String)> {
    let Ok(board) = board() else { return Vec::new() };
    board.read(|_, streams| {
        streams
            .iter()
            .filter(|stream| stream.database == database && stream.wanted)
            .filter(|stream| !stream.slot.as_str().is_empty())
            .map(|stream| (stream.server.as_str().to_owned(), stream.slot.as_str().to_owned()))
            .collect()
    })
}

/// Makes the board's streams of a database those that the catalog wants; the launcher does the
/// rest. Returns how many found no room.
pub fn want(database: Oid, wanted: &[WantedStream]) -> Result<usize> {
    let board = board()?;
    let now = clock::now();
    let without_room = board.write(|_, streams| {
        for stream in streams.iter_mut().filter(|stream| stream.database == database) {
            stream.wanted = wanted.iter().any(|wanted| wanted.id == stream.stream_id);
            if !stream.wanted {
                stream.say(StreamState::Stopped, "", now);
            }
        }
        let mut without_room = 0;
        for WantedStream { id, server, slot } in wanted {
            if let Some(stream) = streams.iter_mut().find(|s| s.is(database, *id)) {
                stream.server = Name::new(server);
                stream.slot = Name::new(slot);
                if stream.state == StreamState::Stopped {
                    stream.say(StreamState::Starting, "", now);
                }
                continue;
            }
            let Some((index, stream)) = streams.iter_mut().enumerate().find(|(_, s)| s.is_free())
            else {
                without_room += 1;
                continue;
            };
            *stream = Entry::wanted(database, *id, now);
            stream.server = Name::new(server);
            stream.slot = Name::new(slot);
            // Nobody finds the entry before the lock is released, so nobody sees old counters.
            if let Some(slot) = board.slot(index) {
                slot.counters.iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
            }
        }
        without_room
    });
    board.changed().broadcast();
    wake_launcher();
    Ok(without_room)
}

/// The entry of a stream, held by its worker.
pub struct StreamEntry {
    board: &'static Region<Board>,
    index: usize,
    slot: &'static Slot,
    database: Oid,
    stream_id: i32,
    said: RefCell<(StreamState, String)>,
}

impl StreamEntry {
    /// Attaches this process as the worker of the stream at `index`, which a worker gets as its
    /// argument.
    ///
    /// An error means that the process is not wanted: another one is attached, the stream is gone,
    /// or workers stay out of the database. To be called before the process connects to it.
    pub fn attach_index(index: i32) -> Result<Self> {
        let board = board()?;
        let (me, now) = (bgworker::my_pid(), clock::now());
        let not_wanted = || OdsError::new(ErrorKind::WrongState, "the stream needs no worker");
        let (index, database, stream_id) = board
            .write(|header, streams| {
                let index = usize::try_from(index).ok()?;
                let entry = streams.get_mut(index).filter(|entry| !entry.is_free())?;
                if header.is_stream_held(entry.database, entry.stream_id) || !entry.wanted {
                    if entry.process.pid == 0 {
                        entry.process.left();
                    }
                    return None;
                }
                if !entry.process.attach(me, now) {
                    return None;
                }
                entry.say(StreamState::Starting, "", now);
                Some((index, entry.database, entry.stream_id))
            })
            .ok_or_else(not_wanted)?;
        let slot = board.slot(index).ok_or_else(not_wanted)?;
        exit::at_exit(move || {
            let now = clock::now();
            board.write(|_, streams| {
                if let Some(entry) = streams.get_mut(index).filter(|e| e.process.pid == me) {
                    entry.ended(now);
                }
            });
            slot.moved.broadcast();
            board.changed().broadcast();
            wake_launcher();
        });
        let said = RefCell::new((StreamState::Starting, String::new()));
        Ok(Self { board, index, slot, database, stream_id, said })
    }

    /// The database of the stream.
    pub fn database(&self) -> Oid {
        self.database
    }

    /// `ods.stream.stream_id` in that database.
    pub fn stream_id(&self) -> i32 {
        self.stream_id
    }

    /// Says what the stream does and why; the same as before costs nothing.
    pub fn set_state(&self, state: StreamState, reason: &str) {
        let mut said = self.said.borrow_mut();
        if said.0 == state && said.1 == reason {
            return;
        }
        *said = (state, reason.to_owned());
        let now = clock::now();
        self.board.write(|_, streams| {
            if let Some(entry) = streams.get_mut(self.index) {
                entry.say(state, reason, now);
            }
        });
    }

    /// Says where the local WAL ends the commit that the next [`Self::progress`] tells of.
    pub fn local_end(&self, lsn: u64) {
        self.store(Counter::LocalEnd, lsn);
    }

    /// Says how far the stream is, and wakes those who wait for what is now applied.
    pub fn progress(&self, received: u64, applied: u64, flushed: u64, source_end: u64) {
        self.store(Counter::Received, received);
        self.store(Counter::SourceEnd, source_end);
        self.store(Counter::Flushed, flushed);
        // In one order for all: either the waiter sees the position or we see the waiter.
        self.slot.counters[Counter::Applied as usize].store(applied, Ordering::SeqCst);
        let awaited = &self.slot.counters[Counter::Awaited as usize];
        let lowest = awaited.load(Ordering::SeqCst);
        if lowest != 0 && !lowest <= applied {
            // Whoever is not served by this registers again when he wakes.
            awaited.store(0, Ordering::SeqCst);
            self.broadcast();
        }
    }

    /// Up to where changes are visible here, as this stream's workers last told.
    pub fn applied(&self) -> u64 {
        self.slot.counters[Counter::Applied as usize].load(Ordering::Relaxed)
    }

    /// Adds to the rows and upstream transactions applied.
    pub fn add_rows(&self, rows: u64, transactions: u64) {
        self.slot.counters[Counter::Rows as usize].fetch_add(rows, Ordering::Relaxed);
        self.slot.counters[Counter::Transactions as usize]
            .fetch_add(transactions, Ordering::Relaxed);
    }

    /// Says when the source last sent anything, in microseconds since 2000-01-01 UTC by our clock.
    pub fn message_received(&self, at: i64) {
        self.store(Counter::LastMessageAt, at.cast_unsigned());
    }

    /// Says that the worker is at work, and that silence for longer than `patience` is a trouble.
    pub fn seen(&self, patience: Duration) {
        self.store(Counter::Patience, patience.as_micros().try_into().unwrap_or(u64::MAX));
        self.store(Counter::SeenAt, clock::now().cast_unsigned());
    }

    /// Says how far the source's clock is ahead of ours, in microseconds.
    pub fn clock_skew(&self, skew: i64) {
        self.store(Counter::ClockSkew, skew.cast_unsigned());
    }

    /// Wakes those who wait on this stream, so that they look again.
    pub fn broadcast(&self) {
        self.slot.moved.broadcast();
    }

    fn store(&self, counter: Counter, value: u64) {
        self.slot.counters[counter as usize].store(value, Ordering::Relaxed);
    }
}
