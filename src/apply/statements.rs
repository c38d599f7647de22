//! The SQL that writes a batch, as text.
//!
//! Every statement reads the relation `batch`. Its columns are named by role and ordinal, so that
//! no name of a user's column can collide: `v0…` are the values in synced-column order, `k0…` the
//! key, `o0…` the key the row had when the batch began, `committed_at` the upstream commit.
//! Where a person's SQL reads the batch (`transform`, `filter`), it sees the source's column names.

pub mod compare;

use std::fmt::Write;

/// What happens here when a row is deleted at the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDelete {
    /// The row is deleted.
    Delete,
    /// The row stays; `_ods_deleted_at` says since when it is gone.
    Mark,
    /// The row stays as it was.
    Ignore,
}

impl OnDelete {
    /// The choice of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "delete" => Some(Self::Delete),
            "mark" => Some(Self::Mark),
            "ignore" => Some(Self::Ignore),
            _ => None,
        }
    }
}

/// One column read from the source.
#[derive(Clone, Debug)]
pub struct Column {
    /// Its name there.
    pub source: String,
    /// The column it is written to; none where only a transform reads it.
    pub target: Option<String>,
    /// Its type here, as SQL.
    pub sql_type: String,
    /// The collation that the table's column has here, as SQL.
    pub collation: Option<String>,
}

/// All that the statements depend on.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Qualified and quoted name of the synced table.
    pub table: String,
    /// The columns read from the source, in batch order.
    pub columns: Vec<Column>,
    /// Which of them are the key, in key order. Key columns always have a target.
    pub key: Vec<usize>,
    /// A query over `batch` that yields the target's columns.
    pub transform: Option<String>,
    /// Names of the columns that `transform` yields.
    pub transformed: Vec<String>,
    /// A condition on the row as the source has it; rows that fail it are not kept.
    pub filter: Option<String>,
    /// What a delete does.
    pub on_delete: OnDelete,
    /// Whether the table has the column that marks deleted rows.
    pub has_mark: bool,
    /// Whether rows keep where the event that made them stands.
    pub has_position: bool,
}

/// A name as SQL.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn list<T>(
    items: impl IntoIterator<Item = T>,
    separator: &str,
    mut one: impl FnMut(T) -> String,
) -> String {
    let mut text = String::new();
    for (number, item) in items.into_iter().enumerate() {
        if number > 0 {
            text.push_str(separator);
        }
        text.push_str(&one(item));
    }
    text
}

impl Shape {
    /// Whether a person's SQL stands between the source's row and ours.
    pub fn has_user_sql(&self) -> bool {
        self.transform.is_some() || self.filter.is_some()
    }

    /// Target names of the key columns.
    pub fn key_targets(&self) -> Vec<String> {
        self.key.iter().filter_map(|&column| self.columns[column].target.clone()).collect()
    }

    /// The columns written by inserts, without the stamps.
    pub fn targets(&self) -> Vec<String> {
        if self.transform.is_some() {
            return self.transformed.clone();
        }
        self.columns.iter().filter_map(|column| column.target.clone()).collect()
    }

    /// `t.k = b.k0 AND …` for the columns `prefix0…` of the batch.
    fn same_key(&self, left: &str, right: &str, prefix: &str) -> String {
        let mut position = 0;
        list(self.key_targets(), " AND ", |target| {
            let term = format!("{left}.{} = {right}.{prefix}{position}", quote_ident(&target));
            position += 1;
            term
        })
    }

    /// The rows to write, as a subquery: one column a target under the target's name, then
    /// `_ods_k0…` and `_ods_at`, names that no column of a person has. The person's transform and filter are applied here.
    fn rows(&self) -> String {
        let keys = |alias: &str| {
            let mut position = 0;
            list(self.key.iter(), ", ", |&column| {
                let target = self.columns[column].target.as_deref().unwrap_or_default();
                let term = format!("{alias}.{} AS _ods_k{position}", quote_ident(target));
                position += 1;
                term
            })
        };
        match &self.transform {
            None => {
                let columns = list(
                    self.columns.iter().enumerate().filter(|(_, column)| column.target.is_some()),
                    ", ",
                    |(number, column)| {
                        let target = column.target.as_deref().unwrap_or_default();
                        format!("b.v{number} AS {}", quote_ident(target))
                    },
                );
                let mut position = 0;
                let key = list(self.key.iter(), ", ", |column| {
                    let term = format!("b.v{column} AS _ods_k{position}");
                    position += 1;
                    term
                });
                format!(
                    "(SELECT {columns}, {key}, b.committed_at AS _ods_at{} FROM batch b{})",
                    self.position_of("b"),
                    self.filtered("b")
                )
            }
            Some(transform) => {
                // The transform sees the batch under the source's names; its key columns lead each
                // row back to the commit time.
                let source = self.source_view();
                let on = list(self.key.iter(), " AND ", |&column| {
                    let target = self.columns[column].target.as_deref().unwrap_or_default();
                    format!("s.{} = b.v{column}", quote_ident(target))
                });
                let columns =
                    list(self.transformed.iter(), ", ", |name| format!("s.{}", quote_ident(name)));
                format!(
                    "(SELECT {columns}, {}, b.committed_at AS _ods_at{} FROM ({}) s JOIN batch b ON {on})",
                    keys("s"),
                    self.position_of("b"),
                    with_view(&source, transform),
                )
            }
        }
    }

