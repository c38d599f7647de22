//! Differences between a synced table and its source, which nothing but a defect makes.

use super::client::{Ask, literal};
use postgres::Client;

/// Runs `sql` on a synced table as if nobody guarded it. The catalog names another table for the
/// time of one transaction, so that the applier never sees it do so.
pub fn make(ods: &mut Client, table: &str, sql: &str) {
    let table = literal(table);
    ods.run(&format!(
        "BEGIN;
         CREATE TEMP TABLE stand_in () ON COMMIT DROP;
         UPDATE ods.synced_table SET relation = 'pg_temp.stand_in' WHERE relation = {table}::regclass;
         {sql};
         UPDATE ods.synced_table SET relation = {table}::regclass WHERE relation = 'pg_temp.stand_in'::regclass;
         COMMIT"
    ));
}
