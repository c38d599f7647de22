//! The heartbeat: one message to the source proves freshness and compares what we believe of it.

use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::freshness::{Probe, from_unix_us};
use crate::pg::libpq::Rows;
use crate::source::postgres::exchange::Answer;
use crate::source::postgres::quote::{quote_ident, quote_literal, quote_qualified};
use crate::source::postgres::slot::RETAINED;

/// A relation that the publication carries, or a partition of one that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whether its changes are sent.
    pub coverage: Coverage,
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The root of its partition tree; its own oid otherwise.
    pub root: u32,
    /// Rows as last analyzed.
    pub estimated_rows: i64,
    /// Schema of the root.
    pub root_schema: String,
    /// Name of the root.
    pub root_name: String,
}

/// Whether a publication carries a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// Its changes are sent.
    Carried,
    /// Another partition of its tree is carried, and this one is not.
    Missing,
}

/// How a partitioned table gets into a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// By its root, which brings along every partition, later ones too.
    ByRoot,
    /// Partition by partition: the source refuses roots.
    ByLeaf,
}

impl Partitions {
    /// What a source of this `server_version_num` knows.
    pub fn of_version(version: i32) -> Self {
        if version >= 130_000 { Self::ByRoot } else { Self::ByLeaf }
    }
}

/// What a heartbeat found.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Proves freshness once the stream has passed it.
    pub probe: Probe,
    /// Bytes of WAL that the source keeps for the slot; none if the slot is gone.
    pub retained: Option<u64>,
    /// The oid of the publication; none if it is gone.
    pub publication: Option<u32>,
    /// The relations it carries, and partitions that are missing.
    pub published: Vec<Published>,
}

/// The statements of a heartbeat, sent as one message and so as one transaction. The clock is read
/// before the WAL position; the transaction id makes the commit flush the WAL up to there.
pub fn heartbeat_sql(slot: &str, publication: &str) -> String {
    format!(
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, \
                pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.txid_current(); \
         {RETAINED} = {}; \
         SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = {publication}; \
         WITH carried AS ( \
             SELECT c.oid, coalesce(pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid, c.oid) AS root \
               FROM pg_catalog.pg_publication_tables t \
               JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname \
               JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
              WHERE t.pubname = {publication}), \
         trees AS (SELECT DISTINCT k.root FROM carried k WHERE k.root <> k.oid), \
         found AS ( \
             SELECT true AS is_carried, k.oid, k.root FROM carried k \
             UNION ALL \
             SELECT false, p.relid::pg_catalog.oid, t.root FROM trees t, pg_catalog.pg_partition_tree(t.root) p \
              WHERE p.isleaf AND NOT EXISTS (SELECT FROM carried k WHERE k.oid = p.relid)) \
         SELECT c.oid, n.nspname, c.relname, r.oid, greatest(c.reltuples, 0)::bigint, rn.nspname, r.relname, f.is_carried \
           FROM found f \
           JOIN pg_catalog.pg_class c ON c.oid = f.oid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_class r ON r.oid = f.root \
           JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace",
        quote_literal(slot),
        publication = quote_literal(publication),
    )
}

/// Reads a heartbeat's answer.
pub fn read(answer: &Answer) -> Result<Heartbeat> {
    let odd = || OdsError::new(ErrorKind::Protocol, "the source answered a heartbeat oddly");
    let [clock, slot, publication, published] = answer.results.as_slice() else {
        return Err(odd());
    };
    let clock_us: i64 = clock.get(0, 0).and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let lsn: Lsn = clock.get(0, 1).and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    Ok(Heartbeat {
        probe: Probe { clock_us: from_unix_us(clock_us), lsn: lsn.0 },
        retained: slot.get(0, 0).and_then(|text| text.parse().ok()),
        publication: publication.get(0, 0).and_then(|oid| oid.parse().ok()),
        published: (0..published.len())
            .map(|row| read_published(published, row))
            .collect::<Option<_>>()
            .ok_or_else(odd)?,
    })
}

fn read_published(rows: &Rows, row: usize) -> Option<Published> {
    let coverage = match rows.get(row, 7)? {
        "t" => Coverage::Carried,
        _ => Coverage::Missing,
    };
    Some(Published {
        coverage,
        oid: rows.get(row, 0)?.parse().ok()?,
        schema: rows.get(row, 1)?.to_owned(),
        name: rows.get(row, 2)?.to_owned(),
        root: rows.get(row, 3)?.parse().ok()?,
        estimated_rows: rows.get(row, 4)?.parse().ok()?,
        root_schema: rows.get(row, 5)?.to_owned(),
        root_name: rows.get(row, 6)?.to_owned(),
    })
}

/// A statement that gives up soon where a lock at the source is held, by a VACUUM for example:
/// heartbeats wait behind it.
pub fn brief(sql: &str) -> String {
    format!("SET LOCAL lock_timeout = '500ms'; {sql}")
}

/// Adds tables, by schema and name, to a publication of ours.
pub fn add_tables_sql<'t>(
    publication: &str,
    tables: impl Iterator<Item = (&'t str, &'t str)>,
) -> String {
    let tables: Vec<String> =
        tables.map(|(schema, table)| quote_qualified(schema, table)).collect();
    format!("ALTER PUBLICATION {} ADD TABLE {}", quote_ident(publication), tables.join(", "))
}

/// Takes a table out of a publication of ours.
pub fn drop_table_sql(publication: &str, schema: &str, table: &str) -> String {
    format!(
        "ALTER PUBLICATION {} DROP TABLE {}.{}",
        quote_ident(publication),
        quote_ident(schema),
        quote_ident(table)
    )
}
