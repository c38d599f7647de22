//! What a source must offer before its tables can be followed, each with the statement that mends it.
//!
//! [`ask`] reads the facts, [`judge`] is pure.

use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::ForeignServer;
use crate::pg::libpq::Connection;
use crate::pg::wait::Deadline;
use crate::source::postgres::quote::quote_ident;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Oldest major that sends what we need.
pub const OLDEST_MAJOR: i32 = 12;
/// Newest major that was looked at.
pub const NEWEST_MAJOR: i32 = 18;

/// Two clocks further apart than this make staleness in logs and dashboards hard to compare.
const TOLERATED_SKEW: Duration = Duration::from_secs(1);
/// With less, a short pause here makes the source end the stream.
const LEAST_SENDER_TIMEOUT_MS: i64 = 5_000;

/// How a prerequisite stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Met.
    Ok,
    /// Met, with a risk that somebody should have decided on.
    Warning,
    /// Not met: following tables will fail.
    Failed,
}

impl Status {
    /// The word that `ods.check_server` shows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One prerequisite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// The statement that mends it; with a comment where it doesn't run at the source.
    pub fix: Option<String>,
}

impl Check {
    /// A prerequisite that is met.
    pub fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, detail: detail.into(), fix: None }
    }

    /// One that is met with a risk.
    pub fn warning(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, status: Status::Warning, detail, fix: Some(fix.into()) }
    }

    /// One that is not met.
    pub fn failed(
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        let (name, detail) = (name.into(), detail.into());
        Self { name, status: Status::Failed, detail, fix: Some(fix.into()) }
    }
}

/// What the source says about itself and about our role there.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `server_version_num`.
    pub version: i32,
    /// Whether it replays somebody else's WAL.
    pub is_standby: bool,
    /// `wal_level`.
    pub wal_level: String,
    /// `max_replication_slots`.
    pub max_slots: i64,
    /// Slots that exist.
    pub used_slots: i64,
    /// Whether one of them is this server's.
    pub has_slot: bool,
    /// `max_wal_senders`.
    pub max_senders: i64,
    /// Walsenders that run.
    pub used_senders: i64,
    /// Whether one of them serves this server.
    pub has_sender: bool,
    /// `max_slot_wal_keep_size` in MB, -1 for no limit; none on 12.
    pub slot_keep_mb: Option<i64>,
    /// `wal_sender_timeout` in milliseconds, 0 for never.
    pub sender_timeout_ms: i64,
    /// `server_encoding`.
    pub encoding: String,
    /// The database we are connected to.
    pub database: String,
    /// The role we are there.
    pub role: String,
    /// Whether the role has REPLICATION or is a superuser.
    pub has_replication: bool,
    /// Whether the role may create a publication.
    pub may_publish: bool,
    /// The publication that the server names.
    pub publication: NamedPublication,
    /// Source's clock minus ours.
    pub skew: Skew,
}

/// A publication that a person keeps for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedPublication {
    /// The server names none: `ods` makes its own.
    None,
    /// It names this one, which is not there.
    Missing(String),
    /// It names this one.
    Found(Publication),
}

/// What a publication sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: String,
    /// Whether inserts, updates, deletes and truncates are all sent.
    pub sends_all: bool,
    /// Whether changes of leaves are sent as their root's (13+).
    pub via_root: bool,
    /// Tables of which it sends some rows or columns only (15+).
    pub partial_tables: Vec<String>,
}

/// How far two clocks are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    /// Source minus here, in microseconds.
    pub micros: i64,
    /// Half the round trip: the truth is within this of `micros`.
    pub uncertainty_micros: i64,
}

const FACTS: &str = "
SELECT pg_catalog.pg_is_in_recovery(),
    pg_catalog.current_setting('wal_level'),
    pg_catalog.current_setting('max_replication_slots'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
    pg_catalog.current_setting('max_wal_senders'),
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size'),
    (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'),
    pg_catalog.current_setting('server_encoding'),
    pg_catalog.current_database(),
    r.rolname,
    r.rolsuper OR r.rolreplication,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
    EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1),
    EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1 AND s.active)
FROM pg_catalog.pg_roles r WHERE r.rolname = current_user";

