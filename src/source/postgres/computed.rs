//! Generated columns of the source. Changes do not carry them; what they are computed by is the
//! source's word, so a person reads the statement before it runs here.

use crate::error::Result;
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use crate::settings;

/// A generated column.
pub struct Computed {
    /// Its number.
    pub attnum: i16,
    /// Its name.
    pub name: String,
    /// Its name as SQL.
    pub quoted: String,
    /// What computes it elsewhere, behind `ALTER TABLE name`.
    pub clause: String,
}

/// The generated columns of a table, in order.
pub fn describe(connection: &mut Connection, table: u32) -> Result<Vec<Computed>> {
    let found = connection.query(
        "SELECT a.attnum, a.attname, pg_catalog.quote_ident(a.attname), \
                pg_catalog.format('ADD COLUMN %I %s GENERATED ALWAYS AS (%s) STORED', a.attname, \
                    pg_catalog.format_type(a.atttypid, a.atttypmod), pg_catalog.pg_get_expr(d.adbin, d.adrelid)) \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
         WHERE a.attrelid = $1::pg_catalog.oid AND a.attgenerated <> '' AND NOT a.attisdropped ORDER BY a.attnum",
        &[Some(&table.to_string())],
        Deadline::after(settings::network_timeout()),
    )?;
    (0..found.len())
        .map(|row| {
            let text = |column| found.get(row, column).unwrap_or_default().to_owned();
            Ok(Computed {
                attnum: found.parse(row, 0)?,
                name: text(1),
                quoted: text(2),
                clause: text(3),
            })
        })
        .collect()
}
