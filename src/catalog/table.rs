//! Synced tables as the catalog describes them.

mod load;
mod state;

pub use load::*;
pub use state::*;

use super::key;
use super::topics::{self, TopicSource};
use crate::decode::lsn::Lsn;
use crate::error::{ErrorKind, OdsError, Result};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys;
use pgrx::prelude::*;
use pgrx::spi::SpiHeapTupleData;
use std::collections::BTreeSet;

/// What a synced table is doing, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// Rows are being read from the source; set by the verbs, ended by the stream worker.
    Loading,
    /// Follows the stream.
    Live,
    /// Set aside by a person; changes pass by.
    Paused,
    /// Set aside by the worker because a change could not be applied or the stream has a gap.
    Failed,
}

impl TableState {
    /// The name in the catalog.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Live => "live",
            Self::Paused => "paused",
            Self::Failed => "failed",
        }
    }

    /// Whether the table follows its stream, or is on the way to it.
    pub fn is_followed(self) -> bool {
        matches!(self, Self::Live | Self::Loading)
    }

    fn parse(name: &str) -> Result<Self> {
        match name {
            "loading" => Ok(Self::Loading),
            "live" => Ok(Self::Live),
            "paused" => Ok(Self::Paused),
            "failed" => Ok(Self::Failed),
            other => Err(unknown("table state", other)),
        }
    }
}

/// Whether the search for rows that the source no longer has is still to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// Nothing to look for.
    None,
    /// Due once every member is loaded.
    Due,
}

/// What happens to a table when one of its changes can't be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The change is kept as a dead letter, and its key parked; all others flow.
    Park,
    /// The table is set aside.
    Halt,
}

impl OnError {
    /// The choice of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "park" => Some(Self::Park),
            "halt" => Some(Self::Halt),
            _ => None,
        }
    }
}

/// What a load is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resync {
    /// It brings what is not here yet, or was missed.
    None,
    /// Somebody asked for it, and the table had missed nothing.
    Asked,
}

/// What a change of the source's columns does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDrift {
    /// The table here changes as its source did.
    Evolve,
    /// The table here stays as it is, as far as its rows can still come.
    Ignore,
    /// The table is set aside.
    Halt,
}

impl OnDrift {
    /// The choice of that name.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "evolve" => Some(Self::Evolve),
            "ignore" => Some(Self::Ignore),
            "halt" => Some(Self::Halt),
            _ => None,
        }
    }

    /// The choice's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Evolve => "evolve",
            Self::Ignore => "ignore",
            Self::Halt => "halt",
        }
    }

    /// The choice of that name, or what a caller has to hear.
    pub fn asked(name: &str) -> Result<Self> {
        Self::parse(name).ok_or_else(|| {
            OdsError::new(ErrorKind::InvalidArgument, format!("on_drift can't be {name:?}"))
                .hint("on_drift => 'evolve', 'ignore' or 'halt'")
        })
    }
}

/// Which columns of the source a table was made to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnChoice {
    /// All, later ones too.
    All,
    /// Those that were listed.
    Listed,
}

/// A relation of the source that feeds a synced table.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its oid at the source.
    pub oid: u32,
    /// Its schema there.
    pub schema: String,
    /// Its name there.
    pub table: String,
    /// Whether all its rows were read.
    pub loaded: bool,
    /// The last key whose row was read, as text, while loading.
    pub last_key: Option<Vec<String>>,
    /// Rows read so far.
    pub rows_done: i64,
    /// What it was known by at the source when it was last looked at; none before the first look.
    pub marks: Option<Marks>,
}

/// What tells that something about a relation of the source has changed. Opaque, but for equality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// By what it is in the publication: if that has changed, changes may not have been sent.
    pub membership: String,
    /// Its columns, and behind a slash what tells its rows apart.
    pub shape: String,
    /// The file that its rows are in: another one after TRUNCATE and all that writes rows anew.
    pub storage: String,
}

