//! The validator behind `CREATE SERVER` and `CREATE USER MAPPING`.

use crate::error::{ErrorKind, OdsError};
use crate::pg::foreign::{self, OptionPlace};
use crate::source::postgres::options::{self, Author, Place};
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

/// Checks the options of an `ods_postgres` server or user mapping; `catalog` says which.
#[pg_extern]
fn postgres_validator(
    settings: Vec<Option<String>>,
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
            .hint("Only servers and user mappings of ods_postgres have options.")
            .into());
        };
        options::check(place, author, name, value).map_err(|refusal| {
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
