//! The heartbeat: one message to the source proves freshness and compares what we believe of it.

use crate::catalog::table::Marks;
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use crate::freshness::{Probe, from_unix_us};
use crate::pg::libpq::Rows;
use crate::pg::wait::Deadline;
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
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
    /// What its changes, its columns and its rows are known by; none where it is not carried.
    pub marks: Option<Marks>,
    /// Whether some kinds of change, some rows or some columns are left out.
    pub is_narrowed: bool,
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
    /// Stands for the labels of all enums; none where there are none.
    pub labels: Option<String>,
    /// The relations it carries, and partitions that are missing.
    pub published: Vec<Published>,
}

/// The statements of a heartbeat, sent as one message and so as one transaction. The clock is read
/// before the WAL position; the transaction id makes the commit flush the WAL up to there.
pub fn heartbeat_sql(slot: &str, publication: &str, version: i32) -> String {
    format!(
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint, \
                pg_catalog.pg_current_wal_insert_lsn()::text, pg_catalog.txid_current(); \
         {RETAINED} = {}; \
         SELECT p.oid FROM pg_catalog.pg_publication p WHERE p.pubname = {publication}; \
         SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(l.oid || ':' || l.xmin::text, ',' ORDER BY l.oid), 0) \
           FROM pg_catalog.pg_enum l; \
         {}",
        quote_literal(slot),
        published_sql(publication, version),
        publication = quote_literal(publication),
    )
}

/// What a publication carries, from the catalogs alone: Postgres's own functions lock each table,
/// and would wait for whoever locks one.
///
/// The marks change whenever the thing does that they stand for. Row versions tell what has come
/// back to what it was before.
fn published_sql(publication: &str, version: i32) -> String {
    let publication = quote_literal(publication);
    let via_root = if version >= 130_000 { "p.pubviaroot" } else { "false" };
    let (by_schema, schema_marks, narrowed) = if version >= 150_000 {
        (
            "UNION SELECT c.oid FROM pg_catalog.pg_publication_namespace s JOIN pub ON pub.oid = s.pnpubid \
               JOIN pg_catalog.pg_class c ON c.relnamespace = s.pnnspid AND c.relkind IN ('r', 'p')",
            "UNION ALL SELECT u.leaf, 's' || s.oid || ':' || s.xmin::text, false \
               FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.node \
               JOIN pg_catalog.pg_publication_namespace s ON s.pnnspid = c.relnamespace JOIN pub ON pub.oid = s.pnpubid",
            "r.prqual IS NOT NULL OR r.prattrs IS NOT NULL",
        )
    } else {
        ("", "", "false")
    };
    format!(
        "WITH RECURSIVE pub AS ( \
             SELECT p.oid, p.xmin::text AS version, p.puballtables, \
                    p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate AND NOT {via_root} AS is_whole \
               FROM pg_catalog.pg_publication p WHERE p.pubname = {publication}), \
         named AS ( \
             SELECT r.prrelid AS oid FROM pg_catalog.pg_publication_rel r JOIN pub ON pub.oid = r.prpubid \
             UNION SELECT c.oid FROM pub JOIN pg_catalog.pg_class c ON pub.puballtables AND c.relkind IN ('r', 'p') AND c.oid >= 16384 \
             {by_schema}), \
         down AS ( \
             SELECT n.oid FROM named n \
             UNION SELECT i.inhrelid FROM down d \
               JOIN pg_catalog.pg_class p ON p.oid = d.oid AND p.relkind = 'p' \
               JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid), \
         carried AS ( \
             SELECT c.oid FROM down d JOIN pg_catalog.pg_class c ON c.oid = d.oid \
              WHERE c.relkind = 'r' AND c.relpersistence = 'p'), \
         up AS ( \
             SELECT k.oid AS leaf, k.oid AS node FROM carried k \
             UNION ALL SELECT u.leaf, i.inhparent FROM up u \
               JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.node \
               JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p'), \
         rooted AS ( \
             SELECT u.leaf AS oid, u.node AS root FROM up u \
              WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_inherits i \
                  JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p' WHERE i.inhrelid = u.node)), \
         tree AS ( \
             SELECT DISTINCT k.root, k.root AS node FROM rooted k WHERE k.root <> k.oid \
             UNION ALL SELECT t.root, i.inhrelid FROM tree t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.node), \
         membership AS ( \
             SELECT m.leaf, pg_catalog.hashtextextended(pg_catalog.string_agg(m.mark, ',' ORDER BY m.mark), 0) AS mark, \
                    pg_catalog.bool_or(m.is_narrowed) AS is_narrowed \
               FROM (SELECT u.leaf, 'r' || r.oid || ':' || r.xmin::text AS mark, {narrowed} AS is_narrowed \
                       FROM up u JOIN pg_catalog.pg_publication_rel r ON r.prrelid = u.node JOIN pub ON pub.oid = r.prpubid \
                     UNION ALL SELECT u.leaf, 'i' || i.inhparent || ':' || i.xmin::text, false \
                       FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.node \
                     UNION ALL SELECT k.oid, 'p' || pub.oid || ':' || pub.version, NOT pub.is_whole FROM carried k, pub \
                     {schema_marks}) m \
              GROUP BY m.leaf), \
         found AS ( \
             SELECT true AS is_carried, k.oid, k.root FROM rooted k \
             UNION ALL SELECT false, c.oid, t.root FROM tree t \
               JOIN pg_catalog.pg_class c ON c.oid = t.node AND c.relkind IN ('r', 'f') \
              WHERE NOT EXISTS (SELECT FROM carried k WHERE k.oid = t.node)) \
         SELECT c.oid, n.nspname, c.relname, r.oid, greatest(c.reltuples, 0)::bigint, rn.nspname, r.relname, f.is_carried, \
                m.mark, m.is_narrowed, \
                (SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(a.attnum || ':' || a.xmin::text, ',' ORDER BY a.attnum), 0) \
                   FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0) \
                || '/' || c.relreplident::text || coalesce((SELECT pg_catalog.hashtextextended(pg_catalog.string_agg( \
                       pg_catalog.concat_ws(':', i.indexrelid, i.indkey::text, i.indisprimary, i.indisreplident, i.indisvalid), ',' ORDER BY i.indexrelid), 0)::text \
                   FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique), ''), \
                c.relfilenode \
           FROM found f \
           JOIN pg_catalog.pg_class c ON c.oid = f.oid \
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
           JOIN pg_catalog.pg_class r ON r.oid = f.root \
           JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace \
           LEFT JOIN membership m ON m.leaf = c.oid"
    )
}