/// A column read from the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncedColumn {
    /// Its name there.
    pub source_name: String,
    /// Its attribute number there, which it keeps through renames.
    pub source_attnum: i16,
    /// Its type modifier there.
    pub source_type_modifier: i32,
    /// Its type there.
    pub source_type_oid: u32,
    /// Its type there, as SQL.
    pub source_type: String,
    /// The type here that holds its values, as SQL.
    pub local_type: String,
    /// The column it is written to.
    pub target_name: Option<String>,
    /// Its place in the key, from 1.
    pub key_position: Option<i32>,
}

/// A synced table with everything the worker needs to feed it.
#[derive(Clone, Debug)]
pub struct SyncedTable {
    /// Identity in the catalog.
    pub id: i32,
    /// The table here.
    pub relation: pg_sys::Oid,
    /// Schema here.
    pub schema: String,
    /// Name here.
    pub name: String,
    /// Schema at the source.
    pub source_schema: String,
    /// Name at the source.
    pub source_table: String,
    /// Oid at the source.
    pub source_oid: u32,
    /// Query over the batch.
    pub transform: Option<String>,
    /// The columns that query yields.
    pub transform_columns: Vec<String>,
    /// Condition on the row.
    pub filter: Option<String>,
    /// What a delete does.
    pub on_delete: String,
    /// What a change does that can't be applied.
    pub on_error: OnError,
    /// What a change of the source's columns does.
    pub on_drift: OnDrift,
    /// Which of the source's columns were asked for.
    pub column_choice: ColumnChoice,
    /// Where types of the source's own are made, where not beside the table.
    pub type_schema: Option<String>,
    /// Generated columns of the source above this number came later.
    pub newest_attnum: i16,
    /// What it is doing.
    pub state: TableState,
    /// Whether a sweep is due.
    pub sweep: Sweep,
    /// Where the sweep stands.
    pub sweep_key: Option<Vec<String>>,
    /// The columns, in order.
    pub columns: Vec<SyncedColumn>,
    /// The source's relations that feed it.
    pub members: Vec<Member>,
    /// The topics that feed it, where a Kafka cluster is its source.
    pub topics: Option<TopicSource>,
    /// Keys to read again.
    pub rereads: BTreeSet<Vec<String>>,
    /// When the load began, which tells one load from the next.
    pub load_started: Option<TimestampWithTimeZone>,
    /// What the load is for.
    pub resync: Resync,
    /// How many rows a second the load may read.
    pub rows_per_second: Option<usize>,
    /// Its changes pass by until the stream is there.
    pub passes_until: Option<Lsn>,
    /// Its columns are to be changed by the jobs worker before it is followed again.
    pub is_reshaped: bool,
}

impl SyncedTable {
    /// Column numbers of the key, in key order.
    pub fn key(&self) -> Vec<usize> {
        let mut key: Vec<(i32, usize)> = self
            .columns
            .iter()
            .enumerate()
            .filter_map(|(number, column)| column.key_position.map(|position| (position, number)))
            .collect();
        key.sort_unstable();
        key.into_iter().map(|(_, number)| number).collect()
    }

    /// Whether rows of every member have been read, and searched for those that are gone.
    pub fn is_whole(&self) -> bool {
        self.sweep == Sweep::None && self.members.iter().all(|member| member.loaded)
    }

    /// Whether every change of the source up to the stream's position is here.
    pub fn misses_nothing(&self) -> bool {
        self.state == TableState::Live
            || (self.state == TableState::Loading && self.resync == Resync::Asked)
    }

    /// The name for messages, as SQL.
    pub fn display(&self) -> String {
        pgrx::spi::quote_qualified_identifier(&self.schema, &self.name)
    }

    /// The schema in which types of the source's own are made.
    pub fn type_schema(&self) -> &str {
        self.type_schema.as_deref().unwrap_or(&self.schema)
    }

    /// The statement that brings the table up to date.
    pub fn resume_sql(&self) -> String {
        resume_sql(&self.schema, &self.name)
    }
}

/// The statement that brings a table up to date.
pub fn resume_sql(schema: &str, name: &str) -> String {
    let name = pgrx::spi::quote_qualified_identifier(schema, name);
    format!("SELECT ods.resume({});", pgrx::spi::quote_literal(name))
}

