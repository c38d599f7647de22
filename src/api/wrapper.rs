//! The validators behind `CREATE SERVER` and `CREATE USER MAPPING`.

use crate::error::{ErrorKind, OdsError};
use crate::pg::foreign::{self, OptionPlace};
use crate::source::options::{Author, Place, Rules};
use crate::source::server::Kind;
use crate::source::{kafka, postgres};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

/// Checks the options of an `ods_postgres` server or user mapping; `catalog` says which.
#[pg_extern]
fn postgres_validator(
    settings: Vec<Option<String>>,
    catalog: pg_sys::Oid,
) -> Result<(), ErrorReport> {
    validate(&postgres::options::RULES, Kind::Postgres.wrapper(), &settings, catalog)
}

/// Checks the options of an `ods_kafka` server or user mapping; `catalog` says which.
#[pg_extern]
fn kafka_validator(settings: Vec<Option<String>>, catalog: pg_sys::Oid) -> Result<(), ErrorReport> {
    validate(&kafka::options::RULES, Kind::Kafka.wrapper(), &settings, catalog)
}

fn validate(
    rules: &Rules,
    wrapper: &str,
    settings: &[Option<String>],
    catalog: pg_sys::Oid,
) -> Result<(), ErrorReport> {
    let place = match OptionPlace::of_catalog(catalog) {
        OptionPlace::Server => Some(Place::Server),
        OptionPlace::UserMapping => Some(Place::UserMapping),
        OptionPlace::Elsewhere => None,
    };
    let author = if foreign::is_superuser(foreign::current_user()) {
        Author::Superuser
    } else {
        Author::Plain
    };
    for setting in settings.iter().flatten() {
        let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
        let Some(place) = place else {
            return Err(OdsError::new(
                ErrorKind::InvalidArgument,
                format!("option \"{name}\" has no place here"),
            )
            .hint(format!("Only servers and user mappings of {wrapper} have options."))
            .into());
        };
        rules.check(place, author, name, value).map_err(|refusal| {
            let kind = if refusal.needs_superuser {
                ErrorKind::Forbidden
            } else {
                ErrorKind::InvalidArgument
            };
            OdsError::new(kind, refusal.message).hint(refusal.hint)
        })?;
    }
    Ok(())
}