    /// The batch under the source's column names, filtered.
    fn source_view(&self) -> String {
        let columns = list(self.columns.iter().enumerate(), ", ", |(number, column)| {
            format!("b.v{number} AS {}", quote_ident(&column.source))
        });
        format!("SELECT {columns} FROM batch b{}", self.filtered("b"))
    }

    /// ` WHERE …` for the filter, evaluated over the source's column names.
    fn filtered(&self, alias: &str) -> String {
        match &self.filter {
            None => String::new(),
            Some(_) => format!(" WHERE {}", self.passes(alias)),
        }
    }

    fn passes(&self, alias: &str) -> String {
        let filter = self.filter.as_deref().unwrap_or("true");
        let columns = list(self.columns.iter().enumerate(), ", ", |(number, column)| {
            format!("{alias}.v{number} AS {}", quote_ident(&column.source))
        });
        format!("COALESCE((SELECT ({filter}) FROM (SELECT {columns}) source_row), false)")
    }

    /// Deletes, marks or keeps the rows of the keys in a batch of `k0…, committed_at`.
    pub fn delete(&self, age: Age) -> Option<String> {
        let mut on = self.same_key("t", "b", "k");
        if let Some(condition) = self.is_of_age(age, "b.position") {
            let _ = write!(on, " AND {condition}");
        }
        match self.on_delete {
            OnDelete::Delete => {
                Some(format!("DELETE FROM {} t USING batch b WHERE {on}", self.table))
            }
            OnDelete::Mark => Some(format!(
                "UPDATE {} t SET \"_ods_deleted_at\" = COALESCE(b.committed_at, pg_catalog.statement_timestamp()), \
                 \"_ods_synced_at\" = pg_catalog.statement_timestamp(){} \
                 FROM batch b WHERE {on} AND t.\"_ods_deleted_at\" IS NULL",
                self.table,
                if self.has_position { ", \"_ods_position\" = b.position" } else { "" }
            )),
            OnDelete::Ignore => None,
        }
    }

    /// Deletes the rows of the keys `o0…`, whatever `on_delete` says: their row moved to another key.
    pub fn delete_moved(&self) -> String {
        format!("DELETE FROM {} t USING batch b WHERE {}", self.table, self.same_key("t", "b", "o"))
    }

    /// Gives the rows of the keys `o0…` the keys `k0…`, where no row stands there.
    pub fn move_key(&self) -> String {
        let mut position = 0;
        let set = list(self.key_targets(), ", ", |target| {
            let term = format!("{} = b.k{position}", quote_ident(&target));
            position += 1;
            term
        });
        format!(
            "UPDATE {0} t SET {set} FROM batch b WHERE {1} AND NOT EXISTS (SELECT FROM {0} x WHERE {2})",
            self.table,
            self.same_key("t", "b", "o"),
            self.same_key("x", "b", "k"),
        )
    }

    /// Deletes every row, as a TRUNCATE at the source did; where `position` says where that was, those that
    /// are no newer.
    pub fn delete_all(&self, position: Option<i64>) -> Option<String> {
        let condition = position
            .filter(|_| self.has_position)
            .and_then(|position| self.is_of_age(Age::Older, &position.to_string()));
        let mut conditions: Vec<String> = condition.into_iter().collect();
        let mut sql = match self.on_delete {
            OnDelete::Delete => format!("DELETE FROM {} t", self.table),
            OnDelete::Mark => {
                conditions.push("t.\"_ods_deleted_at\" IS NULL".to_owned());
                format!(
                    "UPDATE {} t SET \"_ods_deleted_at\" = pg_catalog.statement_timestamp(), \
                     \"_ods_synced_at\" = pg_catalog.statement_timestamp()",
                    self.table
                )
            }
            OnDelete::Ignore => return None,
        };
        if !conditions.is_empty() {
            let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
        }
        Some(sql)
    }

