//! What the launcher does next, decided from the board alone. Pure.

use super::board::{DatabaseEntry, DatabaseState, Header, Stream};
use pgrx::pg_sys::Oid;

/// Databases that are looked into at a time, so that the start of a server with many of them does
/// not take all worker slots at once.
const VISITS_AT_A_TIME: usize = 2;

/// Something for the launcher to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start the maintenance worker of the database entry at this index.
    StartMaintenance { index: usize, database: Oid },
    /// Start the jobs worker of the database entry at this index.
    StartJobs { index: usize, database: Oid },
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
    let is_due = |entry: &DatabaseEntry| {
        entry.process.is_due(now) || (entry.jobs_wanted && entry.jobs.is_due(now))
    };
    header.databases.iter().any(|entry| !entry.is_free() && is_due(entry))
        || streams.iter().any(|stream| !stream.is_free() && stream.process.is_due(now))
}

/// Decides what to do at `now`. `databases` are those that accept connections; entries of others
/// are given back once their workers have ended. Everything ordered to start counts as launched.
pub fn plan(header: &mut Header, streams: &mut [Stream], databases: &[Oid], now: i64) -> Plan {
    let mut plan = Plan::default();
    give_back_databases(header, databases, now, &mut plan);
    start_maintenance(header, now, &mut plan);
    start_jobs(header, now, &mut plan);
    for (index, stream) in streams.iter_mut().enumerate().filter(|(_, s)| !s.is_free()) {
        let is_held = header.is_stream_held(stream.database, stream.stream_id);
        let is_kept = stream.wanted && databases.contains(&stream.database);
        decide_stream(index, stream, is_held, is_kept, now, &mut plan);
    }
    plan
}

/// Frees entries of databases that lack the extension or are gone.
fn give_back_databases(header: &mut Header, databases: &[Oid], now: i64, plan: &mut Plan) {
    for index in 0..header.databases.len() {
        let is_held = header.is_held(header.databases[index].oid);
        let entry = &mut header.databases[index];
        if entry.is_free() {
            continue;
        }
        for process in [&mut entry.process, &mut entry.jobs] {
            if process.is_lost(now) {
                process.ended(now);
            }
        }
        // Somebody has written to the catalog since, so the extension has come.
        if entry.state == DatabaseState::Absent && entry.dirty {
            entry.say(DatabaseState::Unknown, "");
        }
        let is_absent = entry.state == DatabaseState::Absent;
        let is_gone = !databases.contains(&entry.oid);
        let is_stopped = entry.process.is_stopped() && entry.jobs.is_stopped();
        if is_stopped && !is_held && (is_absent || is_gone) {
            if is_absent {
                plan.absent.push(entry.oid);
            }
            entry.free();
        }
    }
}

/// Orders the maintenance workers that are due, few at a time where nobody has looked yet.
fn start_maintenance(header: &mut Header, now: i64, plan: &mut Plan) {
    let is_visit = |entry: &DatabaseEntry| entry.state == DatabaseState::Unknown;
    let under_way = header.databases.iter().filter(|e| is_visit(e) && !e.process.is_stopped());
    let mut visits = under_way.count();
    for index in 0..header.databases.len() {
        let is_held = header.is_held(header.databases[index].oid);
        let entry = &mut header.databases[index];
        if entry.is_free() || is_held {
            continue;
        }
        if entry.process.is_due(now) {
            if is_visit(entry) {
                // The end of a visit wakes the launcher for the next one.
                if visits >= VISITS_AT_A_TIME {
                    continue;
                }
                visits += 1;
            }
            entry.process.launch(now);
            plan.orders.push(Order::StartMaintenance { index, database: entry.oid });
        }
        plan.look_again(entry.process.next_decision());
    }
}

