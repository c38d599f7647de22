//! Whether a person's filter or transform speaks of a column. Pure, but for the statement to paste.

use super::{describe, known};
use crate::catalog::table::SyncedTable;
use crate::drift::{Step, fix};
use crate::error::Result;

/// Refuses a change of a column that a person's transform or filter speaks of.
pub fn check(synced: &SyncedTable, step: &Step, steps: &[Step]) -> Result<()> {
    let number = match step {
        Step::Drop(number) | Step::Rename(number, _) => *number,
        Step::Retype(column) => column.attnum,
        Step::Add(_) => return Ok(()),
    };
    let name = &known(synced, number)?.source_name;
    let speaks = |sql: &Option<String>| sql.as_deref().is_some_and(|sql| mentions(sql, name));
    let which = match (speaks(&synced.filter), speaks(&synced.transform)) {
        (true, _) => "filter",
        (_, true) => "transform",
        _ => return Ok(()),
    };
    let what = format!("{}, and the {which} speaks of it", describe(synced, step));
    let change = format!("-- Then with another {which}:");
    Err(fix::halt(synced, what, fix::again(synced, &change, None, steps)?))
}

/// Whether SQL speaks of a column: by its name, or of all columns at once.
pub fn mentions(sql: &str, column: &str) -> bool {
    let sql = sql.to_lowercase();
    let column = column.to_lowercase();
    names(&sql, &column) || names(&sql, &column.replace('"', "\"\"")) || of_all(&sql)
}

/// Whether SQL has a word, or a name in quotes.
pub fn names(sql: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    sql.match_indices(word).any(|(at, _)| {
        !sql[..at].ends_with(is_part) && !sql[at + word.len()..].starts_with(is_part)
    })
}

/// Whether SQL takes all columns at once: by a star, by a join over whatever both sides have, or by
/// a row as one value.
fn of_all(sql: &str) -> bool {
    let words = words(sql);
    let word = |at: usize| words.get(at).copied().unwrap_or_default();
    let before = |at: usize| at.checked_sub(1).map(word).unwrap_or_default();
    let mut rows = vec!["batch", "source_row"];
    for at in (0..words.len()).filter(|&at| word(at) == "batch") {
        let alias = if word(at + 1) == "as" { at + 2 } else { at + 1 };
        let follows = matches!(before(at), "from" | "join" | "only" | ",");
        if follows && is_name(word(alias)) {
            if word(alias + 1) == "(" {
                return true;
            }
            rows.push(word(alias));
        }
    }
    (0..words.len()).any(|at| {
        let is_row = rows.contains(&word(at).trim_matches('"'))
            && word(at + 1) != "."
            && !matches!(before(at), "from" | "join" | "only")
            // Where it is given to the batch.
            && !(before(at) == "batch" && matches!(before(at.saturating_sub(1)), "from" | "join" | "only" | ","))
            && !(before(at) == "as" && before(at.saturating_sub(1)) == "batch");
        let is_star = word(at) == "*"
            && (matches!(before(at), "select" | "," | "." | "distinct" | "all")
                || word(at + 1) == "from");
        is_row || is_star || word(at) == "natural"
    })
}

/// What may stand behind a table in a FROM clause and is no name for it.
const NO_NAMES: &[&str] = &[
    "where",
    "group",
    "having",
    "window",
    "union",
    "intersect",
    "except",
    "order",
    "limit",
    "offset",
    "fetch",
    "for",
    "join",
    "inner",
    "left",
    "right",
    "full",
    "cross",
    "natural",
    "on",
    "using",
    "tablesample",
];

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"')
        && !NO_NAMES.contains(&word)
}

/// Words, names in quotes, and single other characters.
fn words(sql: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = sql.trim_start();
    while let Some(first) = rest.chars().next() {
        let end = match first {
            '"' => rest[1..].find('"').map(|at| at + 2),
            c if c.is_alphanumeric() || c == '_' => {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
            }
            c => Some(c.len_utf8()),
        };
        let (word, further) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word);
        rest = further.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::mentions;

    #[test]
    fn user_sql_speaks_of_columns_by_name_or_all_at_once() {
        for (sql, speaks) in [
            ("SELECT id, Price * 2 FROM batch", true),
            ("SELECT id, price_net FROM batch", false),
            ("SELECT id, a * b FROM batch", false),
            ("SELECT * FROM batch", true),
            ("SELECT b.* FROM batch b", true),
            ("\"price\" > 1", true),
            ("count(*) > 1", false),
            ("SELECT id, (a) * 2 FROM batch", false),
            ("SELECT id, to_jsonb(batch) AS doc FROM batch", true),
            ("SELECT id, to_jsonb(b) AS doc FROM batch AS b", true),
            ("SELECT id, to_jsonb(b) AS doc FROM batch b WHERE b.id > 1", true),
            ("SELECT b.id, b.a FROM batch b", false),
            ("SELECT batch.id FROM batch WHERE batch.a > 1", false),
            ("SELECT x.id FROM other o JOIN batch AS x ON x.id = o.id", false),
            ("SELECT i FROM batch b (i, p)", true),
            ("SELECT id FROM batch NATURAL JOIN other", true),
            ("(source_row).a > 1 OR source_row IS NULL", true),
            ("source_row.a > 1", false),
        ] {
            assert_eq!(mentions(sql, "price"), speaks, "{sql}");
        }
        assert!(mentions("SELECT id, \"we\"\"ird\" FROM batch", "we\"ird"));
    }
}
