//! One synced table as the applier writes it: its row types and prepared statements.

use crate::apply::statements::{Age, Column, OnDelete, Shape, Touch, quote_ident};
use crate::catalog::table::{SyncedTable, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::row_store::{ColumnType, RowType};
use crate::pg::spi::{Connection, Statement};
use crate::pg::{collation, encoding, relcache};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::{HashMap, HashSet};

/// Rows a statement is planned for; a typical batch.
const PLANNED_ROWS: f64 = 1000.0;

/// A statement over values, by what it does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Insert rows known to be new.
    Insert,
    /// Insert rows whose key is not here.
    InsertMissing,
    /// Insert rows, or update those whose key is here.
    Upsert(Age),
    /// Update whole rows.
    UpdateWhole(Touch, Age),
    /// Update the present columns.
    UpdatePresent(Vec<bool>, Age),
    /// Delete rows that the filter turns away.
    DeleteFiltered,
    /// Delete by key.
    Delete(Age),
    /// Delete by the key a row had before.
    DeleteMoved,
    /// Give rows the key they have now.
    MoveKey,
    /// Read the local values of rows.
    ReadLocal,
    /// Tell which whole rows differ.
    Differing,
    /// Tell which keys have a row.
    Present,
    /// Tell which whole rows the table's constraints refuse.
    Refused,
}

/// The relation that a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rows {
    /// `v0…, committed_at` and, where rows keep it, `position`.
    Values,
    /// `k0…, committed_at` and, where rows keep it, `position`.
    Keys,
    /// `o0…`.
    Origins,
    /// `o0…, k0…`.
    Moves,
    /// `k0…, ordinal`.
    Numbered,
}

impl Kind {
    fn rows(&self) -> Rows {
        match self {
            Self::Insert
            | Self::InsertMissing
            | Self::Upsert(_)
            | Self::UpdateWhole(..)
            | Self::UpdatePresent(..)
            | Self::DeleteFiltered
            | Self::Differing
            | Self::Refused => Rows::Values,
            Self::Delete(_) => Rows::Keys,
            Self::DeleteMoved => Rows::Origins,
            Self::MoveKey => Rows::Moves,
            Self::ReadLocal | Self::Present => Rows::Numbered,
        }
    }
}

/// A synced table, open for writing.
pub struct Target {
    /// The table.
    pub relation: pg_sys::Oid,
    /// Its id in the catalog.
    pub table_id: i32,
    /// Its schema when it was opened.
    pub schema: String,
    /// Its name when it was opened.
    pub name: String,
    /// What its statements depend on.
    pub shape: Shape,
    /// Whether a foreign key with an action points here, so that deletes must not be netted away.
    pub deletes_matter: bool,
    /// Whether any foreign key points here, so that a row must be seen to change its key.
    pub is_referenced: bool,
    /// What the table's columns were when it was opened.
    pub layout: u64,
    /// The encoding in which text comes, a `pg_enc` number.
    pub encoding: i32,
    /// Whether that is another than this database's.
    pub converts: bool,
    /// Whether COPY reads every value as it is meant: a `"char"` above 127 is no valid text in most
    /// encodings, and what newer servers write in its stead is read by newer ones only.
    pub may_copy: bool,
    /// Whether keys that are equal are written alike, as 1.0 and 1.00 are not.
    pub keys_are_exact: bool,
    /// How many more batches of rows that may be here or not are upserted without asking which are: most
    /// were.
    pub upserts: u8,
    /// Keys of the batch for which an event left out a value that had not changed.
    pub unavailable: HashSet<Vec<String>>,
    values: RowType,
    keys: RowType,
    origins: RowType,
    moves: RowType,
    numbered: RowType,
    statements: HashMap<Kind, Statement>,
}

struct Attribute {
    type_oid: pg_sys::Oid,
    typmod: i32,
    collation: pg_sys::Oid,
    collation_sql: Option<String>,
    sql_type: String,
}

