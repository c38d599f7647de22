//! Holding a table here while its columns change. Whoever reads it is waited for only a moment: the
//! stream brings the changes of other tables too.

use crate::catalog::table::{self, SyncedTable, spi_error};
use crate::drift::fix;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::{guc, relcache, subxact};
use pgrx::{PgSqlErrorCode, Spi};
use std::time::Duration;

/// How long others are waited for, while those who come later wait behind us.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Locks the table to the end of the transaction, its state first, as everybody does who writes
/// about a load. An error of kind [`ErrorKind::Busy`] says who holds it.
pub fn take(synced: &SyncedTable) -> Result<()> {
    let taken = guc::with_lock_timeout(PATIENCE, || {
        subxact::run(|| {
            table::state_for_update(synced.id)?;
            relcache::lock_to_alter(synced.relation);
            Ok(())
        })
    });
    match taken {
        Err(OdsError {
            kind:
                ErrorKind::Local(
                    PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE
                    | PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED,
                ),
            ..
        }) => Err(busy(synced)?),
        taken => taken,
    }
}

fn busy(synced: &SyncedTable) -> Result<OdsError> {
    let (who, ends) = Spi::get_two_with_args::<String, String>(
        "SELECT pg_catalog.string_agg(pg_catalog.format('process %s (%s)', h.pid, h.who), ', ' ORDER BY h.pid), \
                pg_catalog.string_agg(pg_catalog.format('SELECT pg_catalog.pg_terminate_backend(%s);', h.pid), ' ' ORDER BY h.pid) \
           FROM (SELECT DISTINCT a.pid, pg_catalog.concat_ws(', ', coalesce(a.usename::text, a.backend_type), a.state) AS who \
                   FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid) \
                  WHERE l.locktype = 'relation' AND l.relation = $1 AND l.granted AND a.pid <> pg_catalog.pg_backend_pid() \
                    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())) h",
        &[synced.relation.into()],
    )
    .map_err(spi_error)?;
    let who = who.unwrap_or_else(|| "somebody who has let go of it meanwhile".to_owned());
    let error = OdsError::new(
        ErrorKind::Busy,
        format!(
            "columns of {} have changed, and {} is held here by {who}",
            fix::source(synced),
            synced.display()
        ),
    );
    Ok(match ends {
        Some(ends) => error.hint(format!("{ends}  -- or wait until the transaction ends")),
        None => error,
    })
}