/// Orders the jobs workers that are due.
fn start_jobs(header: &mut Header, now: i64, plan: &mut Plan) {
    for index in 0..header.databases.len() {
        let is_held = header.is_held(header.databases[index].oid);
        let entry = &mut header.databases[index];
        let is_running = entry.state == DatabaseState::Running;
        if entry.is_free() || is_held || !is_running || !entry.jobs_wanted {
            continue;
        }
        if entry.jobs.is_due(now) {
            entry.jobs.launch(now);
            plan.orders.push(Order::StartJobs { index, database: entry.oid });
        }
        plan.look_again(entry.jobs.next_decision());
    }
}

/// Orders the worker of a stream to start or to end, or gives its entry back.
fn decide_stream(
    index: usize,
    stream: &mut Stream,
    is_held: bool,
    is_kept: bool,
    now: i64,
    plan: &mut Plan,
) {
    if stream.process.is_lost(now) {
        stream.process.ended(now);
    }
    if !stream.wanted && stream.process.pid != 0 {
        plan.orders.push(Order::Terminate(stream.process.pid));
    }
    if is_held {
        return;
    }
    if !is_kept && stream.process.is_stopped() {
        stream.free();
        return;
    }
    if is_kept && stream.process.is_due(now) {
        stream.process.launch(now);
        let (database, stream_id) = (stream.database, stream.stream_id);
        plan.orders.push(Order::StartStream { index, database, stream_id });
    }
    plan.look_again(stream.process.next_decision());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pg::shmem::Layout;
    use crate::worker::board::Board;
    use crate::worker::board::hold::{Entry as Hold, Out};

    const NOW: i64 = 1_000_000_000;

    fn oid(number: u32) -> Oid {
        Oid::from(number)
    }

    /// A board with these databases, none of them looked into yet.
    fn with_databases(oids: &[u32]) -> Header {
        let mut header = Board::header();
        for &number in oids {
            header.database_or_new(oid(number)).expect("the board has room");
        }
        header
    }

    fn stream(database: u32, stream_id: i32) -> Stream {
        Stream::wanted(oid(database), stream_id, NOW)
    }

    fn started(plan: &Plan) -> usize {
        plan.orders.iter().filter(|o| matches!(o, Order::StartMaintenance { .. })).count()
    }

    #[test]
    fn looks_into_few_databases_at_a_time() {
        let mut header = with_databases(&[1, 2, 3]);
        let all = [oid(1), oid(2), oid(3)];
        assert_eq!(started(&plan(&mut header, &mut [], &all, NOW)), 2);
        let waiting = plan(&mut header, &mut [], &all, NOW + 1);
        assert_eq!(started(&waiting), 0);
        assert!(waiting.look_again_at.is_some_and(|at| at > NOW + 1), "no busy waiting");
        header.databases[0].say(DatabaseState::Running, "");
        assert_eq!(started(&plan(&mut header, &mut [], &all, NOW + 2)), 1);
    }

    #[test]
    fn forgets_databases_without_the_extension_and_dropped_ones() {
        let mut header = with_databases(&[1, 2]);
        header.databases[0].say(DatabaseState::Absent, "");
        let plan = plan(&mut header, &mut [], &[oid(1)], NOW);
        assert_eq!(plan.absent, [oid(1)]);
        assert!(header.databases.iter().all(DatabaseEntry::is_free));
        assert_eq!(plan.orders, []);
    }

    #[test]
    fn looks_again_where_the_extension_was_created_meanwhile() {
        let mut header = with_databases(&[1]);
        header.databases[0].say(DatabaseState::Absent, "");
        header.databases[0].dirty = true;
        let plan = plan(&mut header, &mut [], &[oid(1)], NOW);
        assert_eq!(plan.orders, [Order::StartMaintenance { index: 0, database: oid(1) }]);
    }

    #[test]
    fn starts_a_jobs_worker_where_jobs_wait() {
        let mut header = with_databases(&[1]);
        header.databases[0].process.attach(10, NOW);
        header.databases[0].say(DatabaseState::Running, "");
        let all = [oid(1)];
        assert_eq!(plan(&mut header, &mut [], &all, NOW).orders, []);
        header.databases[0].jobs_wanted = true;
        let start = Order::StartJobs { index: 0, database: oid(1) };
        assert_eq!(plan(&mut header, &mut [], &all, NOW).orders, [start]);
        assert_eq!(plan(&mut header, &mut [], &all, NOW + 1).orders, [], "no second one");
        header.databases[0].jobs.attach(11, NOW + 1);
        header.databases[0].jobs.left();
        header.databases[0].jobs_wanted = false;
        assert_eq!(plan(&mut header, &mut [], &all, NOW + 2).orders, []);
    }

    #[test]
    fn starts_a_wanted_stream_once() {
        let mut header = Board::header();
        let mut streams = [stream(1, 7)];
        let first = plan(&mut header, &mut streams, &[oid(1)], NOW);
        assert_eq!(first.orders, [Order::StartStream { index: 0, database: oid(1), stream_id: 7 }]);
        assert_eq!(plan(&mut header, &mut streams, &[oid(1)], NOW + 1).orders, []);
    }

    #[test]
    fn waits_before_it_starts_a_failed_stream_again() {
        let mut header = Board::header();
        let mut streams = [stream(1, 7)];
        streams[0].process.attach(10, NOW);
        streams[0].process.ended(NOW);
        let early = plan(&mut header, &mut streams, &[oid(1)], NOW);
        assert_eq!((early.orders.len(), early.look_again_at), (0, Some(NOW + 100_000)));
        assert_eq!(plan(&mut header, &mut streams, &[oid(1)], NOW + 100_000).orders.len(), 1);
    }

    #[test]
    fn ends_and_then_forgets_an_unwanted_stream() {
        let mut header = Board::header();
        let mut streams = [stream(1, 7)];
        streams[0].process.attach(10, NOW);
        streams[0].wanted = false;
        assert_eq!(plan(&mut header, &mut streams, &[oid(1)], NOW).orders, [Order::Terminate(10)]);
        streams[0].process.left();
        plan(&mut header, &mut streams, &[oid(1)], NOW);
        assert!(streams[0].is_free());
    }

    #[test]
    fn stays_out_of_a_held_database() {
        let mut header = with_databases(&[1, 2]);
        header.holds[0] = Hold { database: oid(1), out: Out::All, pid: 99 };
        let mut streams = [stream(1, 7), stream(2, 8)];
        let held = plan(&mut header, &mut streams, &[oid(1), oid(2)], NOW);
        let expected = [
            Order::StartMaintenance { index: 1, database: oid(2) },
            Order::StartStream { index: 1, database: oid(2), stream_id: 8 },
        ];
        assert_eq!(held.orders, expected);
        header.holds[0].pid = 0;
        assert_eq!(plan(&mut header, &mut streams, &[oid(1), oid(2)], NOW).orders.len(), 2);
    }

    #[test]
    fn a_held_stream_holds_no_other_worker() {
        let mut header = with_databases(&[1]);
        header.holds[0] = Hold { database: oid(1), out: Out::Stream(7), pid: 99 };
        let mut streams = [stream(1, 7), stream(1, 8)];
        let expected = [
            Order::StartMaintenance { index: 0, database: oid(1) },
            Order::StartStream { index: 1, database: oid(1), stream_id: 8 },
        ];
        assert_eq!(plan(&mut header, &mut streams, &[oid(1)], NOW).orders, expected);
    }

    #[test]
    fn keeps_the_entries_of_a_held_database_that_is_not_listed() {
        let mut header = with_databases(&[1]);
        header.holds[0] = Hold { database: oid(1), out: Out::All, pid: 99 };
        let mut streams = [stream(1, 7)];
        plan(&mut header, &mut streams, &[], NOW);
        assert!(!streams[0].is_free() && !header.databases[0].is_free());
    }
}
