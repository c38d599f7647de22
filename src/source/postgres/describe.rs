//! Facts about tables of the source, from its catalog.
//!
//! Nothing here takes a lock on a user's table, so a migration that holds one doesn't hold us: sizes
//! of tables under such a lock are left out. Use a control session; names are read as UTF-8.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::libpq::{Connection, Rows};
use crate::pg::wait::Deadline;
use crate::source::postgres::quote::{array_literal, quote_qualified};
use serde::Deserialize;

/// Which tables are asked about.
#[derive(Clone, Copy, Debug)]
pub enum Selection<'a> {
    /// Every table of a user: ordinary, partitioned and foreign ones, but not partitions.
    All,
    /// These, by schema and name, whatever they are.
    Named(&'a [(String, String)]),
    /// One, wherever it is by now.
    Oid(u32),
}

/// What a relation of the source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// A table with rows of its own.
    Ordinary,
    /// The root, or an inner node, of a partition tree.
    Partitioned,
    /// A foreign table: its changes are in no WAL of the source.
    Foreign,
    /// A view, a sequence or another thing that isn't a table.
    Other,
}

impl TableKind {
    fn of(relkind: &str) -> Self {
        match relkind {
            "r" => Self::Ordinary,
            "p" => Self::Partitioned,
            "f" => Self::Foreign,
            _ => Self::Other,
        }
    }
}

/// How durable a relation is, `pg_class.relpersistence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// In the WAL.
    Logged,
    /// Not in the WAL.
    Unlogged,
    /// Of one session.
    Temporary,
}

impl Persistence {
    fn of(relpersistence: &str) -> Self {
        match relpersistence {
            "u" => Self::Unlogged,
            "t" => Self::Temporary,
            _ => Self::Logged,
        }
    }
}

/// What the old row of an update or delete holds, `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, where there is one.
    Default,
    /// The columns of a chosen unique index.
    Index,
    /// The whole row.
    Full,
    /// Nothing: the source itself refuses updates and deletes once the table is published.
    Nothing,
}

impl ReplicaIdentity {
    fn of(relreplident: &str) -> Self {
        match relreplident {
            "i" => Self::Index,
            "f" => Self::Full,
            "n" => Self::Nothing,
            _ => Self::Default,
        }
    }
}

/// A unique index that is valid, immediate, whole and made of columns only.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct UniqueIndex {
    /// Its name, in the table's schema.
    pub name: String,
    /// Its key columns, in order.
    pub columns: Vec<String>,
    /// Whether it is the primary key.
    pub is_primary: bool,
    /// Whether it was chosen as replica identity.
    pub is_identity: bool,
    /// Whether no key column may be null.
    pub is_not_null: bool,
}

/// Whether the source computes a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Generated {
    /// No: it is written.
    #[serde(rename = "")]
    No,
    /// At write, and stored. The stream leaves it out unless the publication says otherwise (18+).
    #[serde(rename = "s")]
    Stored,
    /// At read (18+). Never in the stream.
    #[serde(rename = "v")]
    Virtual,
}

/// What a column's type, or the element type of an array, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum TypeKind {
    /// A base type: built in, or an extension's.
    #[serde(rename = "b")]
    Base,
    /// A composite.
    #[serde(rename = "c")]
    Composite,
    /// A domain.
    #[serde(rename = "d")]
    Domain,
    /// An enum.
    #[serde(rename = "e")]
    Enum,
    /// A multirange (14+).
    #[serde(rename = "m")]
    Multirange,
    /// A pseudo-type; no column has one.
    #[serde(rename = "p")]
    Pseudo,
    /// A range.
    #[serde(rename = "r")]
    Range,
}

/// One column, in the order of attribute numbers; dropped ones are left out.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceColumn {
    /// `pg_attribute.attnum`: what identifies a column through renames.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Oid of its type at the source.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`.
    pub type_modifier: i32,
    /// The type as SQL, `format_type` with an empty search path.
    pub type_sql: String,
    /// Schema of the type, or of the element type of an array.
    pub type_schema: String,
    /// Name of the type, or of the element type of an array.
    pub type_name: String,
    /// Kind of the type, or of the element type of an array.
    pub type_kind: TypeKind,
    /// Extension that the type, or the element type of an array, belongs to.
    pub type_extension: Option<String>,
    /// Whether the source computes it.
    pub generated: Generated,
    /// Its collation, schema-qualified and quoted, where that isn't the type's own.
    pub collation: Option<String>,
}

/// A leaf of a partition tree: it has rows, and is published under its own name.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its oid at the source.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is: an ordinary table, or a foreign one.
    pub kind: TableKind,
    /// Whether it is in the WAL.
    pub persistence: Persistence,
    /// Its own replica identity; it does not inherit the root's.
    pub replica_identity: ReplicaIdentity,
    /// Its own unique indexes.
    pub indexes: Vec<UniqueIndex>,
}

impl Leaf {
    /// The columns that its old rows hold, none where they hold nothing.
    pub fn identity(&self) -> Option<&[String]> {
        identity(self.replica_identity, &self.indexes)
    }
}

