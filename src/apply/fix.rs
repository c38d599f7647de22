//! What a person can run about a table that was set aside.

use crate::catalog::table::{SyncedTable, spi_error};
use crate::error::{ErrorKind, OdsError, Result};
use crate::source::postgres::quote::comment;
use pgrx::{PgSqlErrorCode, Spi};

/// Statements to paste, the last of which has the table followed again. What is no statement stands
/// in comments.
pub fn of(synced: &SyncedTable, error: &OdsError) -> Result<String> {
    if let (ErrorKind::Drift, Some(script)) = (error.kind, &error.hint) {
        return Ok(script.clone());
    }
    let resume = synced.resume_sql();
    let first = match error.kind {
        ErrorKind::Local(
            PgSqlErrorCode::ERRCODE_FOREIGN_KEY_VIOLATION
            | PgSqlErrorCode::ERRCODE_RESTRICT_VIOLATION,
        ) => refused_delete(synced, &error.message)?,
        _ => None,
    };
    Ok(match first.or_else(|| error.hint.as_deref().map(as_statement)) {
        Some(first) => format!("{first}\n{resume}"),
        None => resume,
    })
}

/// A hint as part of a script.
fn as_statement(hint: &str) -> String {
    let first = hint.split_whitespace().next().unwrap_or_default();
    let is_statement = first.chars().all(|c| c.is_ascii_uppercase()) && hint.contains(';');
    if is_statement && !hint.contains('…') {
        return hint.to_owned();
    }
    comment(hint)
}

/// What helps where a foreign key that points at the table refuses a delete: either the row stays,
/// marked, or the foreign key says what becomes of the rows that need it.
fn refused_delete(synced: &SyncedTable, message: &str) -> Result<Option<String>> {
    let found = Spi::get_two_with_args::<String, String>(
        "SELECT pg_catalog.format('%I of %I.%I', k.conname, n.nspname, c.relname), \
                pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT %I, ADD CONSTRAINT %I ', n.nspname, c.relname, k.conname, k.conname) \
                || pg_catalog.regexp_replace(pg_catalog.replace(pg_catalog.pg_get_constraintdef(k.oid), ' ON DELETE RESTRICT', ''), \
                       '^(.*?)( ON UPDATE .*| DEFERRABLE.*| NOT VALID)?$', '\\1 ON DELETE CASCADE\\2') \
         FROM pg_catalog.pg_constraint k \
         JOIN pg_catalog.pg_class c ON c.oid = k.conrelid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE k.contype = 'f' AND k.confrelid = $1 AND pg_catalog.strpos($2, '\"' || k.conname || '\"') > 0 \
         ORDER BY k.oid LIMIT 1",
        &[synced.relation.into(), message.into()],
    );
    let (constraint, cascade) = match found {
        Ok((Some(constraint), Some(cascade))) => (constraint, cascade),
        // The delete was not refused here: a row of this table lacks one that it points at.
        Ok(_) | Err(pgrx::spi::Error::InvalidPosition) => return Ok(None),
        Err(error) => return Err(spi_error(error)),
    };
    Ok(Some(format!(
        "{}\n{}\n\
         -- or rows that are gone at the source stay here, marked:\n\
         SELECT ods.alter_synced_table({}, on_delete => 'mark');",
        comment(&format!(
            "Constraint {constraint} refuses the delete. It may say ON DELETE CASCADE, or SET NULL:"
        )),
        comment(&format!("{cascade};")),
        pgrx::spi::quote_literal(synced.display())
    )))
}

#[cfg(test)]
mod tests {
    use super::as_statement;

    #[test]
    fn what_is_no_statement_becomes_a_comment() {
        assert_eq!(as_statement("ALTER TABLE t ADD c int;"), "ALTER TABLE t ADD c int;");
        assert_eq!(as_statement("Leave it out; or not."), "-- Leave it out; or not.");
        assert_eq!(as_statement("columns => '{a}'"), "-- columns => '{a}'");
    }
}
