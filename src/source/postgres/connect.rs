//! Opening sessions at the source, every one of which writes values as the same text.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::{self, ForeignServer, ServerOption};
use crate::pg::libpq::{Connection, PqError};
use crate::pg::wait::Deadline;
use crate::source::options;
use crate::source::postgres::options::{RULES, StreamOptions};
use crate::source::postgres::quote::{quote_ident, quote_literal};
use crate::source::server::{self, Kind};
use std::time::Duration;

/// Settings of every session at the source. The first block fixes the text of values, so that a row
/// read by the loader and the same row in the stream are equal byte for byte. Row security fails
/// instead of hiding rows, and a role's own timeouts don't end a long copy.
const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("datestyle", "ISO"),
    ("intervalstyle", "postgres"),
    ("extra_float_digits", "3"),
    ("timezone", "UTC"),
    ("bytea_output", "hex"),
    ("lc_monetary", "C"),
    ("search_path", ""),
    ("synchronous_commit", "local"),
    ("row_security", "off"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
];

/// Lets the source end a statement whose session we have closed, a deadline having passed.
const ABANDON: &str = "SET client_connection_check_interval = '5s'";
/// First version that has it.
const ABANDON_SINCE: i32 = 140_000;

/// Whether a session needs a password of the mapping's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PasswordRule {
    /// Any way in that the source accepts.
    AnyMethod,
    /// The password of the mapping, and the source must have asked for it: otherwise whoever owns
    /// the mapping would come in as the operating system user of this server.
    MustBeUsed,
}

/// All that is needed to reach a source. Holds the secrets of the mapping, hence no Debug.
#[derive(Clone)]
pub struct ServerAccess {
    /// The server, with its public options.
    pub server: ForeignServer,
    /// What the server says about its stream.
    pub stream: StreamOptions,
    mapping: Vec<ServerOption>,
    password_rule: PasswordRule,
}

impl ServerAccess {
    /// Access with the mapping of the current user, else PUBLIC's. Needs USAGE on the server.
    pub fn for_caller(server_name: &str) -> Result<Self> {
        Self::with_mapping_of(server_for_caller(server_name)?, foreign::current_user())
    }

    /// Access with the mapping of the server's owner, else PUBLIC's: what workers use.
    pub fn for_worker(server_name: &str) -> Result<Self> {
        let server = find_server(server_name)?;
        let owner = server.owner;
        Self::with_mapping_of(server, owner)
    }

    /// Access with the mapping of `user`, else PUBLIC's, and under `user`'s password rule. The
    /// caller has looked at the rights on the server.
    pub fn with_mapping_of(server: ForeignServer, user: pgrx::pg_sys::Oid) -> Result<Self> {
        let role = foreign::role_name(user);
        let create = |what: &str| {
            format!(
                "{what} USER MAPPING FOR {} SERVER {} OPTIONS ({}user '…', {}password '…');",
                quote_ident(&role),
                quote_ident(&server.name),
                if what == "ALTER" { "SET " } else { "" },
                if what == "ALTER" { "ADD " } else { "" },
            )
        };
        let Some(mapping) = foreign::user_mapping(server.oid, user)? else {
            let message = format!("no user mapping of server \"{}\" for \"{role}\"", server.name);
            return Err(OdsError::new(ErrorKind::NotFound, message).hint(create("CREATE")));
        };
        let waived = options::value_of(&mapping.options, "password_required")
            .and_then(options::parse_boolean)
            == Some(false);
        let password_rule = if waived || foreign::is_superuser(user) {
            PasswordRule::AnyMethod
        } else {
            PasswordRule::MustBeUsed
        };
        let has_password =
            options::value_of(&mapping.options, "password").is_some_and(|text| !text.is_empty());
        if password_rule == PasswordRule::MustBeUsed && !has_password {
            let message = format!(
                "the user mapping of server \"{}\" for \"{role}\" has no password",
                server.name
            );
            return Err(OdsError::new(ErrorKind::Forbidden, message)
                .detail("Only a superuser may connect to a source without a password.")
                .hint(create("ALTER")));
        }
        let stream = StreamOptions::of(&server.options);
        Ok(Self { server, stream, mapping: mapping.options, password_rule })
    }

    /// The role at the source, where the mapping names one.
    pub fn source_user(&self) -> Option<&str> {
        options::value_of(&self.mapping, "user")
    }

    /// Whether the mapping holds a password.
    pub fn has_password(&self) -> bool {
        options::value_of(&self.mapping, "password").is_some()
    }

    /// The database at the source, where the server names one.
    pub fn source_database(&self) -> Option<&str> {
        options::value_of(&self.server.options, "dbname")
    }

    /// `deadline`, or the server's own `connect_timeout` where that ends earlier.
    fn connect_deadline(&self, deadline: Deadline) -> Deadline {
        match options::value_of(&self.server.options, "connect_timeout")
            .and_then(|seconds| seconds.parse().ok())
        {
            Some(0) | None => deadline,
            Some(seconds) => deadline.min(Deadline::after(Duration::from_secs(seconds))),
        }
    }

