//! Transactions at the source that may have written a table before its changes were sent.

use crate::pg::libpq::Rows;
use std::time::{Duration, Instant};

/// How soon to look again whether old writers have ended.
const WRITERS_AGAIN: Duration = Duration::from_millis(20);
/// How long that grows to, since each look reads the lock table of the source.
const WRITERS_AGAIN_AT_MOST: Duration = Duration::from_secs(1);
/// Transactions of the source that may have written a table unseen.
pub struct Writers {
    /// Those that ran at the first look and have not ended.
    pub holders: Vec<Holder>,
    /// When to look again.
    pub again: Instant,
    pause: Duration,
}

/// A transaction that holds a lock for writing.
#[derive(Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its virtual id, which no other transaction will have.
    transaction: String,
    /// How a person knows it.
    name: String,
}

impl Writers {
    /// Takes note of who holds locks now: only those that were there at the first look can hold
    /// changes that nobody sent.
    pub fn look(before: Option<Self>, now: Vec<Holder>) -> Self {
        let pause = before.as_ref().map_or(WRITERS_AGAIN, |before| before.pause * 2);
        let holders = match before {
            None => now,
            Some(before) => {
                before.holders.into_iter().filter(|holder| now.contains(holder)).collect()
            }
        };
        let pause = pause.min(WRITERS_AGAIN_AT_MOST);
        Self { holders, again: Instant::now() + pause, pause }
    }

    /// What a person is told about the wait.
    pub fn reason(&self) -> String {
        let names: Vec<&str> = self.holders.iter().map(|holder| holder.name.as_str()).collect();
        format!(
            "waits for older transactions at the source that write this table: {}",
            names.join(", ")
        )
    }
}

/// Asks who holds a lock for writing on any of these relations. A transaction that wrote one holds
/// it until its changes are visible, also while it waits for a synchronous standby.
pub fn sql(relations: impl Iterator<Item = u32>) -> String {
    let relations: Vec<String> = relations.map(|oid| oid.to_string()).collect();
    format!(
        "SELECT DISTINCT l.virtualtransaction, \
                    coalesce('process ' || l.pid, 'prepared transaction ' || p.gid, l.virtualtransaction) \
             FROM pg_catalog.pg_locks l \
             LEFT JOIN pg_catalog.pg_prepared_xacts p \
                    ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction::text \
             WHERE l.locktype = 'relation' AND l.relation = ANY ('{{{}}}'::pg_catalog.oid[]) \
               AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
               AND l.granted AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')",
        relations.join(",")
    )
}

/// The answer to [`sql`].
pub fn holders_in(rows: &Rows) -> Vec<Holder> {
    (0..rows.len())
        .filter_map(|row| {
            let transaction = rows.get(row, 0)?.to_owned();
            Some(Holder { name: rows.get(row, 1).unwrap_or(&transaction).to_owned(), transaction })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(names: &[&str]) -> Vec<Holder> {
        names
            .iter()
            .map(|name| Holder { transaction: (*name).into(), name: (*name).into() })
            .collect()
    }

    #[test]
    fn only_writers_of_the_first_look_are_waited_for() {
        let first = Writers::look(None, holders(&["3/7", "4/2"]));
        let second = Writers::look(Some(first), holders(&["4/2", "5/1"]));
        assert_eq!(second.reason().rsplit(": ").next(), Some("4/2"));
        assert!(second.pause > WRITERS_AGAIN);
        assert!(Writers::look(Some(second), holders(&["5/1"])).holders.is_empty());
    }
}