/// A table of the source.
#[derive(Clone, Debug)]
pub struct SourceTable {
    /// Its oid at the source.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Whether it is in the WAL.
    pub persistence: Persistence,
    /// Whether it is a partition of another table.
    pub is_partition: bool,
    /// Whether the session's role has the owner's rights, which publishing needs.
    pub is_owned: bool,
    /// Whether the session's role may look into the schema.
    pub is_schema_usable: bool,
    /// Whether the session's role may read all of it.
    pub is_readable: bool,
    /// Whether row security hides rows from the session's role.
    pub has_row_security: bool,
    /// What old rows hold.
    pub replica_identity: ReplicaIdentity,
    /// Unique indexes that could be a key.
    pub indexes: Vec<UniqueIndex>,
    /// Its columns.
    pub columns: Vec<SourceColumn>,
    /// Its leaves, where it is partitioned.
    pub leaves: Vec<Leaf>,
    /// Rows as last analyzed, with all leaves; none where a table was never analyzed.
    pub estimated_rows: Option<i64>,
    /// Bytes on disk with indexes and TOAST, with all leaves; none where a lock stands in the way.
    pub bytes: Option<i64>,
}

impl SourceTable {
    /// `schema.table`, quoted.
    pub fn quoted_name(&self) -> String {
        quote_qualified(&self.schema, &self.name)
    }

    /// The columns by which changes find their row, in order: those which old rows hold. That is
    /// the primary key, or the index chosen as replica identity in its stead. None where there is
    /// none; [`super::obstacle`] knows the reason and the fix.
    pub fn key(&self) -> Option<&[String]> {
        identity(self.replica_identity, &self.indexes)
    }

    /// Whether the source itself makes sure that no two rows have these columns in common, as far as
    /// that can be asked for: where it has no primary key at all, a person says what tells rows apart.
    pub fn is_unique_by(&self, key: &[impl AsRef<str>]) -> bool {
        let holds = |column: &String| key.iter().any(|part| part.as_ref() == column);
        self.indexes.iter().any(|index| index.columns.iter().all(holds))
            || !self.indexes.iter().any(|index| index.is_primary)
    }
}

fn identity(replica_identity: ReplicaIdentity, indexes: &[UniqueIndex]) -> Option<&[String]> {
    let index = match replica_identity {
        ReplicaIdentity::Nothing => None,
        ReplicaIdentity::Index => indexes.iter().find(|index| index.is_identity),
        ReplicaIdentity::Default | ReplicaIdentity::Full => {
            indexes.iter().find(|index| index.is_primary)
        }
    };
    index.map(|index| index.columns.as_slice())
}

/// Reads the facts about the tables selected, ordered by schema and name. Tables that are not there
/// are left out.
pub fn describe(
    connection: &mut Connection,
    selection: Selection<'_>,
    deadline: Deadline,
) -> Result<Vec<SourceTable>> {
    let (condition, parameters) = match selection {
        Selection::All => (ALL, Vec::new()),
        Selection::Named(names) => (
            NAMED,
            vec![
                array_literal(names.iter().map(|(schema, _)| schema.as_str())),
                array_literal(names.iter().map(|(_, table)| table.as_str())),
            ],
        ),
        Selection::Oid(oid) => (BY_OID, vec![oid.to_string()]),
    };
    let sql = QUERY.replace("{condition}", condition);
    let parameters: Vec<Option<&str>> = parameters.iter().map(|p| Some(p.as_str())).collect();
    let rows = connection.query(&sql, &parameters, deadline)?;
    (0..rows.len()).map(|row| table_of(&rows, row)).collect()
}

fn table_of(rows: &Rows, row: usize) -> Result<SourceTable> {
    let text = |column: usize| {
        rows.get(row, column).ok_or_else(|| {
            OdsError::new(ErrorKind::Protocol, "a table of the source has no name in UTF-8")
        })
    };
    let truth = |column: usize| text(column).map(|value| value == "t");
    let number = |column: usize| rows.get(row, column).and_then(|value| value.parse().ok());
    let leaves: Vec<LeafRow> = from_json(text(15)?)?;
    Ok(SourceTable {
        oid: rows.parse(row, 0)?,
        schema: text(1)?.to_owned(),
        name: text(2)?.to_owned(),
        kind: TableKind::of(text(3)?),
        persistence: Persistence::of(text(4)?),
        is_partition: truth(5)?,
        replica_identity: ReplicaIdentity::of(text(6)?),
        is_owned: truth(7)?,
        is_schema_usable: truth(8)?,
        is_readable: truth(9)?,
        has_row_security: truth(10)?,
        estimated_rows: number(11),
        bytes: number(12),
        columns: from_json(text(13)?)?,
        indexes: from_json(text(14)?)?,
        leaves: leaves.into_iter().map(Leaf::from).collect(),
    })
}

fn from_json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes a table in an unknown way")
            .detail(error.to_string())
    })
}

#[derive(Deserialize)]
struct LeafRow {
    oid: u32,
    schema: String,
    name: String,
    kind: String,
    persistence: String,
    identity: String,
    indexes: Vec<UniqueIndex>,
}

