//! Finding a server of ours by its name, and what kind of source it is.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::{self, ForeignServer};
use crate::source::postgres::quote::quote_ident;

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Postgres database.
    Postgres,
    /// A Kafka cluster.
    Kafka,
}

impl Kind {
    /// All of them.
    const ALL: [Self; 2] = [Self::Postgres, Self::Kafka];

    /// Name of the foreign-data wrapper of such servers.
    pub const fn wrapper(self) -> &'static str {
        match self {
            Self::Postgres => "ods_postgres",
            Self::Kafka => "ods_kafka",
        }
    }

    /// What such a server is, for people.
    fn noun(self) -> &'static str {
        match self {
            Self::Postgres => "a Postgres database",
            Self::Kafka => "a Kafka cluster",
        }
    }
}

/// The server called `name`.
pub fn find(name: &str) -> Result<(ForeignServer, Kind)> {
    let Some(server) = foreign::server_by_name(name)? else {
        return Err(OdsError::new(
            ErrorKind::NotFound,
            format!("server \"{name}\" does not exist"),
        )
        .hint(format!(
            "CREATE SERVER {} FOREIGN DATA WRAPPER {} OPTIONS (host '…', dbname '…');",
            quote_ident(name),
            Kind::Postgres.wrapper()
        )));
    };
    match Kind::ALL.into_iter().find(|kind| kind.wrapper() == server.wrapper) {
        Some(kind) => Ok((server, kind)),
        None => {
            let wrappers = Kind::ALL.map(Kind::wrapper);
            let message = format!(
                "server \"{}\" belongs to wrapper \"{}\", not to {}",
                server.name,
                server.wrapper,
                wrappers.join(" or ")
            );
            Err(OdsError::new(ErrorKind::InvalidArgument, message).hint(format!(
                "SELECT srvname FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE fdwname IN ('{}');",
                wrappers.join("', '")
            )))
        }
    }
}

/// The server called `name`, on which the current user has USAGE.
pub fn for_caller(name: &str) -> Result<(ForeignServer, Kind)> {
    let (server, kind) = find(name)?;
    let user = foreign::current_user();
    if foreign::may_use(server.oid, user) {
        return Ok((server, kind));
    }
    let message = format!("permission denied for server \"{}\"", server.name);
    Err(OdsError::new(ErrorKind::Forbidden, message).hint(format!(
        "GRANT USAGE ON FOREIGN SERVER {} TO {};",
        quote_ident(&server.name),
        quote_ident(&foreign::role_name(user))
    )))
}

/// The server, if it is of the kind that is asked for.
pub fn of_kind((server, kind): (ForeignServer, Kind), wanted: Kind) -> Result<ForeignServer> {
    if kind == wanted {
        return Ok(server);
    }
    Err(OdsError::new(
        ErrorKind::InvalidArgument,
        format!("server \"{}\" is {}, not {}", server.name, kind.noun(), wanted.noun()),
    ))
}
