//! Short words over the `postgres` crate.

use super::cluster::Cluster;
use postgres::{Client, Config, NoTls, SimpleQueryMessage};
use std::thread;
use std::time::{Duration, Instant};

/// A superuser's connection over the Unix socket.
pub fn connect(cluster: &Cluster, database: &str) -> Client {
    connect_as(cluster, database, "postgres")
}

/// A connection over the Unix socket as a given role.
pub fn connect_as(cluster: &Cluster, database: &str, user: &str) -> Client {
    try_connect(cluster, database, user)
        .unwrap_or_else(|error| panic!("connect to {database} as {user}: {error:?}"))
}

/// As [`connect_as`], for servers that may be away.
pub fn try_connect(
    cluster: &Cluster,
    database: &str,
    user: &str,
) -> Result<Client, postgres::Error> {
    Config::new()
        .host_path(cluster.socket_dir())
        .port(cluster.port())
        .user(user)
        .dbname(database)
        .application_name("outside test")
        .connect_timeout(Duration::from_secs(5))
        .connect(NoTls)
}

/// What the tests ask of a connection, in words of theirs. Every method fails the test on an error.
pub trait Ask {
    /// Runs one or more statements.
    fn run(&mut self, sql: &str);
    /// The first column of the first row as text; `None` for NULL or no row.
    fn text(&mut self, sql: &str) -> Option<String>;
    /// The first column of the first row as a number.
    fn number(&mut self, sql: &str) -> i64;
    /// Every row, its columns as text.
    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>>;
    /// The error that a statement must raise.
    fn refused(&mut self, sql: &str) -> postgres::error::DbError;
    /// Waits until a query whose one value is boolean says true. For states that have no wait
    /// function; `what` is said when time runs out.
    fn wait_until(&mut self, what: &str, sql: &str, timeout: Duration);
}

impl Ask for Client {
    fn run(&mut self, sql: &str) {
        self.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    }

    fn text(&mut self, sql: &str) -> Option<String> {
        self.rows(sql).into_iter().next().and_then(|row| row.into_iter().next().flatten())
    }

    fn number(&mut self, sql: &str) -> i64 {
        let text = self.text(sql).unwrap_or_else(|| panic!("{sql}\nno value"));
        text.parse().unwrap_or_else(|_| panic!("{sql}\nnot a number: {text}"))
    }

    fn rows(&mut self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.simple_query(sql).unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
        messages
            .into_iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
                }
                _ => None,
            })
            .collect()
    }

    fn refused(&mut self, sql: &str) -> postgres::error::DbError {
        match self.batch_execute(sql) {
            Ok(()) => panic!("{sql}\nshould have been refused"),
            Err(error) => error
                .as_db_error()
                .unwrap_or_else(|| panic!("{sql}\nno error of the server: {error:?}"))
                .clone(),
        }
    }

    fn wait_until(&mut self, what: &str, sql: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            let value = self.text(sql);
            if value.as_deref() == Some("t") {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{what}: not so after {timeout:?} ({value:?})\n{sql}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A value as an SQL literal.
pub fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}
