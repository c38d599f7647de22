//! What the facts about a source mean for following it.

use super::{Facts, NEWEST_MAJOR, NamedPublication, OLDEST_MAJOR, Skew};
use crate::pg::foreign::ForeignServer;
use crate::source::check::Check;
use crate::source::postgres::quote::{let_in, quote_ident};
use std::time::Duration;

/// Two clocks further apart than this make staleness in logs and dashboards hard to compare.
const TOLERATED_SKEW: Duration = Duration::from_secs(1);
/// With less, a short pause here makes the source end the stream.
const LEAST_SENDER_TIMEOUT_MS: i64 = 5_000;

/// What the facts about the source of `server` mean.
pub fn judge(server: &ForeignServer, facts: &Facts) -> Vec<Check> {
    let mut checks = vec![
        version(facts.version),
        primary(server, facts),
        wal_level(facts),
        free_places(
            "replication slots",
            "max_replication_slots",
            Places { max: facts.max_slots, used: facts.used_slots, has_own: facts.has_slot },
        ),
        free_places(
            "wal senders",
            "max_wal_senders",
            Places { max: facts.max_senders, used: facts.used_senders, has_own: facts.has_sender },
        ),
        replication_privilege(facts),
    ];
    checks.extend(message_privilege(facts));
    checks.extend(publication(facts));
    checks.extend([retained_wal(facts), sender_timeout(facts), clock(facts.skew)]);
    checks
}

pub(super) fn version(version: i32) -> Check {
    const NAME: &str = "version";
    let major = version / 10_000;
    let found = format!("Postgres {major}.{}", version % 10_000);
    if major < OLDEST_MAJOR {
        return Check::failed(
            NAME,
            format!("{found}; ods follows {OLDEST_MAJOR} to {NEWEST_MAJOR}"),
            "-- upgrade the source",
        );
    }
    if major > NEWEST_MAJOR {
        return Check::warning(
            NAME,
            format!("{found} is newer than ods knows"),
            "-- look for a newer release of ods",
        );
    }
    let lacks: Vec<&str> = [
        (13, "a limit on the WAL that a slot keeps"),
        (14, "streaming of large transactions before they commit"),
        (17, "slots that survive a failover"),
    ]
    .into_iter()
    .filter_map(|(since, what)| (major < since).then_some(what))
    .collect();
    let detail =
        if lacks.is_empty() { found } else { format!("{found}, without {}", lacks.join(", ")) };
    Check::ok(NAME, detail)
}

fn primary(server: &ForeignServer, facts: &Facts) -> Check {
    const NAME: &str = "primary";
    if facts.is_standby {
        return Check::failed(
            NAME,
            "the source is a standby; changes are read from the primary",
            format!("{}  -- here, with the primary's address", server.set_options_sql(&["host"])),
        );
    }
    Check::ok(NAME, "the source is a primary")
}

fn wal_level(facts: &Facts) -> Check {
    const NAME: &str = "wal_level";
    let detail = format!("wal_level is {}", facts.wal_level);
    if facts.wal_level == "logical" {
        return Check::ok(NAME, detail);
    }
    Check::failed(
        NAME,
        detail,
        "ALTER SYSTEM SET wal_level = 'logical';  -- then restart the source",
    )
}

/// Places that a setting limits.
#[derive(Clone, Copy)]
struct Places {
    max: i64,
    used: i64,
    /// Whether one of those that are used is this server's: it needs no other.
    has_own: bool,
}

/// Free places; slots and walsenders are counted in the same way.
fn free_places(name: &str, setting: &str, places: Places) -> Check {
    let Places { max, used, has_own } = places;
    let free = (max - used).max(0);
    let detail = format!("{free} of {max} free");
    if has_own {
        return Check::ok(name, format!("{detail}, one is taken by this server"));
    }
    if free > 0 {
        return Check::ok(name, detail);
    }
    let fix =
        format!("ALTER SYSTEM SET {setting} = {};  -- then restart the source", max.max(used) + 4);
    Check::failed(name, detail, fix)
}

fn replication_privilege(facts: &Facts) -> Check {
    const NAME: &str = "replication privilege";
    let role = quote_ident(&facts.role);
    if facts.has_replication {
        return Check::ok(NAME, format!("role {role} may replicate"));
    }
    Check::failed(
        NAME,
        format!("role {role} has no REPLICATION"),
        format!("ALTER ROLE {role} REPLICATION;"),
    )
}

/// Everybody has it, unless it was taken away.
fn message_privilege(facts: &Facts) -> Option<Check> {
    let role = quote_ident(&facts.role);
    let flush = if facts.version < 170_000 { "" } else { ", boolean" };
    (!facts.may_emit).then(|| {
        Check::failed(
            "message privilege",
            format!("role {role} may not call pg_logical_emit_message, by which loads find their place in the stream"),
            format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text{flush}) TO {role};"),
        )
    })
}

