//! The whole list of prerequisites of a server, asked for in order.

use crate::catalog::stream::{self, Stream};
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::ForeignServer;
use crate::pg::libpq::Connection;
use crate::pg::owner::as_extension_owner;
use crate::pg::wait::Deadline;
use crate::source::check::{Check, Status};
use crate::source::postgres::connect::{ServerAccess, connect_control, connect_replication};
use crate::source::postgres::describe::{Selection, SourceTable, TableKind, describe};
use crate::source::postgres::local::{self, UnknownTypes};
use crate::source::postgres::obstacle::obstacles;
use crate::source::postgres::preflight::{self, Facts, NamedPublication};
use crate::source::postgres::quote::{
    let_in, parse_qualified, quote_ident, quote_literal, quote_qualified,
};
use crate::source::postgres::upkeep::Partitions;
use pgrx::pg_sys;

/// Looks at everything that `server` needs, with the mapping of `user`. What can't be reached or
/// asked is a line of the list, not an error; only names of tables that make no sense are.
pub fn check_up(
    server: ForeignServer,
    user: pg_sys::Oid,
    tables: &[String],
    deadline: Deadline,
) -> Result<Vec<Check>> {
    let names = parse_names(tables)?;
    let name = server.name.clone();
    let access = match ServerAccess::with_mapping_of(server, user) {
        Ok(access) => access,
        Err(error) => return with_local(vec![failed("user mapping", error, "")], None),
    };
    let mut checks = vec![Check::ok("user mapping", "found")];
    let mut control = match connect_control(&access, deadline) {
        Ok(control) => control,
        Err(error) => {
            checks.push(unreachable(&access, "reachable", error));
            return with_local(checks, None);
        }
    };
    checks.push(Check::ok("reachable", "connected"));
    let stream = stream_of(&name)?;
    let publication = match &stream {
        Some(stream) => Some(stream.publication.as_str()),
        None => access.stream.publication.as_deref(),
    };
    let slot = stream.as_ref().map(|stream| stream.slot.as_str());
    let facts = match preflight::ask(&mut control, publication, slot, deadline) {
        Ok(facts) => facts,
        Err(error) => {
            checks.push(unreachable(&access, "answers", error));
            return with_local(checks, None);
        }
    };
    let facts = match (facts.publication, &stream) {
        // The worker makes it when it comes by.
        (NamedPublication::Missing(_), Some(stream)) if stream.owns_publication => {
            Facts { publication: NamedPublication::None, ..facts }
        }
        (publication, _) => Facts { publication, ..facts },
    };
    checks.extend(preflight::judge(&access.server, &facts));
    checks.push(replication_connection(&access, &facts, deadline));
    if !names.is_empty() {
        match table_checks(&name, &mut control, &names, &facts, deadline) {
            Ok(found) => checks.extend(found),
            Err(error) => checks.push(unreachable(&access, "tables", error)),
        }
    }
    // The session is of no more use, and what follows may take its time.
    drop(control);
    with_local(checks, Some(&facts.encoding))
}

/// The stream that a server has already, whose slot and publication are what counts.
fn stream_of(server: &str) -> Result<Option<Stream>> {
    as_extension_owner(|| stream::of_server(server))
}

fn with_local(mut checks: Vec<Check>, source_encoding: Option<&str>) -> Result<Vec<Check>> {
    checks.extend(local::checks(source_encoding)?);
    Ok(checks)
}

/// An error as a line.
fn failed(name: &str, error: OdsError, fix: impl Into<String>) -> Check {
    // A right that is missing comes with the statement that gives it.
    let fix = match (error.kind, error.hint) {
        (ErrorKind::Forbidden | ErrorKind::NotFound, Some(hint)) => hint,
        _ => fix.into(),
    };
    let detail = match error.detail {
        Some(detail) => format!("{} ({detail})", error.message),
        None => error.message,
    };
    Check::failed(name, detail, fix)
}

fn unreachable(access: &ServerAccess, name: &str, error: OdsError) -> Check {
    let fix = reach_fix(access, &error.message);
    failed(name, error, fix)
}

/// The likeliest mend of a connection that failed. A source that speaks another language than
/// English gets the general one.
fn reach_fix(access: &ServerAccess, message: &str) -> String {
    let password = if access.has_password() { "SET" } else { "ADD" };
    reach_fix_of(&access.server, password, access.source_user(), access.source_database(), message)
}

fn reach_fix_of(
    server: &ForeignServer,
    password: &str,
    user: Option<&str>,
    database: Option<&str>,
    message: &str,
) -> String {
    if message.contains("password authentication failed")
        || message.contains("no password supplied")
    {
        return format!(
            "ALTER USER MAPPING FOR … SERVER {} OPTIONS ({password} password '…');  -- here",
            quote_ident(&server.name)
        );
    }
    if message.contains("no pg_hba.conf entry") {
        let word = |text: Option<&str>| text.map_or_else(|| "all".to_owned(), quote_ident);
        return let_in(&word(database), &word(user));
    }
    if message.contains("database \"") && message.contains("does not exist") {
        return format!("{}  -- here", server.set_options_sql(&["dbname"]));
    }
    format!("{}  -- here", server.set_options_sql(&["host", "port"]))
}

/// Only a connection of the kind that streams proves that pg_hba.conf lets one in.
fn replication_connection(access: &ServerAccess, facts: &Facts, deadline: Deadline) -> Check {
    const NAME: &str = "replication connection";
    match connect_replication(access, deadline) {
        Ok(_) => Check::ok(NAME, "connected"),
        Err(error) => failed(NAME, error, preflight::replication_fix(facts)),
    }
}

