use super::judge::{clock, version};
use super::*;
use crate::pg::foreign::ForeignServer;
use crate::source::check::{Check, Status};

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
        may_emit: true,
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
    let mut faults: Vec<_> =
        judge(&server(), &facts).into_iter().filter(|check| check.status != Status::Ok).collect();
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
    let cases: [(Change, &str, Status, &str); 14] = [
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
            |f| f.may_emit = false,
            "message privilege",
            Status::Failed,
            "(boolean, text, text, boolean) TO \"Replicator\";",
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
    assert_eq!(fix(NamedPublication::Missing("Ours".to_owned())), "CREATE PUBLICATION \"Ours\";");
    assert!(fix(found(false, false, &[])).contains("publish = 'insert, update, delete, truncate'"));
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