    /// Deletes rows here that the filter, or a transform that yields nothing for them, turns away.
    pub fn delete_filtered(&self) -> Option<String> {
        if self.transform.is_some() {
            return Some(format!(
                "DELETE FROM {} t USING batch b WHERE {} AND NOT EXISTS (SELECT FROM {} r WHERE {})",
                self.table,
                self.is_row("t", "b"),
                self.rows(),
                self.same_key("t", "r", "_ods_k"),
            ));
        }
        self.filter.as_ref()?;
        Some(format!(
            "DELETE FROM {} t USING batch b WHERE {} AND NOT {}",
            self.table,
            self.is_row("t", "b"),
            self.passes("b")
        ))
    }

    /// `t.k = b.v0 AND …` for the key of a batch of whole rows.
    fn is_row(&self, left: &str, right: &str) -> String {
        list(self.key.iter(), " AND ", |&column| {
            let target = self.columns[column].target.as_deref().unwrap_or_default();
            format!("{left}.{} = {right}.v{column}", quote_ident(target))
        })
    }

    /// Inserts whole rows `v0…`, all of which are known to be new.
    pub fn insert(&self) -> String {
        format!("INSERT INTO {} {}", self.table, self.insert_from(""))
    }

    /// Inserts those whole rows `v0…` whose key is not here.
    pub fn insert_missing(&self) -> String {
        let condition = format!(
            " WHERE NOT EXISTS (SELECT FROM {} t WHERE {})",
            self.table,
            self.same_key("t", "r", "_ods_k")
        );
        format!("INSERT INTO {} {}", self.table, self.insert_from(&condition))
    }

    /// Inserts whole rows `v0…`, or has those be as told whose key is here. Only for tables without a
    /// person's SQL.
    pub fn upsert(&self, age: Age) -> String {
        let keys = self.key_targets();
        let targets = self.targets();
        let mut set = list(targets.iter().filter(|name| !keys.contains(name)), ", ", |name| {
            format!("{0} = excluded.{0}", quote_ident(name))
        });
        if !set.is_empty() {
            set.push_str(", ");
        }
        set.push_str(&self.stamps("excluded.\"_ods_committed_at\"", "excluded.\"_ods_position\""));
        let mut sql = format!(
            "INSERT INTO {} AS t {} ON CONFLICT ({}) DO UPDATE SET {set}",
            self.table,
            self.insert_from(""),
            list(&keys, ", ", |name| quote_ident(name)),
        );
        if let Some(condition) = self.is_of_age(age, "excluded.\"_ods_position\"") {
            let _ = write!(sql, " WHERE {condition}");
        }
        sql
    }

    fn insert_from(&self, condition: &str) -> String {
        let targets = self.targets();
        let into = list(&targets, ", ", |name| quote_ident(name));
        let from = list(&targets, ", ", |name| format!("r.{}", quote_ident(name)));
        let (position, at) = match self.has_position {
            true => (", \"_ods_position\"", ", r._ods_pos"),
            false => ("", ""),
        };
        format!(
            "({into}, \"_ods_committed_at\", \"_ods_synced_at\"{position}) \
             SELECT {from}, r._ods_at, pg_catalog.statement_timestamp(){at} FROM {} r{condition}",
            self.rows()
        )
    }

    /// Updates rows by key from whole rows `v0…`. With [`Touch::Differing`], rows that are equal
    /// already stay untouched, and keys that are equal but written differently, as 1.0 and 1.00,
    /// are written as the source has them.
    pub fn update_whole(&self, touch: Touch, age: Age) -> String {
        let targets = self.targets();
        let keys = self.key_targets();
        let mut set = list(
            targets.iter().filter(|name| touch == Touch::Differing || !keys.contains(name)),
            ", ",
            |name| format!("{} = r.{}", quote_ident(name), quote_ident(name)),
        );
        if !set.is_empty() {
            set.push_str(", ");
        }
        set.push_str(&self.stamps("r._ods_at", "r._ods_pos"));
        let mut sql = format!(
            "UPDATE {} t SET {set} FROM {} r WHERE {}",
            self.table,
            self.rows(),
            self.same_key("t", "r", "_ods_k")
        );
        if touch == Touch::Differing {
            let ours = list(&targets, ", ", |name| format!("t.{}", quote_ident(name)));
            let theirs = list(&targets, ", ", |name| format!("r.{}", quote_ident(name)));
            let _ = write!(
                sql,
                " AND (ROW({ours})::record OPERATOR(pg_catalog.*<>) ROW({theirs})::record"
            );
            if self.has_mark {
                sql.push_str(" OR t.\"_ods_deleted_at\" IS NOT NULL");
            }
            sql.push(')');
        }
        if let Some(condition) = self.is_of_age(age, "r._ods_pos") {
            let _ = write!(sql, " AND {condition}");
        }
        sql
    }

