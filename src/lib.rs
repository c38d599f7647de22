//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod api;
mod error;
mod pg;
mod source;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!(
    "../sql/wrapper.sql",
    name = "wrapper",
    requires = [
        "catalog",
        api::wrapper::postgres_validator,
        api::check::check_server,
        api::discover::discover
    ]
);
pgrx::extension_sql_file!("../sql/access.sql", name = "access", finalize);

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