fn unknown(what: &str, value: &str) -> OdsError {
    OdsError::new(ErrorKind::Bug, format!("the catalog holds an unknown {what}: {value}"))
}

fn missing(column: &str) -> OdsError {
    OdsError::new(ErrorKind::Bug, format!("the catalog column {column} is null or of another type"))
}

fn need<T: FromDatum + IntoDatum>(row: &SpiHeapTupleData<'_>, column: &str) -> Result<T> {
    row.get_by_name::<T, _>(column).ok().flatten().ok_or_else(|| missing(column))
}

fn maybe<T: FromDatum + IntoDatum>(row: &SpiHeapTupleData<'_>, column: &str) -> Option<T> {
    row.get_by_name::<T, _>(column).ok().flatten()
}

/// The synced tables of a stream.
pub fn of_stream(stream_id: i32) -> Result<Vec<SyncedTable>> {
    find("t.stream_id = $1", stream_id)
}

/// The synced table of that id, if it still exists.
pub fn by_id(table_id: i32) -> Result<Option<SyncedTable>> {
    Ok(find("t.table_id = $1", table_id)?.pop())
}

fn find(condition: &str, id: i32) -> Result<Vec<SyncedTable>> {
    let sql = format!(
        "SELECT t.table_id, t.relation::pg_catalog.oid AS relation, n.nspname::text AS schema, \
                c.relname::text AS name, t.source_schema, t.source_table, t.source_oid, \
                t.transform, t.transform_columns, t.filter, t.on_delete, t.on_error, t.on_drift, t.column_choice, t.type_schema, t.newest_attnum, \
                s.passes_until, s.reshape_at IS NOT NULL AS is_reshaped, s.state, s.sweep, s.sweep_key, s.load_started_at, s.resync, s.rows_per_second \
         FROM ods.synced_table t \
         JOIN ods.table_state s USING (table_id) \
         JOIN pg_catalog.pg_class c ON c.oid = t.relation \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE {condition} ORDER BY t.table_id"
    );
    let mut tables = Spi::connect(|client| -> Result<Vec<SyncedTable>> {
        let rows = client.select(&sql, None, &[id.into()]).map_err(spi_error)?;
        rows.map(|row| table_of(&row)).collect()
    })?;
    for table in &mut tables {
        table.columns = columns_of(table.id)?;
        table.members = members_of(table.id)?;
        table.rereads = rereads_of(table.id)?;
        table.topics = topics::of_table(table.id)?;
    }
    Ok(tables)
}

fn table_of(row: &SpiHeapTupleData<'_>) -> Result<SyncedTable> {
    let state: String = need(row, "state")?;
    let sweep: String = need(row, "sweep")?;
    let resync: String = need(row, "resync")?;
    let on_drift: String = need(row, "on_drift")?;
    let column_choice: String = need(row, "column_choice")?;
    Ok(SyncedTable {
        id: need(row, "table_id")?,
        relation: need(row, "relation")?,
        schema: need(row, "schema")?,
        name: need(row, "name")?,
        source_schema: need(row, "source_schema")?,
        source_table: need(row, "source_table")?,
        source_oid: maybe::<pg_sys::Oid>(row, "source_oid").map_or(0, pg_sys::Oid::to_u32),
        transform: maybe(row, "transform"),
        transform_columns: maybe(row, "transform_columns").unwrap_or_default(),
        filter: maybe(row, "filter"),
        on_delete: need(row, "on_delete")?,
        on_error: OnError::parse(&need::<String>(row, "on_error")?)
            .ok_or_else(|| unknown("on_error", "value"))?,
        on_drift: OnDrift::parse(&on_drift).ok_or_else(|| unknown("on_drift", &on_drift))?,
        column_choice: match column_choice.as_str() {
            "all" => ColumnChoice::All,
            _ => ColumnChoice::Listed,
        },
        type_schema: maybe(row, "type_schema"),
        newest_attnum: need(row, "newest_attnum")?,
        state: TableState::parse(&state)?,
        sweep: if sweep == "due" { Sweep::Due } else { Sweep::None },
        sweep_key: maybe(row, "sweep_key").map(key::read),
        columns: Vec::new(),
        members: Vec::new(),
        topics: None,
        rereads: BTreeSet::new(),
        load_started: maybe(row, "load_started_at"),
        resync: if resync == "asked" { Resync::Asked } else { Resync::None },
        rows_per_second: maybe::<i32>(row, "rows_per_second")
            .and_then(|rows| usize::try_from(rows).ok()),
        passes_until: maybe::<String>(row, "passes_until").and_then(|text| text.parse().ok()),
        is_reshaped: need(row, "is_reshaped")?,
    })
}