fn parse_names(tables: &[String]) -> Result<Vec<(String, String)>> {
    tables
        .iter()
        .map(|table| {
            parse_qualified(table).ok_or_else(|| {
                OdsError::new(
                    ErrorKind::InvalidArgument,
                    format!("\"{table}\" is not a table name"),
                )
                .hint("Write 'schema.table', with double quotes around a part in mixed case.")
            })
        })
        .collect()
}

fn table_checks(
    server: &str,
    control: &mut Connection,
    names: &[(String, String)],
    facts: &Facts,
    deadline: Deadline,
) -> Result<Vec<Check>> {
    let described = describe(control, Selection::Named(names), deadline)?;
    let unknown = UnknownTypes::among(&described)?;
    let mut checks = Vec::new();
    for (schema, table) in names {
        let line = format!("table {}", quote_qualified(schema, table));
        let Some(found) = described.iter().find(|t| t.schema == *schema && t.name == *table) else {
            checks.push(Check::failed(
                line,
                format!("it does not exist in database {}", quote_ident(&facts.database)),
                format!("SELECT * FROM ods.discover({});  -- here", quote_literal(server)),
            ));
            continue;
        };
        let mut stopped = obstacles(found, &facts.role);
        stopped.extend(unknown.obstacles(found));
        if stopped.is_empty() {
            let key = found.key().unwrap_or_default().join(", ");
            checks.push(Check::ok(line.clone(), format!("can be synced by key ({key})")));
        }
        checks.extend(stopped.into_iter().map(|obstacle| Check {
            name: line.clone(),
            status: Status::Failed,
            detail: obstacle.reason,
            fix: obstacle.fix,
        }));
    }
    let members = match &facts.publication {
        NamedPublication::Found(publication) => members(control, &publication.name, deadline)?,
        _ => Members::new(),
    };
    checks.extend(publishing(server, &described, facts, &members));
    Ok(checks)
}

/// Schema and name of what a publication holds, leaves for partitioned tables.
type Members = Vec<(String, String)>;

fn members(control: &mut Connection, publication: &str, deadline: Deadline) -> Result<Members> {
    const MEMBERS: &str =
        "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = $1";
    let rows = control.query(MEMBERS, &[Some(publication)], deadline)?;
    let text = |row, column| rows.get(row, column).unwrap_or_default().to_owned();
    Ok((0..rows.len()).map(|row| (text(row, 0), text(row, 1))).collect())
}

/// Only its owner may put a table into a publication: what is neither there nor ours is listed with
/// the one statement that publishes all of it.
fn publishing(
    server: &str,
    tables: &[SourceTable],
    facts: &Facts,
    members: &Members,
) -> Option<Check> {
    const NAME: &str = "tables in the publication";
    let is_member =
        |schema: &str, name: &str| members.iter().any(|(s, t)| s == schema && t == name);
    let is_published = |table: &SourceTable| {
        is_member(&table.schema, &table.name)
            || (!table.leaves.is_empty()
                && table.leaves.iter().all(|leaf| is_member(&leaf.schema, &leaf.name)))
    };
    let missing: Vec<String> = tables
        .iter()
        .filter(|t| {
            matches!(t.kind, TableKind::Ordinary | TableKind::Partitioned) && !t.is_partition
        })
        .filter(|table| !table.is_owned && !is_published(table))
        .flat_map(|table| match Partitions::of_version(facts.version) {
            Partitions::ByLeaf if table.kind == TableKind::Partitioned => {
                table.leaves.iter().map(|leaf| quote_qualified(&leaf.schema, &leaf.name)).collect()
            }
            _ => vec![table.quoted_name()],
        })
        .collect();
    if missing.is_empty() {
        return None;
    }
    let list = missing.join(", ");
    let detail =
        format!("role {} does not own and may not publish {list}", quote_ident(&facts.role));
    let fix = match &facts.publication {
        NamedPublication::None => {
            let name = format!("ods_{server}");
            format!(
                "CREATE PUBLICATION {} FOR TABLE {list};  -- by the owner; then here: ALTER SERVER {} OPTIONS (ADD publication {});",
                quote_ident(&name),
                quote_ident(server),
                quote_literal(&name)
            )
        }
        NamedPublication::Missing(name) => {
            format!("CREATE PUBLICATION {} FOR TABLE {list};  -- by the owner", quote_ident(name))
        }
        NamedPublication::Found(publication) => format!(
            "ALTER PUBLICATION {} ADD TABLE {list};  -- by a role that may",
            quote_ident(&publication.name)
        ),
    };
    Some(Check::failed(NAME, detail, fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connection_names_its_likeliest_mend() {
        let server = ForeignServer {
            oid: pg_sys::InvalidOid,
            name: "crm".to_owned(),
            owner: pg_sys::InvalidOid,
            wrapper: "ods_postgres".to_owned(),
            options: vec![("host".to_owned(), "10.0.0.5".to_owned())],
        };
        let fix = |message| reach_fix_of(&server, "SET", Some("repl"), None, message);
        assert!(
            fix("FATAL:  password authentication failed for user \"x\"").contains("SET password")
        );
        assert!(fix("FATAL:  no pg_hba.conf entry for host").contains("host all \"repl\" samenet"));
        assert!(fix("FATAL:  database \"x\" does not exist").contains("(ADD dbname '…')"));
        assert!(fix("Connection refused").contains("(SET host '…', ADD port '…')"));
    }
}
