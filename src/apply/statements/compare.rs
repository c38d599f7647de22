//! The SQL that compares what is here with what the source has, and writes nothing.

use super::{OnDelete, Shape, list, quote_ident};

/// Which keys a statement looks at. Where both ends are given, the upper one's parameters come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Whether only keys behind one are looked at.
    pub after: bool,
    /// Whether only keys up to one are looked at.
    pub up_to: bool,
}

/// What tells one version of a row here from the next.
const VERSION: &str = "pg_catalog.format('%s %s %s', t.tableoid, t.ctid, t.xmin)";

/// The place in the batch that stands in a column of times, in microseconds.
fn place(column: &str) -> String {
    format!("((EXTRACT(epoch FROM {column}) - 946684800) * 1000000)::pg_catalog.int8")
}

impl Shape {
    /// For a batch of whole rows `v0…` with their places as in [`Self::differing`], the places of
    /// those that one of the `not_null` columns or of the `checks`, which are SQL over the target's
    /// columns, refuses. None where there is neither.
    pub fn refused(&self, not_null: &[String], checks: &[String]) -> Option<String> {
        let nulls = not_null.iter().map(|column| format!("r.{} IS NULL", quote_ident(column)));
        let broken = checks.iter().map(|check| format!("NOT ({check})"));
        let conditions: Vec<String> = nulls.chain(broken).collect();
        (!conditions.is_empty()).then(|| {
            format!(
                "SELECT {} FROM {} r WHERE {}",
                place("r._ods_at"),
                self.rows(),
                conditions.join(" OR ")
            )
        })
    }

    /// For a batch of whole rows `v0…`, those that reconciling would write: how they differ, their
    /// place in the batch, and the version of the row here. The column that tells the time of a
    /// commit holds the place instead, in microseconds.
    pub fn differing(&self) -> String {
        let targets = self.targets();
        let ours = list(&targets, ", ", |name| format!("t.{}", quote_ident(name)));
        let theirs = list(&targets, ", ", |name| format!("r.{}", quote_ident(name)));
        let marked = if self.has_mark { " OR t.\"_ods_deleted_at\" IS NOT NULL" } else { "" };
        let mut sql = format!(
            "SELECT CASE WHEN t.tableoid IS NULL THEN 'missing' ELSE 'differing' END, {}, \
                    CASE WHEN t.tableoid IS NOT NULL THEN {VERSION} END \
             FROM {} r LEFT JOIN {} t ON {} \
             WHERE t.tableoid IS NULL OR ROW({ours})::record OPERATOR(pg_catalog.*<>) ROW({theirs})::record{marked}",
            place("r._ods_at"),
            self.rows(),
            self.table,
            self.same_key("t", "r", "_ods_k"),
        );
        let is_turned_away = match (&self.transform, &self.filter) {
            (None, None) => return sql,
            (Some(_), _) => format!(
                "NOT EXISTS (SELECT FROM {} r WHERE {})",
                self.rows(),
                self.same_key("t", "r", "_ods_k")
            ),
            (None, Some(_)) => format!("NOT {}", self.passes("b")),
        };
        sql.push_str(&format!(
            " UNION ALL SELECT 'phantom', {}, {VERSION} FROM batch b JOIN {} t ON {} WHERE {is_turned_away}",
            place("b.committed_at"),
            self.table,
            self.is_row("t", "b"),
        ));
        sql
    }

    /// For a batch of keys `k0…` with an `ordinal`, those that have a row here: the ordinal, and the
    /// version of the row.
    pub fn present(&self) -> String {
        let unmarked = if self.on_delete == OnDelete::Mark {
            " AND t.\"_ods_deleted_at\" IS NULL"
        } else {
            ""
        };
        format!(
            "SELECT b.ordinal, {VERSION} FROM batch b JOIN {} t ON {}{unmarked}",
            self.table,
            self.same_key("t", "b", "k")
        )
    }

    /// The keys here in a range, in order, as text in UTF-8. `$1` is the limit; then come the ends.
    pub fn keys_within(&self, range: Range) -> String {
        let columns = list(self.key_targets(), ", ", |name| {
            format!(
                "pg_catalog.convert_to(pg_catalog.format('%s', t.{}), 'UTF8')",
                quote_ident(&name)
            )
        });
        let order = list(self.key_targets(), ", ", |name| format!("t.{}", quote_ident(&name)));
        format!(
            "SELECT {columns} FROM {} t{} ORDER BY {order} LIMIT $1",
            self.table,
            self.within(range, 2)
        )
    }

    /// How many rows a range has here, and the sum of their hashes, which their order does not
    /// change.
    pub fn digest(&self, range: Range) -> String {
        let row = list(self.targets(), ", ", |name| format!("t.{}", quote_ident(&name)));
        format!(
            "SELECT pg_catalog.convert_to(pg_catalog.count(*)::text, 'UTF8'), \
                    pg_catalog.convert_to(coalesce(pg_catalog.sum({}), 0)::text, 'UTF8') FROM {} t{}",
            hash_of(&row),
            self.table,
            self.within(range, 1)
        )
    }

    fn within(&self, range: Range, first: usize) -> String {
        let key = list(self.key_targets(), ", ", |name| format!("t.{}", quote_ident(&name)));
        let mut parameter = first;
        let mut end = |comparison: &str| {
            let values = list(self.key.iter(), ", ", |&column| {
                let value = self.key_parameter(column, parameter);
                parameter += 1;
                value
            });
            format!("ROW({key}) {comparison} ROW({values})")
        };
        let mut conditions = Vec::new();
        if range.after {
            conditions.push(end(">"));
        }
        if range.up_to {
            conditions.push(end("<="));
        }
        if self.on_delete == OnDelete::Mark {
            conditions.push("t.\"_ods_deleted_at\" IS NULL".to_owned());
        }
        if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        }
    }
}

/// A hash of a row's text that comes to the same on every version of Postgres.
pub fn hash_of(row: &str) -> String {
    format!("pg_catalog.hashtextextended(ROW({row})::text COLLATE pg_catalog.\"C\", 0)")
}
