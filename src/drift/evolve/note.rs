//! What the catalog takes note of when columns have changed here.

use crate::catalog::table::execute;
use crate::drift::Seen;
use crate::error::Result;
use pgrx::pg_sys::Oid;

/// What the catalog takes note of, once we are who owns it again.
pub enum Write {
    /// A column is no longer followed.
    Drop(i16),
    /// A column has another name, and maybe another one here.
    Rename {
        /// Its number.
        number: i16,
        /// Its name at the source.
        source: String,
        /// Its name here.
        target: Option<String>,
    },
    /// A column has another type, and maybe another one here.
    Retype { column: Seen, local: Option<String> },
    /// There is a new column, of this type here.
    Add { column: Seen, local: String },
}

impl Write {
    /// Writes it.
    pub fn run(self, id: i32) -> Result<()> {
        match self {
            Self::Drop(number) => execute(
                "DELETE FROM ods.synced_column WHERE table_id = $1 AND source_attnum = $2",
                &[id.into(), number.into()],
            ),
            Self::Rename { number, source, target } => execute(
                "UPDATE ods.synced_column SET source_name = $3, target_name = coalesce($4, target_name) \
                 WHERE table_id = $1 AND source_attnum = $2",
                &[id.into(), number.into(), source.into(), target.into()],
            ),
            Self::Retype { column, local } => execute(
                "UPDATE ods.synced_column SET source_type_oid = $3, source_type_modifier = $4, source_type = $5, \
                        local_type = coalesce($6, local_type) WHERE table_id = $1 AND source_attnum = $2",
                &[
                    id.into(),
                    column.attnum.into(),
                    Oid::from(column.type_oid).into(),
                    column.type_modifier.into(),
                    column.type_sql.into(),
                    local.into(),
                ],
            ),
            Self::Add { column, local } => execute(
                "INSERT INTO ods.synced_column (table_id, ordinal, source_name, source_attnum, source_type_oid, \
                     source_type_modifier, source_type, local_type, target_name) \
                 SELECT $1, coalesce(pg_catalog.max(c.ordinal), 0) + 1, $2, $3, $4, $5, $6, $7, $2 \
                   FROM ods.synced_column c WHERE c.table_id = $1",
                &[
                    id.into(),
                    column.name.into(),
                    column.attnum.into(),
                    Oid::from(column.type_oid).into(),
                    column.type_modifier.into(),
                    column.type_sql.into(),
                    local.into(),
                ],
            ),
        }
        .map(|_| ())
    }
}