    fn open(&self, purpose: Purpose, deadline: Deadline) -> Result<Connection> {
        let session_settings = startup_options();
        let mut parameters: Vec<(&str, &str)> = self
            .server
            .options
            .iter()
            .chain(&self.mapping)
            .filter(|(name, _)| RULES.is_for_library(name))
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        parameters.push(("fallback_application_name", "ods"));
        parameters.push(("options", &session_settings));
        if purpose == Purpose::Sql {
            parameters.push(("client_encoding", "UTF8"));
        }
        if purpose == Purpose::Replication {
            parameters.push(("replication", "database"));
        }
        let mut connection = Connection::open(&parameters, self.connect_deadline(deadline))
            .map_err(|error| self.at_server(error))?;
        if self.password_rule == PasswordRule::MustBeUsed && !connection.used_password() {
            let message =
                format!("source of server \"{}\" did not ask for the password", self.server.name);
            return Err(OdsError::new(ErrorKind::Forbidden, message)
                .detail("Without a superuser's consent, a connection must be authenticated by the user mapping's own password.")
                .hint("At the source, let pg_hba.conf ask this role for scram-sha-256; or have a superuser here set password_required 'false' in the user mapping."));
        }
        if purpose == Purpose::Replication {
            let encoding = connection.parameter_status(c"server_encoding").ok_or_else(|| {
                OdsError::new(ErrorKind::Protocol, "the source does not tell its encoding")
            })?;
            let sql = format!("SET client_encoding = {}", quote_literal(&encoding));
            connection.query(&sql, &[], deadline).map_err(|error| self.at_server(error))?;
        }
        if purpose != Purpose::Replication && connection.server_version() >= ABANDON_SINCE {
            match connection.query(ABANDON, &[], deadline) {
                // A source on a platform that can't notice refuses, and works without.
                Ok(_) | Err(PqError::Refused(_)) => {}
                Err(error) => return Err(self.at_server(error)),
            }
        }
        Ok(connection)
    }

    fn at_server(&self, error: PqError) -> OdsError {
        let mut error =
            OdsError::from(error).context(format_args!("server \"{}\"", self.server.name));
        error.hint.get_or_insert_with(|| {
            format!("SELECT * FROM ods.check_server({});", quote_literal(&self.server.name))
        });
        error
    }
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Sql,
    Replication,
}

/// A session for questions, upkeep and rows, in UTF-8 whatever the source's encoding is: names and
/// messages read well. Rows come by a COPY in the source's own encoding, so that no value fails to
/// convert there.
pub fn connect_control(access: &ServerAccess, deadline: Deadline) -> Result<Connection> {
    access.open(Purpose::Sql, deadline)
}

/// A walsender session for logical replication, in the source's own encoding. It takes replication
/// commands and, in the simple protocol, SQL.
pub fn connect_replication(access: &ServerAccess, deadline: Deadline) -> Result<Connection> {
    access.open(Purpose::Replication, deadline)
}

/// The server called `name`, on which the current user has USAGE.
pub fn server_for_caller(name: &str) -> Result<ForeignServer> {
    server::of_kind(server::for_caller(name)?, Kind::Postgres)
}

fn find_server(name: &str) -> Result<ForeignServer> {
    server::of_kind(server::find(name)?, Kind::Postgres)
}

/// The settings as the server's command line takes them; none holds a space or a backslash.
fn startup_options() -> String {
    SESSION_SETTINGS
        .iter()
        .map(|(name, value)| format!("-c {name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn session_settings_need_no_escaping() {
        for (name, value) in SESSION_SETTINGS {
            assert!(!format!("{name}{value}").contains([' ', '\\', '\'']), "{name}");
        }
        assert!(startup_options().starts_with("-c datestyle=ISO -c intervalstyle=postgres "));
    }
}

/// Run inside a server, against that server.
#[cfg(feature = "pg_test")]
#[pgrx::pg_schema]
mod tests {
    use super::*;
    use pgrx::prelude::*;

    #[pg_test]
    fn every_session_writes_the_same_text() {
        Spi::run(
            "DO $$ BEGIN
               EXECUTE format('CREATE SERVER self FOREIGN DATA WRAPPER ods_postgres OPTIONS (host %L, port %L, dbname %L)',
                   split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
               EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user %L)', current_user);
             END $$",
        )
        .unwrap();
        let deadline = Deadline::after(Duration::from_secs(20));
        let access = ServerAccess::for_worker("self").unwrap();
        let mut sessions = [
            connect_control(&access, deadline).unwrap(),
            connect_replication(&access, deadline).unwrap(),
        ];
        for session in &mut sessions {
            for (name, value) in [
                ("DateStyle", "ISO, MDY"),
                ("IntervalStyle", "postgres"),
                ("extra_float_digits", "3"),
                ("TimeZone", "UTC"),
                ("bytea_output", "hex"),
                ("lc_monetary", "C"),
                ("search_path", ""),
                ("synchronous_commit", "local"),
                ("row_security", "off"),
                ("statement_timeout", "0"),
                ("client_encoding", "UTF8"),
                ("application_name", "ods"),
            ] {
                let rows = session.query(&format!("SHOW {name}"), &[], deadline).unwrap();
                assert_eq!(rows.get(0, 0), Some(value), "{name}");
            }
        }
        assert!(sessions[1].query("IDENTIFY_SYSTEM", &[], deadline).is_ok());
        assert!(sessions[0].query("IDENTIFY_SYSTEM", &[], deadline).is_err());
    }
}
