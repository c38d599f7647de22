//! The row that an event leaves: six columns, every one told by the event's number.

use super::events::State;
use crate::support::client::Ask;
use postgres::Client;

/// Microseconds since 1970 at the first event.
const BEGIN: u64 = 1_700_000_000_000_000;

/// The table, under a name. The time is a number: the sink's fastest way of writing fails on
/// Debezium's timestamps.
pub fn table_as(name: &str) -> String {
    format!(
        "CREATE TABLE {name} (
    id bigint PRIMARY KEY, customer integer, status text, amount numeric(12,2), note text,
    changed_at bigint)"
    )
}

/// Column `customer`.
pub fn customer(number: u64) -> i32 {
    i32::try_from(number % 99_991).expect("a small number")
}

/// Column `status`.
pub fn status(number: u64) -> &'static str {
    ["placed", "paid", "shipped", "returned"][usize::try_from(number % 4).expect("an index")]
}

/// Column `amount` without its point.
pub fn cents(number: u64) -> u32 {
    u32::try_from(number % 1_000_000).expect("a small number")
}

/// Column `note`.
pub fn note(number: u64) -> String {
    format!("event {number} left this at the front door")
}

/// Column `changed_at`.
pub fn changed_at(number: u64) -> i64 {
    i64::try_from(BEGIN + number).expect("a time")
}

/// Whether a table holds what all events come to, or how it differs.
pub fn check(client: &mut Client, table: &str, expected: &State) -> Result<(), String> {
    let number = format!("(changed_at - {BEGIN})");
    let mut found = client.rows(&format!(
        "SELECT count(*), sum({number}), count(*) FILTER (WHERE customer <> {number} % 99991
             OR status <> (ARRAY['placed', 'paid', 'shipped', 'returned'])[1 + {number} % 4]
             OR amount <> ({number} % 1000000) / 100.0
             OR note <> 'event ' || {number} || ' left this at the front door')
         FROM {table}"
    ));
    let found = found.pop().unwrap_or_default();
    let wanted = [expected.rows, expected.sum, 0].map(|number| Some(number.to_string()));
    if found == wanted {
        return Ok(());
    }
    Err(format!("{table}: rows, their sum, wrong rows are {found:?} instead of {wanted:?}"))
}
