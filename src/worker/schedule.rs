//! What the launcher does next, decided from the board alone. Pure.

use super::board::{DatabaseState, Header, Stream};
use pgrx::pg_sys::Oid;

/// Databases that are looked into at a time, so that the start of a server with many of them does
/// not take all worker slots at once.
const VISITS_AT_A_TIME: usize = 2;

/// Something for the launcher to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start the maintenance worker of the database entry at this index.
    StartMaintenance { index: usize, database: Oid },
    /// Start the worker of the stream entry at this index.
    StartStream { index: usize, database: Oid, stream_id: i32 },
    /// End this process.
    Terminate(i32),
}

/// What the launcher does now, and when it must look again at the latest.
#[derive(Debug, Default)]
pub struct Plan {
    /// In this order.
    pub orders: Vec<Order>,
    /// Databases that turned out to lack the extension.
    pub absent: Vec<Oid>,
    /// In microseconds since 2000-01-01 UTC; `None` when only an event changes anything.
    pub look_again_at: Option<i64>,
}

impl Plan {
    fn look_again(&mut self, at: Option<i64>) {
        self.look_again_at = match (self.look_again_at, at) {
            (Some(known), Some(at)) => Some(known.min(at)),
            (known, at) => known.or(at),
        };
    }
}

/// Whether [`plan`] would start anything, so that the list of databases is worth reading.
pub fn is_anything_due(header: &Header, streams: &[Stream], now: i64) -> bool {
    header.databases.iter().any(|entry| !entry.is_free() && entry.process.is_due(now))
        || streams.iter().any(|stream| !stream.is_free() && stream.process.is_due(now))
}

/// Decides what to do at `now`. `databases` are those that accept connections; entries of others
/// are given back once their workers have ended. Everything ordered to start counts as launched.
pub fn plan(header: &mut Header, streams: &mut [Stream], databases: &[Oid], now: i64) -> Plan {
    let mut plan = Plan::default();
    let held: Vec<Oid> =
        header.holds.iter().filter(|hold| hold.pid != 0).map(|hold| hold.database).collect();

    for entry in header.databases.iter_mut().filter(|entry| !entry.is_free()) {
        if entry.process.is_lost(now) {
            entry.process.ended(now);
        }
        if entry.state == DatabaseState::Absent && entry.dirty {
            entry.say(DatabaseState::Unknown, "");
        }
        let is_absent = entry.state == DatabaseState::Absent;
        if entry.process.is_stopped()
            && !held.contains(&entry.oid)
            && (is_absent || !databases.contains(&entry.oid))
        {
            if is_absent {
                plan.absent.push(entry.oid);
            }
            entry.free();
        }
    }
    let mut visits = header
        .databases
        .iter()
        .filter(|entry| entry.state == DatabaseState::Unknown && !entry.process.is_stopped())
        .count();
    for (index, entry) in header.databases.iter_mut().enumerate() {
        if entry.is_free() || held.contains(&entry.oid) {
            continue;
        }
        let is_visit = entry.state == DatabaseState::Unknown;
        if entry.process.is_due(now) {
            // The end of a visit wakes the launcher for the next one.
            if is_visit && visits >= VISITS_AT_A_TIME {
                continue;
            }
            visits += usize::from(is_visit);
            entry.process.launch(now);
            plan.orders.push(Order::StartMaintenance { index, database: entry.oid });
        }
        plan.look_again(entry.process.next_decision());
    }

    for (index, stream) in streams.iter_mut().enumerate().filter(|(_, s)| !s.is_free()) {
        if stream.process.is_lost(now) {
            stream.process.ended(now);
        }
        if !stream.wanted && stream.process.pid != 0 {
            plan.orders.push(Order::Terminate(stream.process.pid));
        }
        if stream.process.is_stopped()
            && !held.contains(&stream.database)
            && (!stream.wanted || !databases.contains(&stream.database))
        {
            stream.free();
            continue;
        }
        if !stream.wanted || held.contains(&stream.database) {
            continue;
        }
        if stream.process.is_due(now) {
            stream.process.launch(now);
            let (database, stream_id) = (stream.database, stream.stream_id);
            plan.orders.push(Order::StartStream { index, database, stream_id });
        }
        plan.look_again(stream.process.next_decision());
    }
    plan
}
