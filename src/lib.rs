//! `ods`: an operational data store inside Postgres.
//!
//! A *source* yields messages, *decode* turns each into a `Change`, *batch* gathers what one local
//! commit will hold, *apply* writes it together with the stream's position, and only then is the
//! source told. Everything else serves that line.

mod batch;
mod decode;
mod error;
mod load;
mod spill;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