fn columns_of(table_id: i32) -> Result<Vec<SyncedColumn>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT source_name, source_attnum, source_type_oid, source_type_modifier, source_type, local_type, target_name, key_position \
                 FROM ods.synced_column WHERE table_id = $1 ORDER BY ordinal",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            Ok(SyncedColumn {
                source_name: need(&row, "source_name")?,
                source_attnum: need(&row, "source_attnum")?,
                source_type_modifier: need(&row, "source_type_modifier")?,
                source_type_oid: maybe::<pg_sys::Oid>(&row, "source_type_oid")
                    .map_or(0, pg_sys::Oid::to_u32),
                source_type: need(&row, "source_type")?,
                local_type: need(&row, "local_type")?,
                target_name: maybe(&row, "target_name"),
                key_position: maybe(&row, "key_position"),
            })
        })
        .collect()
    })
}

fn members_of(table_id: i32) -> Result<Vec<Member>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT source_oid, source_schema, source_table, state, last_key, rows_done, \
                        membership_mark, shape_mark, storage_mark \
                 FROM ods.source_member WHERE table_id = $1 ORDER BY source_oid",
                None,
                &[table_id.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            Ok(Member {
                oid: need::<pg_sys::Oid>(&row, "source_oid")?.to_u32(),
                schema: need(&row, "source_schema")?,
                table: need(&row, "source_table")?,
                loaded: need::<String>(&row, "state")? == "loaded",
                last_key: maybe(&row, "last_key").map(key::read),
                rows_done: need(&row, "rows_done")?,
                marks: match (
                    maybe(&row, "membership_mark"),
                    maybe(&row, "shape_mark"),
                    maybe(&row, "storage_mark"),
                ) {
                    (Some(membership), Some(shape), Some(storage)) => {
                        Some(Marks { membership, shape, storage })
                    }
                    _ => None,
                },
            })
        })
        .collect()
    })
}

fn rereads_of(table_id: i32) -> Result<BTreeSet<Vec<String>>> {
    Spi::connect(|client| {
        let rows = client
            .select("SELECT key FROM ods.reread WHERE table_id = $1", None, &[table_id.into()])
            .map_err(spi_error)?;
        rows.map(|row| need(&row, "key").map(key::read)).collect()
    })
}

/// Runs a statement that writes the catalog; the number of rows it touched.
pub fn execute(sql: &str, args: &[DatumWithOid<'_>]) -> Result<usize> {
    Spi::connect_mut(|client| {
        client.update(sql, None, args).map(|rows| rows.len()).map_err(spi_error)
    })
}

/// An SPI failure that pgrx reports as a value rather than by raising.
pub fn spi_error(error: pgrx::spi::Error) -> OdsError {
    OdsError::new(ErrorKind::Bug, format!("a catalog statement failed: {error}"))
}

/// Whether a column of `relation` is of an enum, or of what is made of one.
pub fn holds_enum(relation: pg_sys::Oid) -> Result<bool> {
    Spi::get_one_with_args::<bool>(
        "WITH RECURSIVE part (oid) AS ( \
             SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped \
             UNION \
             SELECT n.oid FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid CROSS JOIN LATERAL ( \
                 SELECT t.typelem WHERE t.typelem <> 0 AND t.typtype = 'b' \
                 UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd' \
                 UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                           WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) n (oid)) \
         SELECT EXISTS (SELECT FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid WHERE t.typtype = 'e')",
        &[relation.into()],
    )
    .map(|found| found.unwrap_or(false))
    .map_err(spi_error)
}