/// Reads the facts over a control session. `publication` is the one that the server names or has,
/// `slot` the one that it has.
pub fn ask(
    connection: &mut Connection,
    publication: Option<&str>,
    slot: Option<&str>,
    deadline: Deadline,
) -> Result<Facts> {
    let skew = measure_skew(connection, deadline)?;
    let version = connection.server_version();
    let publication = match publication {
        Some(name) => find_publication(connection, name, deadline)?,
        None => NamedPublication::None,
    };
    let rows = connection.query(FACTS, &[slot], deadline)?;
    let text = |column: usize| rows.parse::<String>(0, column);
    Ok(Facts {
        version,
        is_standby: text(0)? == "t",
        wal_level: text(1)?,
        max_slots: rows.parse(0, 2)?,
        used_slots: rows.parse(0, 3)?,
        has_slot: text(13)? == "t",
        max_senders: rows.parse(0, 4)?,
        used_senders: rows.parse(0, 5)?,
        has_sender: text(14)? == "t",
        slot_keep_mb: rows.get(0, 6).and_then(|setting| setting.parse().ok()),
        sender_timeout_ms: rows.parse(0, 7)?,
        encoding: text(8)?,
        database: text(9)?,
        role: text(10)?,
        has_replication: text(11)? == "t",
        may_publish: text(12)? == "t",
        publication,
        skew,
    })
}

/// to_jsonb reads columns that older versions don't have.
const PUBLICATION: &str = "
SELECT p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
    coalesce((pg_catalog.to_jsonb(p) ->> 'pubviaroot')::boolean, false),
    (SELECT coalesce(pg_catalog.json_agg(r.prrelid::pg_catalog.regclass::text ORDER BY r.prrelid), '[]')
     FROM pg_catalog.pg_publication_rel r
     WHERE r.prpubid = p.oid
       AND (pg_catalog.to_jsonb(r) ->> 'prqual' IS NOT NULL OR pg_catalog.to_jsonb(r) ->> 'prattrs' IS NOT NULL))
FROM pg_catalog.pg_publication p WHERE p.pubname = $1";

fn find_publication(
    connection: &mut Connection,
    name: &str,
    deadline: Deadline,
) -> Result<NamedPublication> {
    let rows = connection.query(PUBLICATION, &[Some(name)], deadline)?;
    if rows.is_empty() {
        return Ok(NamedPublication::Missing(name.to_owned()));
    }
    let partial_tables = serde_json::from_str(rows.get(0, 2).unwrap_or("[]")).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes a publication in an unknown way")
            .detail(error.to_string())
    })?;
    Ok(NamedPublication::Found(Publication {
        name: name.to_owned(),
        sends_all: rows.get(0, 0) == Some("t"),
        via_root: rows.get(0, 1) == Some("t"),
        partial_tables,
    }))
}

/// Of a few questions the quickest answer is the most exact.
const SKEW_TRIES: usize = 3;

fn measure_skew(connection: &mut Connection, deadline: Deadline) -> Result<Skew> {
    const CLOCK: &str =
        "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint";
    let mut best: Option<Skew> = None;
    for _ in 0..SKEW_TRIES {
        let asked = micros_now();
        let rows = connection.query(CLOCK, &[], deadline)?;
        let skew = skew_of(asked, micros_now(), rows.parse(0, 0)?);
        if best.is_none_or(|best| skew.uncertainty_micros < best.uncertainty_micros) {
            best = Some(skew);
        }
    }
    Ok(best.unwrap_or_default())
}

/// The source read its clock somewhere between question and answer.
fn skew_of(asked: i64, answered: i64, source: i64) -> Skew {
    let half = answered.saturating_sub(asked).max(0) / 2;
    Skew { micros: source.saturating_sub(asked.saturating_add(half)), uncertainty_micros: half }
}

fn micros_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

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
    checks.extend(publication(facts));
    checks.extend([retained_wal(facts), sender_timeout(facts), clock(facts.skew)]);
    checks
}

