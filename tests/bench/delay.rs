//! How long rows are on their way until a query sees them.

use postgres::Client;
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks of the reader; the kernel adds about 50 µs.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// How long rows may be on their way before the measurement fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long half of all rows took at most, and 99 of 100, in milliseconds.
#[derive(Clone, Copy)]
pub struct Quantiles {
    pub p50: f64,
    pub p99: f64,
}

impl Quantiles {
    /// What any measurement is better than.
    pub const NONE: Self = Self { p50: f64::INFINITY, p99: f64::INFINITY };

    /// Of these delays.
    pub fn of(mut delays: Vec<Duration>) -> Self {
        delays.sort_unstable();
        let at = |percent: usize| delays[(delays.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
        Self { p50: at(50), p99: at(99) }
    }

    /// The better of two measurements.
    pub fn best(self, other: Self) -> Self {
        Self { p50: self.p50.min(other.p50), p99: self.p99.min(other.p99) }
    }
}

/// When each of so many rows of a table was seen first. Their keys, in `id`, begin at `first`, without gaps.
pub fn first_seen(client: &mut Client, table: &str, first: i64, count: usize) -> Vec<Instant> {
    let select = client
        .prepare(&format!("SELECT id FROM {table} WHERE id > $1 ORDER BY id"))
        .expect("the statement is prepared");
    let mut seen: Vec<Option<Instant>> = vec![None; count];
    // Rows before this one were all seen: commits may come in another order than their keys.
    let mut low = 0;
    let mut progress = Instant::now();
    let (mut looks, mut looking) = (0u32, Duration::ZERO);
    while low < count {
        let known = first + i64::try_from(low).expect("few rows") - 1;
        let asked = Instant::now();
        let rows = client.query(&select, &[&known]).expect("new rows are read");
        let now = Instant::now();
        looking += now - asked;
        looks += 1;
        for row in rows {
            let number = usize::try_from(row.get::<_, i64>(0) - first).expect("a row of this run");
            if seen[number].is_none() {
                seen[number] = Some(now);
                progress = now;
            }
        }
        while low < count && seen[low].is_some() {
            low += 1;
        }
        assert!(progress.elapsed() < PATIENCE, "{} rows never arrive", count - low);
        thread::sleep(LOOK_AGAIN);
    }
    println!("  {looks} looks of {:?}", looking / looks.max(1));
    seen.into_iter().flatten().collect()
}