impl From<LeafRow> for Leaf {
    fn from(row: LeafRow) -> Self {
        Self {
            oid: row.oid,
            schema: row.schema,
            name: row.name,
            kind: TableKind::of(&row.kind),
            persistence: Persistence::of(&row.persistence),
            replica_identity: ReplicaIdentity::of(&row.identity),
            indexes: row.indexes,
        }
    }
}

const ALL: &str =
    "c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
    AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'";
const NAMED: &str = "(n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) AS wanted_names)
    AND c.relkind IN ('r', 'p', 'f', 'v', 'm')";

const BY_OID: &str = "c.oid = $1::pg_catalog.oid AND c.relkind IN ('r', 'p', 'f')";

/// One row a table, for versions 12 to 18. pg_inherits is walked by hand, since pg_partition_tree
/// locks what it finds; a partition that waits for DETACH … CONCURRENTLY to end is still one.
const QUERY: &str = "
WITH RECURSIVE wanted AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relispartition, c.relreplident,
           c.relowner, c.relnamespace
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE {condition}
), tree AS (
    SELECT oid AS root, oid AS node FROM wanted
    UNION ALL
    SELECT t.root, i.inhrelid
    FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.node
    JOIN pg_catalog.pg_class p ON p.oid = t.node AND p.relkind = 'p'
), node AS (
    SELECT t.root, c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relreplident, c.reltuples,
           c.relpages
    FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.node
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
), locked AS (
    SELECT DISTINCT relation FROM pg_catalog.pg_locks
    WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation IS NOT NULL
), unique_index AS (
    SELECT i.indrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
               'name', x.relname, 'is_primary', i.indisprimary, 'is_identity', i.indisreplident,
               'is_not_null', k.is_not_null, 'columns', k.columns)
               ORDER BY i.indisprimary DESC, x.relname) AS indexes
    FROM (SELECT DISTINCT oid FROM node) d
    JOIN pg_catalog.pg_index i ON i.indrelid = d.oid
    JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
    CROSS JOIN LATERAL (
        SELECT pg_catalog.json_agg(a.attname ORDER BY p.place) AS columns,
               pg_catalog.bool_and(a.attnotnull) AS is_not_null
        FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) AS p (place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.place]
    ) k
    WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
    GROUP BY i.indrelid
)
SELECT w.oid, w.nspname, w.relname, w.relkind, w.relpersistence, w.relispartition, w.relreplident,
    pg_catalog.pg_has_role(w.relowner, 'USAGE'),
    pg_catalog.has_schema_privilege(w.relnamespace, 'USAGE'),
    pg_catalog.has_table_privilege(w.oid, 'SELECT'),
    pg_catalog.row_security_active(w.oid),
    s.estimated_rows, s.bytes,
    coalesce(col.columns, '[]'), coalesce(u.indexes, '[]'), coalesce(leaf.leaves, '[]')
FROM wanted w
LEFT JOIN unique_index u ON u.indrelid = w.oid
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_catalog.bool_and(d.reltuples > 0 OR d.relpages > 0 OR pg_catalog.pg_relation_size(l.free) = 0)
                THEN pg_catalog.sum(greatest(d.reltuples, 0))::bigint END AS estimated_rows,
           CASE WHEN pg_catalog.bool_and(l.free IS NOT NULL)
                THEN pg_catalog.sum(pg_catalog.pg_total_relation_size(l.free))::bigint END AS bytes
    FROM node d
    CROSS JOIN LATERAL (SELECT CASE WHEN d.oid IN (SELECT relation FROM locked) THEN NULL ELSE d.oid END AS free) l
    WHERE d.root = w.oid AND d.relkind <> 'p'
) s
CROSS JOIN LATERAL (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'oid', d.oid::bigint, 'schema', d.nspname, 'name', d.relname, 'kind', d.relkind,
        'persistence', d.relpersistence, 'identity', d.relreplident,
        'indexes', coalesce(i.indexes, '[]')) ORDER BY d.oid) AS leaves
    FROM node d LEFT JOIN unique_index i ON i.indrelid = d.oid
    WHERE w.relkind = 'p' AND d.root = w.oid AND d.relkind <> 'p'
) leaf
CROSS JOIN LATERAL (
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
        'attnum', a.attnum, 'name', a.attname, 'type_oid', a.atttypid::bigint,
        'type_modifier', a.atttypmod, 'type_sql', pg_catalog.format_type(a.atttypid, a.atttypmod),
        'type_schema', tn.nspname, 'type_name', e.typname, 'type_kind', e.typtype,
        'type_extension', x.extname, 'generated', a.attgenerated,
        'collation', CASE WHEN a.attcollation <> t.typcollation
                          THEN pg_catalog.quote_ident(cn.nspname) || '.' || pg_catalog.quote_ident(co.collname) END) ORDER BY a.attnum) AS columns
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0 THEN t.typelem ELSE t.oid END
    JOIN pg_catalog.pg_namespace tn ON tn.oid = e.typnamespace
    LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
        AND d.objid = e.oid AND d.deptype = 'e'
    LEFT JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
        AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
    LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
    LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
    WHERE a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped
) col
ORDER BY w.nspname, w.relname";
