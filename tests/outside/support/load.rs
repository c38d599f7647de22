//! Concurrent writers that do everything an application does to a keyed table.

use super::client::Ask;
use postgres::{Client, error::SqlState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The table that writers work on, with an out-of-line value and a generous row.
pub const TABLE: &str = "CREATE TABLE item (
    id bigint PRIMARY KEY,
    owner integer NOT NULL,
    quantity integer NOT NULL,
    note text,
    body text
);
ALTER TABLE item ALTER body SET STORAGE EXTERNAL";

/// Fills [`TABLE`] with rows 1 to `rows`, every hundredth with a body stored out of line.
pub fn fill(client: &mut Client, rows: i64) {
    client.run(&format!(
        "INSERT INTO item
         SELECT i, i % 97, i % 1000, 'note ' || i,
                CASE WHEN i % 100 = 0 THEN repeat(md5(i::text), 200) END
         FROM generate_series(1, {rows}) AS i"
    ));
}

/// What the writers do about a connection that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBreak {
    /// The test fails.
    Fail,
    /// They connect again until they are stopped: the server is being killed.
    Reconnect,
}

/// How to load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Concurrent connections.
    pub writers: u64,
    /// Decides what each writer does.
    pub seed: u64,
    /// Keys up to this one exist at the start.
    pub rows: i64,
    /// Rest between transactions, on average; they come in bursts.
    pub pause: Duration,
    /// What a broken connection means.
    pub on_break: OnBreak,
}

/// Writers at work. Stopped by [`Load::stop`], or when dropped.
pub struct Load {
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
    writers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts writers, each with a connection made by `connect`.
    pub fn start<C>(options: LoadOptions, connect: C) -> Self
    where
        C: Fn() -> Result<Client, postgres::Error> + Send + Sync + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let committed = Arc::new(AtomicU64::new(0));
        let next_id = Arc::new(AtomicI64::new(options.rows + 1));
        let connect = Arc::new(connect);
        let writers = (0..options.writers)
            .map(|number| {
                let writer = Writer {
                    rng: fastrand::Rng::with_seed(options.seed.wrapping_mul(1000) + number),
                    next_id: Arc::clone(&next_id),
                    stop: Arc::clone(&stop),
                    committed: Arc::clone(&committed),
                };
                let connect = Arc::clone(&connect);
                thread::spawn(move || writer.run(options, &*connect))
            })
            .collect();
        Self { stop, committed, writers }
    }

    /// Transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until that many more transactions have committed.
    pub fn wait_for(&self, transactions: u64) {
        let goal = self.committed() + transactions;
        let deadline = std::time::Instant::now() + Duration::from_secs(120);
        while self.committed() < goal {
            assert!(std::time::Instant::now() < deadline, "the load stands still");
            assert!(self.writers.iter().any(|writer| !writer.is_finished()), "every writer failed");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the writers and returns how many transactions they committed.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            writer.join().expect("a writer failed");
        }
        self.committed()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}

struct Writer {
    rng: fastrand::Rng,
    next_id: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
    committed: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, options: LoadOptions, connect: &dyn Fn() -> Result<Client, postgres::Error>) {
        // Races need transactions that follow each other at once; the rest comes after a burst.
        const BURST: u32 = 20;
        let mut client = None;
        let mut in_burst = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let result = match &mut client {
                Some(client) => self.transaction(client),
                None => connect().and_then(|mut fresh| {
                    // Bounds a wait for a standby too, so that a failed test can stop its writers.
                    fresh.batch_execute("SET statement_timeout = '60s'")?;
                    client = Some(fresh);
                    Ok(())
                }),
            };
            match result {
                Ok(()) => {
                    in_burst += 1;
                    if in_burst == BURST {
                        in_burst = 0;
                        thread::sleep(options.pause * BURST);
                    }
                }
                Err(error) if error.code().is_some_and(is_conflict) => {
                    if let Some(client) = &mut client {
                        let _ = client.batch_execute("ROLLBACK");
                    }
                }
                Err(_) if options.on_break == OnBreak::Reconnect => {
                    client = None;
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) => panic!("writer: {error:?}"),
            }
        }
    }

    fn transaction(&mut self, client: &mut Client) -> Result<(), postgres::Error> {
        let sql = self.statements();
        client.batch_execute(&format!("BEGIN; {sql}; COMMIT"))?;
        self.committed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// One transaction's statements.
    fn statements(&mut self) -> String {
        let some = self.some_id();
        let other = self.some_id();
        let value = self.rng.i32(0..1_000_000);
        match self.rng.u32(0..100) {
            0..30 => format!("UPDATE item SET quantity = {value} WHERE id = {some}"),
            30..50 => self.insert(),
            50..60 => format!("DELETE FROM item WHERE id = {some}"),
            60..68 => format!("UPDATE item SET id = {} WHERE id = {some}", self.new_id()),
            68..73 => format!(
                "UPDATE item SET body = repeat(md5('{value}'), 200), note = NULL WHERE id = {some}"
            ),
            73..78 => format!(
                "WITH gone AS (DELETE FROM item WHERE id = {some} RETURNING *)
                   SELECT count(*) FROM gone;
                 INSERT INTO item VALUES ({some}, 1, {value}, 'again', NULL)
                   ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity"
            ),
            78..83 => {
                let parking = -self.new_id();
                format!(
                    "UPDATE item SET id = {parking} WHERE id = {some};
                     UPDATE item SET id = {some} WHERE id = {other};
                     UPDATE item SET id = {other} WHERE id = {parking}"
                )
            }
            83..88 => format!(
                "{}; SAVEPOINT s; DELETE FROM item WHERE id IN ({some}, {other});
                 UPDATE item SET note = 'never seen' WHERE id = {};
                 ROLLBACK TO s; UPDATE item SET owner = {} WHERE id = {some}",
                self.insert(),
                self.some_id(),
                value % 97
            ),
            88..93 => {
                format!("UPDATE item SET note = 'never seen' WHERE id = {some}; ROLLBACK; BEGIN")
            }
            93..98 => format!(
                "UPDATE item SET quantity = quantity + 1, note = 'many {value}'
                 WHERE id BETWEEN {some} AND {some} + 50"
            ),
            _ => {
                let first = self.next_id.fetch_add(100, Ordering::Relaxed);
                format!(
                    "INSERT INTO item SELECT i, i % 97, {value}, 'bulk', NULL
                     FROM generate_series({first}, {first} + 99) AS i"
                )
            }
        }
    }

    fn insert(&mut self) -> String {
        let id = self.new_id();
        format!("INSERT INTO item VALUES ({id}, {}, {}, 'new', NULL)", id % 97, id % 1000)
    }

    fn new_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn some_id(&mut self) -> i64 {
        self.rng.i64(1..self.next_id.load(Ordering::Relaxed).max(2))
    }
}

/// Losing against another writer is part of the load.
fn is_conflict(code: &SqlState) -> bool {
    [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::UNIQUE_VIOLATION,
        SqlState::IN_FAILED_SQL_TRANSACTION,
    ]
    .contains(code)
}