/// Reads a heartbeat's answer.
pub fn read(answer: &Answer) -> Result<Heartbeat> {
    let odd = || OdsError::new(ErrorKind::Protocol, "the source answered a heartbeat oddly");
    let [clock, slot, publication, labels, published] = answer.results.as_slice() else {
        return Err(odd());
    };
    let clock_us: i64 = clock.get(0, 0).and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    let lsn: Lsn = clock.get(0, 1).and_then(|text| text.parse().ok()).ok_or_else(odd)?;
    Ok(Heartbeat {
        probe: Probe { clock_us: from_unix_us(clock_us), lsn: lsn.0 },
        retained: slot.get(0, 0).and_then(|text| text.parse().ok()),
        publication: publication.get(0, 0).and_then(|oid| oid.parse().ok()),
        labels: labels.get(0, 0).map(str::to_owned),
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
        marks: match (rows.get(row, 8), rows.get(row, 10), rows.get(row, 11)) {
            (Some(membership), Some(shape), Some(storage)) => Some(Marks {
                membership: membership.to_owned(),
                shape: shape.to_owned(),
                storage: storage.to_owned(),
            }),
            _ => None,
        },
        is_narrowed: rows.get(row, 9) == Some("t"),
    })
}

/// Asks the source for a relation and the partitioned tables above it, on a connection for this alone.
pub fn ancestors(access: &ServerAccess, relation: u32) -> Result<Vec<u32>> {
    let mut connection = connect_control(access, Deadline::after(settings::connect_timeout()))?;
    let sql = format!(
        "WITH RECURSIVE up AS ( \
             SELECT {relation}::pg_catalog.oid AS node \
             UNION ALL SELECT i.inhparent FROM up u \
               JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.node \
               JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p') \
         SELECT node FROM up"
    );
    let rows = connection.query(&sql, &[], Deadline::after(settings::network_timeout()))?;
    (0..rows.len()).map(|row| Ok(rows.parse(row, 0)?)).collect()
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
