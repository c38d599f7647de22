//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod api;
mod apply;
mod batch;
mod catalog;
mod decode;
mod drift;
mod error;
mod fence;
mod freshness;
mod guard;
mod load;
mod pg;
mod settings;
mod source;
mod spill;
mod verify;
mod worker;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!(
    "../sql/wrapper.sql",
    name = "wrapper",
    requires = [
        "catalog",
        api::wrapper::postgres_validator,
        api::wrapper::kafka_validator,
        api::check::check_server,
        api::discover::discover
    ]
);
pgrx::extension_sql_file!(
    "../sql/peek.sql",
    name = "peek",
    requires = ["wrapper", api::peek::peek_messages]
);
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
pgrx::extension_sql_file!(
    "../sql/board.sql",
    name = "board",
    requires = [
        worker::board::sql::stream_board,
        worker::board::sql::maintenance_board,
        worker::board::sql::wake
    ]
);
pgrx::extension_sql_file!("../sql/views.sql", name = "views", requires = ["board", "fence"]);
pgrx::extension_sql_file!("../sql/comments.sql", name = "comments", requires = ["views"]);
pgrx::extension_sql_file!("../sql/wait.sql", name = "wait", requires = ["views"]);
pgrx::extension_sql_file!(
    "../sql/access.sql",
    name = "access",
    requires = [
        "views",
        "wait",
        api::create::create_synced_table,
        api::verbs::pause,
        api::verbs::resume,
        api::resync::resync,
        api::resync::cancel_resync,
        api::seek::seek,
        api::verify::verify,
        api::verify::set_verify_schedule,
        api::verify::remove_verify_schedule,
        api::verbs::drop_synced_table,
        api::alter::alter_synced_table,
        api::letters::retry_dead_letters,
        api::letters::discard_dead_letters,
        api::wait::wait_for_position,
        api::check::check_server,
        api::discover::discover
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
            guard::install();
        }
        pg::preload::Occasion::BinaryUpgrade => {}
        pg::preload::Occasion::Session => pg::preload::refuse(),
    }
}

/// What pgrx's test framework asks for.
#[cfg(test)]
pub mod pg_test {
    /// Called once, before the first test.
    pub fn setup(_options: Vec<&str>) {}

    /// Lines of postgresql.conf.
    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'ods'"]
    }
}