fn version(version: i32) -> Check {
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

fn clock(skew: Skew) -> Check {
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
        format!(
            "-- add to pg_hba.conf of the source, then SELECT pg_reload_conf():  host {} {} samenet scram-sha-256",
            quote_ident(&facts.database),
            quote_ident(&facts.role)
        )
    } else {
        format!("ALTER ROLE {} REPLICATION;", quote_ident(&facts.role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: 180_001,
            is_standby: false,
            wal_level: "logical".to_owned(),
            max_slots: 10,
            used_slots: 3,
            has_slot: false,
            max_senders: 10,
            used_senders: 1,
            has_sender: false,
            slot_keep_mb: Some(51_200),
            sender_timeout_ms: 60_000,
            encoding: "UTF8".to_owned(),
            database: "crm".to_owned(),
            role: "Replicator".to_owned(),
            has_replication: true,
            may_publish: true,
            publication: NamedPublication::None,
            skew: Skew { micros: 1_500, uncertainty_micros: 200 },
        }
    }

    fn server() -> ForeignServer {
        ForeignServer {
            oid: pgrx::pg_sys::InvalidOid,
            name: "crm".to_owned(),
            owner: pgrx::pg_sys::InvalidOid,
            wrapper: "ods_postgres".to_owned(),
            options: vec![("host".to_owned(), "10.0.0.5".to_owned())],
        }
    }

    /// The one check that is not ok.
    fn only_fault(change: impl FnOnce(&mut Facts)) -> Check {
        let mut facts = facts();
        change(&mut facts);
        let mut faults: Vec<_> = judge(&server(), &facts)
            .into_iter()
            .filter(|check| check.status != Status::Ok)
            .collect();
        assert_eq!(faults.len(), 1, "{faults:?}");
        faults.remove(0)
    }

    #[test]
    fn a_good_source_has_no_fault() {
        assert!(
            judge(&server(), &facts())
                .iter()
                .all(|check| check.status == Status::Ok && check.fix.is_none())
        );
    }

    #[test]
    fn a_stream_that_took_the_last_place_needs_no_other() {
        let mut facts = facts();
        (facts.used_slots, facts.has_slot) = (10, true);
        (facts.used_senders, facts.has_sender) = (10, true);
        assert!(judge(&server(), &facts).iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn every_fault_names_its_fix() {
        type Change = fn(&mut Facts);
        let cases: [(Change, &str, Status, &str); 13] = [
            (|f| f.version = 110_022, "version", Status::Failed, "upgrade"),
            (|f| f.version = 190_000, "version", Status::Warning, "newer release"),
            (|f| f.is_standby = true, "primary", Status::Failed, "SET host"),
            (|f| f.wal_level = "replica".to_owned(), "wal_level", Status::Failed, "'logical'"),
            (|f| f.used_slots = 10, "replication slots", Status::Failed, "= 14;"),
            (|f| f.max_senders = 0, "wal senders", Status::Failed, "max_wal_senders = 5;"),
            (
                |f| f.has_replication = false,
                "replication privilege",
                Status::Failed,
                "ALTER ROLE \"Replicator\" REPLICATION;",
            ),
            (
                |f| f.may_publish = false,
                "publication",
                Status::Failed,
                "GRANT CREATE ON DATABASE \"crm\" TO \"Replicator\";",
            ),
            (
                |f| f.slot_keep_mb = Some(-1),
                "max_slot_wal_keep_size",
                Status::Warning,
                "ALTER SYSTEM SET max_slot_wal_keep_size",
            ),
            (|f| f.slot_keep_mb = None, "max_slot_wal_keep_size", Status::Warning, "restart_lsn"),
            (|f| f.sender_timeout_ms = 0, "wal_sender_timeout", Status::Warning, "'60s'"),
            (|f| f.sender_timeout_ms = 500, "wal_sender_timeout", Status::Warning, "'60s'"),
            (|f| f.skew.micros = -2_000_000, "clock", Status::Warning, "chronyc"),
        ];
        for (change, name, status, fix) in cases {
            let fault = only_fault(change);
            assert_eq!((fault.name.as_str(), fault.status), (name, status), "{fault:?}");
            assert!(fault.fix.as_deref().is_some_and(|text| text.contains(fix)), "{fault:?}");
        }
    }

    #[test]
    fn a_named_publication_is_looked_into() {
        let found = |sends_all, via_root, tables: &[&str]| {
            NamedPublication::Found(Publication {
                name: "Ours".to_owned(),
                sends_all,
                via_root,
                partial_tables: tables.iter().map(ToString::to_string).collect(),
            })
        };
        let fix = |publication: NamedPublication| {
            only_fault(|facts| facts.publication = publication).fix.unwrap_or_default()
        };
        assert_eq!(
            fix(NamedPublication::Missing("Ours".to_owned())),
            "CREATE PUBLICATION \"Ours\";"
        );
        assert!(
            fix(found(false, false, &[])).contains("publish = 'insert, update, delete, truncate'")
        );
        assert!(fix(found(true, true, &[])).contains("publish_via_partition_root = false"));
        assert!(fix(found(true, false, &["public.a"])).contains("DROP TABLE public.a;"));
        let mut good = facts();
        good.may_publish = false;
        good.publication = found(true, false, &[]);
        assert!(judge(&server(), &good).iter().all(|check| check.status == Status::Ok));
    }

    #[test]
    fn skew_within_the_round_trip_is_none() {
        assert_eq!(skew_of(1_000, 3_000, 2_000), Skew { micros: 0, uncertainty_micros: 1_000 });
        let slow = Skew { micros: 3_000_000, uncertainty_micros: 2_500_000 };
        assert_eq!(clock(slow).status, Status::Ok);
        let sure = Skew { micros: 3_000_000, uncertainty_micros: 100 };
        assert_eq!(clock(sure).status, Status::Warning);
        assert_eq!(clock(Skew { micros: i64::MIN, uncertainty_micros: 0 }).status, Status::Warning);
    }

    #[test]
    fn older_versions_say_what_they_lack() {
        assert!(version(120_022).detail.contains("a limit on the WAL"));
        assert!(!version(150_004).detail.contains("streaming"));
        assert_eq!(version(180_001).detail, "Postgres 18.1");
    }
}
