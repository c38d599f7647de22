//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod batch;
mod decode;
mod api;
mod error;
mod pg;
mod source;
mod settings;
mod worker;
mod fence;
mod guard;

use error::{ErrorKind, OdsError};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, pg_guard};

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!(
    "../sql/wrapper.sql",
    name = "wrapper",
    requires = [api::wrapper::postgres_validator]
);
    "../sql/board.sql",
    name = "board",
    requires = [
        worker::board::sql::stream_board,
        worker::board::sql::maintenance_board,
        worker::board::sql::wake
    ]

/// Runs when the server loads the library.
#[pgrx::pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    if pg::preload::is_binary_upgrade() {
        return;
    }
    pg::preload::require();
    worker::install();
    "../sql/guard.sql",
    name = "guard",
    requires = [api::guard::synced_table_changed]
pgrx::extension_sql_file!("../sql/drop.sql", name = "drop", requires = ["catalog"]);
pgrx::extension_sql_file!(
    "../sql/fence.sql",
    name = "fence",
    requires = [api::fence::adopt_database, api::fence::fence_reason]
/// Called when the library is loaded.
#[pg_guard]
extern "C-unwind" fn _PG_init() {
    if pg::is_binary_upgrade() {
    if !pg::is_preloading() {
        let error =
            OdsError::new(ErrorKind::NotRunning, "ods must be loaded when the server starts")
                .hint("shared_preload_libraries = 'ods'");
        ErrorReport::from(error).report(PgLogLevel::ERROR);
    guard::install();
}