    /// Updates rows by key, leaving alone the columns that `present` says are absent.
    /// Only for tables without a person's SQL, where each column has a target of its own.
    pub fn update_present(&self, present: &[bool], age: Age) -> String {
        let mut set = list(
            self.columns.iter().enumerate().filter(|(number, column)| {
                present[*number] && column.target.is_some() && !self.key.contains(number)
            }),
            ", ",
            |(number, column)| {
                let target = column.target.as_deref().unwrap_or_default();
                format!("{} = r.v{number}", quote_ident(target))
            },
        );
        if !set.is_empty() {
            set.push_str(", ");
        }
        set.push_str(&self.stamps("r.committed_at", "r.position"));
        let on = list(self.key.iter(), " AND ", |&column| {
            let target = self.columns[column].target.as_deref().unwrap_or_default();
            format!("t.{} = r.v{column}", quote_ident(target))
        });
        let mut sql = format!("UPDATE {} t SET {set} FROM batch r WHERE {on}", self.table);
        if let Some(condition) = self.is_of_age(age, "r.position") {
            let _ = write!(sql, " AND {condition}");
        }
        sql
    }

    /// That a row here is no newer than the event at `position`, where that matters.
    fn is_of_age(&self, age: Age, position: &str) -> Option<String> {
        (age == Age::Older && self.has_position)
            .then(|| format!("(t.\"_ods_position\" IS NULL OR t.\"_ods_position\" <= {position})"))
    }

    fn position_of(&self, batch: &str) -> String {
        match self.has_position {
            true => format!(", {batch}.position AS _ods_pos"),
            false => String::new(),
        }
    }

    fn stamps(&self, committed_at: &str, position: &str) -> String {
        let mut set = format!(
            "\"_ods_committed_at\" = {committed_at}, \"_ods_synced_at\" = pg_catalog.statement_timestamp()"
        );
        if self.has_mark {
            set.push_str(", \"_ods_deleted_at\" = NULL");
        }
        if self.has_position {
            let _ = write!(set, ", \"_ods_position\" = {position}");
        }
        set
    }

    /// Reads, for the keys `k0…` of a batch with an `ordinal`, the local values of all mapped
    /// columns: `ordinal` first, then the columns in batch order.
    pub fn read_local(&self) -> String {
        let columns = list(self.columns.iter(), ", ", |column| match &column.target {
            Some(target) => format!("t.{}", quote_ident(target)),
            None => "NULL".to_owned(),
        });
        format!(
            "SELECT b.ordinal, {columns} FROM batch b JOIN {} t ON {}",
            self.table,
            self.same_key("t", "b", "k")
        )
    }

    /// A parameter that holds text in UTF-8, as a value of a key column.
    fn key_parameter(&self, column: usize, position: usize) -> String {
        let Column { sql_type, collation, .. } = &self.columns[column];
        // The function's result would have the collation of the encoding's name.
        let collate = list(collation, "", |collation| format!(" COLLATE {collation}"));
        format!("pg_catalog.convert_from(${position}::bytea, 'UTF8')::{sql_type}{collate}")
    }

    /// The next keys here after `after`, as text in UTF-8, for the search for rows the source no longer has.
    /// `$1` is the limit; with `after`, `$2…` are the key to go on from.
    pub fn next_keys(&self, after: bool) -> String {
        let targets = self.key_targets();
        let columns = list(&targets, ", ", |name| {
            format!(
                "pg_catalog.convert_to(pg_catalog.format('%s', t.{}), 'UTF8')",
                quote_ident(name)
            )
        });
        let order = list(&targets, ", ", |name| format!("t.{}", quote_ident(name)));
        let mut sql = format!("SELECT {columns} FROM {} t", self.table);
        let mut conditions = Vec::new();
        if after {
            let mut position = 1;
            let values = list(self.key.iter(), ", ", |&column| {
                position += 1;
                self.key_parameter(column, position)
            });
            conditions.push(format!("ROW({order}) > ROW({values})"));
        }
        if self.on_delete == OnDelete::Mark {
            conditions.push("t.\"_ods_deleted_at\" IS NULL".to_owned());
        }
        if !conditions.is_empty() {
            let _ = write!(sql, " WHERE {}", conditions.join(" AND "));
        }
        let _ = write!(sql, " ORDER BY {order} LIMIT $1");
        sql
    }
}

/// Which rows here an event may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Age {
    /// Any: it comes after all that is here.
    Any,
    /// Those that are no newer than it: what was read before is read again.
    Older,
}

/// Which rows an update may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Touch {
    /// Every row of the batch.
    Every,
    /// Only rows that differ.
    Differing,
}

/// `query` with the relation `batch` replaced by `view`, by a common table expression of that name.
///
/// The ephemeral relation itself is reached inside the expression, where its own name is not yet
/// bound.
fn with_view(view: &str, query: &str) -> String {
    format!(
        "WITH batch AS ({view}) SELECT * FROM ({}) transformed",
        query.trim().trim_end_matches(';')
    )
}

#[cfg(test)]
mod tests;
