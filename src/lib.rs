//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod api;
mod error;
mod fence;
mod guard;
mod pg;
mod worker;

use error::{ErrorKind, OdsError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_guard};

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!(
    "../sql/guard.sql",
    name = "guard",
    requires = [api::guard::synced_table_changed]
);
pgrx::extension_sql_file!("../sql/drop.sql", name = "drop", requires = ["catalog"]);
pgrx::extension_sql_file!(
    "../sql/fence.sql",
    name = "fence",
    requires = [api::fence::adopt_database, api::fence::fence_reason]
);

/// Called when the library is loaded.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    if pg::is_binary_upgrade() {
        return;
    }
    if !pg::is_preloading() {
        let error =
            OdsError::new(ErrorKind::NotRunning, "ods must be loaded when the server starts")
                .hint("shared_preload_libraries = 'ods'");
        ErrorReport::from(error).report(PgLogLevel::ERROR);
        return;
    }
    guard::install();
}