impl Target {
    /// Opens a table; text values will come in `encoding`.
    pub fn open(table: &SyncedTable, encoding: i32) -> Result<Self> {
        // A table whose changes pass by is not written, and nobody waits for who changes its columns.
        let now = match table.passes_until {
            Some(_) => None,
            None => Some(relcache::look(table.relation)?),
        };
        let attributes = attributes_of(table.relation)?;
        let mut columns = Vec::with_capacity(table.columns.len());
        let mut types = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            let target = match (&column.target_name, &table.transform) {
                (Some(name), None) => Some(attributes.get(name).ok_or_else(|| {
                    OdsError::new(
                        ErrorKind::Mismatch,
                        format!(
                            "synced table {} has no column {}",
                            table.display(),
                            quote_ident(name)
                        ),
                    )
                })?),
                _ => None,
            };
            let (kind, sql_type) = match target {
                Some(attribute) => (
                    (attribute.type_oid, attribute.typmod, attribute.collation),
                    attribute.sql_type.clone(),
                ),
                None => (local_type(&column.local_type)?, column.local_type.clone()),
            };
            types.push(kind);
            columns.push(Column {
                source: column.source_name.clone(),
                target: column.target_name.clone(),
                sql_type,
                collation: column
                    .target_name
                    .as_ref()
                    .and_then(|name| attributes.get(name)?.collation_sql.clone()),
            });
        }
        let key = table.key();
        let shape = Shape {
            table: format!("{}.{}", quote_ident(&table.schema), quote_ident(&table.name)),
            columns,
            key: key.clone(),
            transform: table.transform.clone(),
            transformed: table.transform_columns.clone(),
            filter: table.filter.clone(),
            on_delete: OnDelete::parse(&table.on_delete).ok_or_else(|| {
                OdsError::new(ErrorKind::Bug, "the catalog holds an unknown on_delete")
            })?,
            has_mark: attributes.contains_key("_ods_deleted_at"),
            has_position: table.topics.is_some() && attributes.contains_key("_ods_position"),
        };
        let named = |prefix: &str, which: &[usize]| -> Vec<ColumnType> {
            which
                .iter()
                .enumerate()
                .map(|(position, &column)| {
                    let (type_oid, typmod, collation) = types[column];
                    ColumnType { name: format!("{prefix}{position}"), type_oid, typmod, collation }
                })
                .collect()
        };
        let extra = |name: &str, type_oid| ColumnType {
            name: name.to_owned(),
            type_oid,
            typmod: -1,
            collation: pg_sys::InvalidOid,
        };
        let all: Vec<usize> = (0..types.len()).collect();
        let mut values = named("v", &all);
        let position = || shape.has_position.then(|| extra("position", pg_sys::INT8OID));
        values.push(extra("committed_at", pg_sys::TIMESTAMPTZOID));
        values.extend(position());
        let mut keys = named("k", &key);
        keys.push(extra("committed_at", pg_sys::TIMESTAMPTZOID));
        keys.extend(position());
        let mut moves = named("o", &key);
        moves.extend(named("k", &key));
        let mut numbered = named("k", &key);
        numbered.push(extra("ordinal", pg_sys::INT4OID));
        Ok(Self {
            relation: table.relation,
            table_id: table.id,
            schema: table.schema.clone(),
            name: table.name.clone(),
            deletes_matter: now.as_ref().is_some_and(|now| now.deletes_act),
            is_referenced: now.as_ref().is_some_and(|now| now.is_referenced),
            layout: now.map_or(0, |now| now.layout),
            encoding,
            converts: encoding != encoding::number_of_database(),
            may_copy: types.iter().all(|(type_oid, ..)| *type_oid != pg_sys::CHAROID),
            keys_are_exact: key.iter().all(|&column| {
                let (type_oid, _, collation) = types[column];
                is_written_one_way(type_oid) && collation::is_deterministic(collation)
            }),
            shape,
            values: RowType::new(&values, encoding)?,
            keys: RowType::new(&keys, encoding)?,
            origins: RowType::new(&named("o", &key), encoding)?,
            moves: RowType::new(&moves, encoding)?,
            numbered: RowType::new(&numbered, encoding)?,
            upserts: 0,
            unavailable: HashSet::new(),
            statements: HashMap::new(),
        })
    }

    /// The encoding that COPY is to read text in, by name.
    pub fn encoding_name(&self) -> String {
        encoding::name(encoding::to_copy_from(self.encoding))
    }

    /// The statement that tells which rows constraints refuse, if it was asked for and there are any,
    /// with the type of the rows it reads.
    pub fn refusal(&mut self) -> (Option<&Statement>, &mut RowType) {
        (self.statements.get(&Kind::Refused), &mut self.values)
    }

    fn row_type(&mut self, rows: Rows) -> &mut RowType {
        match rows {
            Rows::Values => &mut self.values,
            Rows::Keys => &mut self.keys,
            Rows::Origins => &mut self.origins,
            Rows::Moves => &mut self.moves,
            Rows::Numbered => &mut self.numbered,
        }
    }

    /// The statement of that kind with the type of the rows it reads; none where the table's
    /// choices make it do nothing.
    pub fn statement(
        &mut self,
        spi: &Connection,
        kind: &Kind,
    ) -> Result<Option<(&Statement, &mut RowType)>> {
        if !self.statements.contains_key(kind) {
            let sql = match kind {
                Kind::Insert => Some(self.shape.insert()),
                Kind::InsertMissing => Some(self.shape.insert_missing()),
                Kind::Upsert(age) => Some(self.shape.upsert(*age)),
                Kind::UpdateWhole(touch, age) => Some(self.shape.update_whole(*touch, *age)),
                Kind::UpdatePresent(present, age) => Some(self.shape.update_present(present, *age)),
                Kind::DeleteFiltered => self.shape.delete_filtered(),
                Kind::Delete(age) => self.shape.delete(*age),
                Kind::DeleteMoved => Some(self.shape.delete_moved()),
                Kind::MoveKey => Some(self.shape.move_key()),
                Kind::ReadLocal => Some(self.shape.read_local()),
                Kind::Differing => Some(self.shape.differing()),
                Kind::Present => Some(self.shape.present()),
                Kind::Refused => {
                    let (not_null, checks) = constraints(self.relation, &self.shape.targets())?;
                    self.shape.refused(&not_null, &checks)
                }
            };
            let Some(sql) = sql else { return Ok(None) };
            let statement =
                Statement::prepare(spi, &sql, self.row_type(kind.rows()), PLANNED_ROWS)?;
            self.statements.insert(kind.clone(), statement);
        }
        let rows = match kind.rows() {
            Rows::Values => &mut self.values,
            Rows::Keys => &mut self.keys,
            Rows::Origins => &mut self.origins,
            Rows::Moves => &mut self.moves,
            Rows::Numbered => &mut self.numbered,
        };
        Ok(self.statements.get(kind).map(|statement| (statement, rows)))
    }
}

