//! Dropping the slot of a stream that nobody will read any more.

use crate::error::Result;
use crate::pg::libpq::Connection;
use crate::pg::wait::{self, Deadline};
use crate::settings;
use crate::source::postgres::connect::{ServerAccess, connect_control};
use crate::source::postgres::quote::{quote_ident, quote_literal};
use std::time::Duration;

/// How long the source may take to notice that its reader is gone.
const STILL_ACTIVE: Duration = Duration::from_secs(5);

/// Bytes of WAL that the source keeps for a slot; none if the slot is gone.
pub fn retained(control: &mut Connection, slot: &str) -> Result<Option<u64>> {
    let sql = format!("{} = {}", RETAINED, quote_literal(slot));
    let rows = control.query(&sql, &[], Deadline::after(settings::network_timeout()))?;
    Ok(rows.get(0, 0).and_then(|bytes| bytes.parse().ok()))
}

/// The question for [`retained`], to be followed by the slot's name.
pub const RETAINED: &str = "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::bigint \
     FROM pg_catalog.pg_replication_slots s WHERE s.slot_name";

/// Drops a slot at its source, and then the publication named. What is not there is no error.
pub fn drop(access: &ServerAccess, slot: &str, publication: Option<&str>) -> Result<()> {
    let mut connection = connect_control(access, Deadline::after(settings::connect_timeout()))?;
    let sql = format!(
        "SELECT pg_catalog.pg_drop_replication_slot(s.slot_name) \
         FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = {}",
        quote_literal(slot)
    );
    let give_up = Deadline::after(STILL_ACTIVE);
    loop {
        match connection.query(&sql, &[], Deadline::after(settings::network_timeout())) {
            Ok(_) => break,
            Err(error) if error.sqlstate() == Some("55006") && !give_up.is_past() => {
                wait::wait_for_latch(Deadline::after(Duration::from_millis(50)));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(publication) = publication {
        let sql = format!("DROP PUBLICATION IF EXISTS {}", quote_ident(publication));
        connection.query(&sql, &[], Deadline::after(settings::network_timeout()))?;
    }
    Ok(())
}
