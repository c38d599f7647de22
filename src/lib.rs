//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod error;
mod pg;
mod settings;
mod worker;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!(
    "../sql/board.sql",
    name = "board",
    requires = [
        worker::board::sql::stream_board,
        worker::board::sql::maintenance_board,
        worker::board::sql::wake
    ]
);

/// Runs when the server loads the library.
#[pgrx::pg_guard]
#[allow(non_snake_case)]
pub extern "C-unwind" fn _PG_init() {
    match pg::preload::occasion() {
        pg::preload::Occasion::ServerStart => {
            settings::define();
            worker::install();
        }
        pg::preload::Occasion::BinaryUpgrade => {}
        pg::preload::Occasion::Session => pg::preload::refuse(),
    }
}
