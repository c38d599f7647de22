//! Whether a source table and its synced table hold the same rows.

use super::client::{Ask, literal};
use postgres::Client;
use std::collections::BTreeMap;

/// How many differences are told.
const SHOWN: usize = 10;

/// Compares two tables over the columns that they have in common, `_ods_` columns aside, and
/// returns how many rows they have, or what differs.
pub fn compare(
    source: &mut Client,
    source_table: &str,
    ods: &mut Client,
    target_table: &str,
) -> Result<i64, String> {
    let source_columns = columns(source, source_table);
    let target_columns = columns(ods, target_table);
    let shared: Vec<String> =
        source_columns.into_iter().filter(|column| target_columns.contains(column)).collect();
    if shared.is_empty() {
        return Err(format!("{source_table} and {target_table} share no column"));
    }
    let shared: Vec<&str> = shared.iter().map(String::as_str).collect();
    compare_columns(source, source_table, ods, target_table, &shared)
}

/// As [`compare`], over columns that are named (quoted as SQL needs it).
pub fn compare_columns(
    source: &mut Client,
    source_table: &str,
    ods: &mut Client,
    target_table: &str,
    columns: &[&str],
) -> Result<i64, String> {
    let of_source = digest(source, source_table, columns);
    let of_target = digest(ods, target_table, columns);
    if of_source == of_target {
        return Ok(of_source.0);
    }
    let mut balance: BTreeMap<String, i64> = BTreeMap::new();
    for row in texts(source, source_table, columns) {
        *balance.entry(row).or_default() += 1;
    }
    for row in texts(ods, target_table, columns) {
        *balance.entry(row).or_default() -= 1;
    }
    let differing: Vec<(String, i64)> =
        balance.into_iter().filter(|(_, count)| *count != 0).collect();
    let mut message = format!(
        "{source_table} has {} rows, {target_table} has {}; {} rows differ",
        of_source.0,
        of_target.0,
        differing.len()
    );
    for (row, count) in differing.iter().take(SHOWN) {
        let place = if *count > 0 { "only upstream" } else { "only here" };
        let row: String = row.chars().take(200).collect();
        message.push_str(&format!("\n  {place}: {row}"));
    }
    Err(message)
}

/// Row count and a hash that does not depend on the order of rows.
fn digest(client: &mut Client, table: &str, columns: &[&str]) -> (i64, String) {
    let row = client.rows(&format!(
        "SELECT count(*), coalesce(sum(('x' || substr(h, 1, 16))::bit(64)::bigint::numeric), 0),
                coalesce(sum(('x' || substr(h, 17, 16))::bit(64)::bigint::numeric), 0)
         FROM (SELECT md5(convert_to(ROW({})::text, 'UTF8')) AS h FROM {table}) AS hashed",
        columns.join(", ")
    ));
    let text = |column: usize| row[0][column].clone().unwrap_or_default();
    (text(0).parse().expect("a count"), format!("{}/{}", text(1), text(2)))
}

fn texts(client: &mut Client, table: &str, columns: &[&str]) -> Vec<String> {
    client
        .rows(&format!("SELECT ROW({})::text FROM {table}", columns.join(", ")))
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect()
}

fn columns(client: &mut Client, table: &str) -> Vec<String> {
    client
        .rows(&format!(
            "SELECT quote_ident(attname) FROM pg_attribute
             WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped
               AND attname NOT LIKE '\\_ods\\_%' ORDER BY attnum",
            literal(table)
        ))
        .into_iter()
        .filter_map(|row| row.into_iter().next().flatten())
        .collect()
}