fn attributes_of(relation: pg_sys::Oid) -> Result<std::collections::BTreeMap<String, Attribute>> {
    Spi::connect(|client| {
        let rows = client
            .select(
                "SELECT a.attname::text, a.atttypid, a.atttypmod, a.attcollation, \
                        pg_catalog.format_type(a.atttypid, a.atttypmod), \
                        (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c \
                          JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) \
                 FROM pg_catalog.pg_attribute a \
                 WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped",
                None,
                &[relation.into()],
            )
            .map_err(spi_error)?;
        rows.map(|row| {
            let name = row.get::<String>(1).ok().flatten();
            let type_oid = row.get::<pg_sys::Oid>(2).ok().flatten();
            let typmod = row.get::<i32>(3).ok().flatten();
            let collation = row.get::<pg_sys::Oid>(4).ok().flatten();
            let sql_type = row.get::<String>(5).ok().flatten();
            let collation_sql = row.get::<String>(6).ok().flatten();
            match (name, type_oid, typmod, collation, sql_type) {
                (Some(name), Some(type_oid), Some(typmod), Some(collation), Some(sql_type)) => {
                    Ok((name, Attribute { type_oid, typmod, collation, collation_sql, sql_type }))
                }
                _ => Err(OdsError::new(ErrorKind::Bug, "a column's catalog row is incomplete")),
            }
        })
        .collect()
    })
}

/// Whether equal values of a type have one text that a source writes, as of many types it has.
fn is_written_one_way(type_oid: pg_sys::Oid) -> bool {
    matches!(
        type_oid,
        pg_sys::BOOLOID
            | pg_sys::INT2OID
            | pg_sys::INT4OID
            | pg_sys::INT8OID
            | pg_sys::OIDOID
            | pg_sys::UUIDOID
            | pg_sys::TEXTOID
            | pg_sys::VARCHAROID
            | pg_sys::NAMEOID
            | pg_sys::DATEOID
            | pg_sys::TIMESTAMPOID
            | pg_sys::TIMESTAMPTZOID
    )
}

/// The type that a type name of the catalog means here.
fn local_type(name: &str) -> Result<(pg_sys::Oid, i32, pg_sys::Oid)> {
    let found = Spi::get_three_with_args::<pg_sys::Oid, i32, pg_sys::Oid>(
        "SELECT t.oid, -1, t.typcollation FROM pg_catalog.pg_type t \
         WHERE t.oid = pg_catalog.to_regtype($1)",
        &[name.into()],
    )
    .map_err(spi_error)?;
    match found {
        (Some(oid), Some(typmod), Some(collation)) => Ok((oid, typmod, collation)),
        _ => Err(OdsError::new(
            ErrorKind::Mismatch,
            format!("the source's type {name} does not exist in this database"),
        )),
    }
}

/// Columns of the target that hold no NULL, and CHECK constraints over columns that are written.
fn constraints(relation: pg_sys::Oid, targets: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    Spi::connect(|client| {
        let text = |sql: &str| -> Result<Vec<String>> {
            let rows = client
                .select(sql, None, &[relation.into(), targets.to_vec().into()])
                .map_err(spi_error)?;
            Ok(rows.filter_map(|row| row.get::<String>(1).ok().flatten()).collect())
        };
        let not_null = text(
            "SELECT attname::text FROM pg_catalog.pg_attribute \
             WHERE attrelid = $1 AND attnotnull AND NOT attisdropped AND attname = ANY ($2)",
        )?;
        let checks = text(
            "SELECT pg_catalog.pg_get_expr(c.conbin, c.conrelid) FROM pg_catalog.pg_constraint c \
             WHERE c.conrelid = $1 AND c.contype = 'c' AND c.conkey <@ ( \
                   SELECT pg_catalog.array_agg(attnum) FROM pg_catalog.pg_attribute \
                   WHERE attrelid = $1 AND NOT attisdropped AND attname = ANY ($2))",
        )?;
        Ok((not_null, checks))
    })
}
