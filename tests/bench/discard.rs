//! A reader that has a slot decoded and throws the result away: as fast as the upstream can be read.

use crate::scene::{DATABASE, READER};
use crate::support::client::Ask;
use crate::support::cluster::{Cluster, bin};
use postgres::Client;
use std::process::{Command, Stdio};

/// Its slot.
pub const SLOT: &str = "discard";

/// Makes the slot anew, so that it starts here and holds nothing back.
pub fn renew_slot(source: &mut Client) {
    source.run(&format!(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    ));
    source.run(&format!("SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')"));
}

/// Reads the slot up to a position with the options that `ods` asks for.
pub fn read(source: &Cluster, publication: &str, end: &str) {
    let mut command = Command::new(bin("pg_recvlogical"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    let output = command
        .env("PGPASSWORD", READER)
        .args(["--host=127.0.0.1", "--start", "--no-loop", "--file=/dev/null"])
        .arg(format!("--port={}", source.port()))
        .args([format!("--username={READER}"), format!("--dbname={DATABASE}")])
        .args([format!("--slot={SLOT}"), format!("--endpos={end}")])
        .args(["--option=proto_version=2", "--option=streaming=on"])
        .arg(format!("--option=publication_names={publication}"))
        .stdin(Stdio::null())
        .output()
        .expect("pg_recvlogical runs");
    assert!(
        output.status.success(),
        "pg_recvlogical failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