fn publication(facts: &Facts) -> Vec<Check> {
    const NAME: &str = "publication";
    let publication = match &facts.publication {
        NamedPublication::None if facts.may_publish => {
            return vec![Check::ok(NAME, "ods may create one")];
        }
        NamedPublication::None => {
            let (database, role) = (quote_ident(&facts.database), quote_ident(&facts.role));
            return vec![Check::failed(
                NAME,
                format!("role {role} may not create one in database {database}"),
                format!("GRANT CREATE ON DATABASE {database} TO {role};"),
            )];
        }
        NamedPublication::Missing(name) => {
            let name = quote_ident(name);
            return vec![Check::failed(
                NAME,
                format!("{name} does not exist in database {}", quote_ident(&facts.database)),
                format!("CREATE PUBLICATION {name};"),
            )];
        }
        NamedPublication::Found(publication) => publication,
    };
    let name = quote_ident(&publication.name);
    let mut checks = Vec::new();
    if !publication.sends_all {
        checks.push(Check::failed(
            NAME,
            format!("{name} does not send every kind of change"),
            format!("ALTER PUBLICATION {name} SET (publish = 'insert, update, delete, truncate');"),
        ));
    }
    if publication.via_root {
        checks.push(Check::failed(
            NAME,
            format!("{name} sends changes of partitions as their root's, which loses the TRUNCATE of a single one"),
            format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = false);"),
        ));
    }
    if !publication.partial_tables.is_empty() {
        let tables = publication.partial_tables.join(", ");
        checks.push(Check::warning(
            NAME,
            format!("{name} sends only some rows or columns of {tables}"),
            publication
                .partial_tables
                .iter()
                .map(|table| format!("ALTER PUBLICATION {name} DROP TABLE {table}; ALTER PUBLICATION {name} ADD TABLE {table};"))
                .collect::<Vec<_>>()
                .join(" "),
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(NAME, format!("{name} sends every kind of change")));
    }
    checks
}

fn retained_wal(facts: &Facts) -> Check {
    const NAME: &str = "max_slot_wal_keep_size";
    const FIX: &str =
        "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_catalog.pg_reload_conf();";
    match facts.slot_keep_mb {
        Some(limit) if limit >= 0 => Check::ok(NAME, format!("a slot keeps at most {limit} MB")),
        Some(_) => Check::warning(
            NAME,
            "a slot keeps WAL without limit: should ods be away for long, the source's disk fills",
            FIX,
        ),
        None => Check::warning(
            NAME,
            "this version can't limit the WAL that a slot keeps: should ods be away for long, the source's disk fills",
            "SELECT slot_name, pg_catalog.pg_size_pretty(pg_catalog.pg_current_wal_lsn() - restart_lsn) FROM pg_catalog.pg_replication_slots;  -- watch it",
        ),
    }
}

fn sender_timeout(facts: &Facts) -> Check {
    const NAME: &str = "wal_sender_timeout";
    const FIX: &str =
        "ALTER SYSTEM SET wal_sender_timeout = '60s'; SELECT pg_catalog.pg_reload_conf();";
    match facts.sender_timeout_ms {
        0 => Check::warning(
            NAME,
            "the source never gives up a dead connection, so that a slot may stay taken",
            FIX,
        ),
        timeout if timeout < LEAST_SENDER_TIMEOUT_MS => Check::warning(
            NAME,
            format!("{timeout} ms is short: a pause here ends the stream"),
            FIX,
        ),
        timeout => Check::ok(NAME, format!("{timeout} ms")),
    }
}

pub(super) fn clock(skew: Skew) -> Check {
    const NAME: &str = "clock";
    #[expect(clippy::cast_precision_loss, reason = "shown in milliseconds")]
    let milliseconds = |micros: i64| micros as f64 / 1000.0;
    let side = if skew.micros < 0 { "behind" } else { "ahead of" };
    let detail = format!(
        "the source's clock is {:.1} ms {side} ours (± {:.1} ms)",
        milliseconds(skew.micros.saturating_abs()),
        milliseconds(skew.uncertainty_micros)
    );
    let certain = skew.micros.saturating_abs().saturating_sub(skew.uncertainty_micros);
    if i128::from(certain) > TOLERATED_SKEW.as_micros() as i128 {
        return Check::warning(
            NAME,
            detail,
            "-- in a shell, where the clock is wrong: chronyc makestep",
        );
    }
    Check::ok(NAME, detail)
}

/// What to do about a replication connection that was refused.
pub fn replication_fix(facts: &Facts) -> String {
    if facts.has_replication {
        let_in(&quote_ident(&facts.database), &quote_ident(&facts.role))
    } else {
        format!("ALTER ROLE {} REPLICATION;", quote_ident(&facts.role))
    }
}
