//! A real MariaDB that writes a binary log.

use super::program::Program;
use crate::support::process::{User, lasting_port, run, spawn};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The password of the role that Debezium connects as.
pub const PASSWORD: &str = "it's \"secret\"";

/// A server with a data folder of its own.
pub struct MariaDb {
    program: Program,
    port: u16,
}

impl MariaDb {
    /// Makes a server and starts it. Role `debezium` may read everything.
    pub fn start(name: &str) -> Self {
        let program = Program::new(name, User::Server);
        let port = lasting_port();
        let home = program.home().display().to_string();
        program.write(
            "my.cnf",
            &format!(
                "[mariadbd]
datadir={home}/data
socket={home}/socket
pid-file={home}/pid
tmpdir={home}
port={port}
bind-address=127.0.0.1
skip-name-resolve
server-id=1
log-bin=binlog
binlog-format=ROW
binlog-row-image=FULL
character-set-server=utf8mb4
default-time-zone=+00:00
innodb-buffer-pool-size=32M
innodb-log-file-size=32M
innodb-flush-log-at-trx-commit=1
sync-binlog=1
aria-pagecache-buffer-size=8M
key-buffer-size=8M
max-connections=50
"
            ),
        );
        let mut install = Command::new(find("mariadb-install-db"));
        install.arg("--no-defaults").arg(format!("--datadir={home}/data"));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        run(install);
        let server = Self { program, port };
        server.start_again();
        let password = PASSWORD.replace('\'', "''");
        server.run(
            "mysql",
            &format!(
                "CREATE USER debezium@'127.0.0.1' IDENTIFIED BY '{password}';
                 GRANT ALL ON *.* TO debezium@'127.0.0.1';"
            ),
        );
        server
    }

    /// Starts the stopped server and waits until it takes connections.
    pub fn start_again(&self) {
        let mut command = Command::new(find("mariadbd"));
        command.arg(format!("--defaults-file={}", self.program.home().join("my.cnf").display()));
        self.program.start(command);
        self.program.wait("takes no connections", || self.try_run("mysql", "SELECT 1").map(drop));
    }

    /// Runs statements in a database.
    pub fn run(&self, database: &str, sql: &str) {
        self.ask(database, sql);
    }

    /// Runs statements and returns what they print: rows as lines, columns between tabs.
    pub fn ask(&self, database: &str, sql: &str) -> String {
        self.try_run(database, sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// As [`MariaDb::ask`], of a server that may be away.
    pub fn try_run(&self, database: &str, sql: &str) -> Result<String, String> {
        use std::io::Write;
        let mut client = Command::new(find("mariadb"));
        client.arg("--no-defaults");
        client.arg(format!("--socket={}", self.program.home().join("socket").display()));
        client.args(["--user=root", "--skip-column-names", "--batch", "--raw"]);
        client.args(["--default-character-set=utf8mb4", database]);
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawn(client);
        let mut input = child.stdin.take().expect("its input");
        // A client that ends early says why; its closed input is not the news.
        let _ = input.write_all(sql.as_bytes());
        drop(input);
        let output = child.wait_with_output().expect("output of a child");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops the server in order.
    pub fn stop(&self) {
        self.program.stop();
    }

    /// Kills the server; its next start recovers.
    pub fn kill9(&self) {
        self.program.kill9();
    }

    /// The process, its log and its memory.
    pub fn program(&self) -> &Program {
        &self.program
    }
}

/// A program of MariaDB's; servers live where a plain user's PATH does not always lead.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join(program))
        .find(|file| Path::exists(file))
        .unwrap_or_else(|| panic!("no {program}: run `make setup`"))
}
