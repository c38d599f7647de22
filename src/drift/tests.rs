//! What a Relation message means, given what was known and what the source has by now.

use super::{Seen, Step, differs, is_mixed, place, plan, seen_now};
use crate::catalog::table::{
    ColumnChoice, OnDrift, OnError, Resync, Sweep, SyncedColumn, SyncedTable, TableState,
};
use crate::decode::pgoutput::{Column, Relation, ReplicaIdentity};
use crate::source::postgres::describe::{Generated, SourceColumn, TypeKind};
use std::collections::{BTreeSet, HashSet};

const INT: u32 = 23;
const LONG: u32 = 20;

/// Columns as `name number type`.
type Listed<'a> = &'a [(&'a str, i16, u32)];

fn known(columns: Listed<'_>) -> SyncedTable {
    let columns = columns.iter().map(|(name, attnum, kind)| SyncedColumn {
        source_name: (*name).into(),
        source_attnum: *attnum,
        source_type_modifier: -1,
        source_type_oid: *kind,
        source_type: "type".into(),
        local_type: "type".into(),
        target_name: Some((*name).into()),
        key_position: (*attnum == 1).then_some(1),
    });
    SyncedTable {
        id: 1,
        relation: pgrx::pg_sys::Oid::from(1),
        schema: "public".into(),
        name: "t".into(),
        source_schema: "public".into(),
        source_table: "t".into(),
        source_oid: 7,
        transform: None,
        transform_columns: vec![],
        filter: None,
        on_delete: "delete".into(),
        on_error: OnError::Park,
        on_drift: OnDrift::Evolve,
        column_choice: ColumnChoice::All,
        type_schema: None,
        newest_attnum: 0,
        state: TableState::Live,
        sweep: Sweep::None,
        sweep_key: None,
        columns: columns.collect(),
        members: vec![],
        topics: None,
        rereads: BTreeSet::new(),
        load_started: None,
        resync: Resync::None,
        rows_per_second: None,
        passes_until: None,
        is_reshaped: false,
    }
}

fn said(columns: &[(&str, u32)]) -> Relation {
    let columns = columns.iter().enumerate().map(|(number, (name, kind))| Column {
        in_identity: number == 0,
        name: name.as_bytes().into(),
        type_oid: *kind,
        type_modifier: -1,
    });
    Relation {
        id: 7,
        namespace: b"public".as_slice().into(),
        name: b"t".as_slice().into(),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.collect(),
    }
}

fn now(columns: Listed<'_>) -> Vec<SourceColumn> {
    let columns = columns.iter().map(|(name, attnum, kind)| SourceColumn {
        attnum: *attnum,
        name: (*name).into(),
        type_oid: *kind,
        type_modifier: -1,
        type_sql: "type".into(),
        type_schema: "pg_catalog".into(),
        type_name: "type".into(),
        type_kind: TypeKind::Base,
        type_extension: None,
        generated: Generated::No,
        collation: None,
    });
    columns.collect()
}

/// The steps, as short words.
fn steps(before: Listed<'_>, message: &[(&str, u32)], later: Listed<'_>) -> Option<String> {
    let known = known(before);
    let seen = place(&known, &said(message), &now(later))?;
    let word = |step: &Step| match step {
        Step::Drop(number) => format!("-{number}"),
        Step::Rename(number, name) => format!("{number}={name}"),
        Step::Retype(Seen { attnum, type_oid, .. }) => format!("{attnum}:{type_oid}"),
        Step::Add(Seen { attnum, name, .. }) => format!("+{attnum}={name}"),
    };
    Some(plan(&known, &seen).iter().map(word).collect::<Vec<_>>().join(" "))
}

const OLD: Listed<'static> = &[("id", 1, INT), ("a", 2, INT), ("b", 3, INT)];

#[test]
fn a_message_is_placed_by_what_was_known_and_what_is_there_now() {
    let same = [("id", INT), ("a", INT), ("b", INT)];
    for (why, message, later, wanted) in [
        ("nothing", &same[..], OLD, Some("")),
        (
            "added",
            &[same[0], same[1], same[2], ("c", INT)],
            &[OLD[0], OLD[1], OLD[2], ("c", 4, INT)],
            Some("+4=c"),
        ),
        ("dropped", &[same[0], same[2]], &[OLD[0], OLD[2]], Some("-2")),
        ("renamed", &[same[0], ("z", INT), same[2]], &[OLD[0], ("z", 2, INT), OLD[2]], Some("2=z")),
        (
            "dropped and added",
            &[same[0], same[2], ("z", INT)],
            &[OLD[0], OLD[2], ("z", 4, INT)],
            Some("-2 +4=z"),
        ),
        (
            "under the same name",
            &[same[0], same[2], ("a", INT)],
            &[OLD[0], OLD[2], ("a", 4, INT)],
            Some("-2 +4=a"),
        ),
        (
            "traded names",
            &[same[0], ("b", INT), ("a", INT)],
            &[OLD[0], ("b", 2, INT), ("a", 3, INT)],
            Some("2=b 3=a"),
        ),
        (
            "wider",
            &[same[0], ("a", LONG), same[2]],
            &[OLD[0], ("a", 2, LONG), OLD[2]],
            Some("2:20"),
        ),
        ("added, and gone since", &[same[0], same[1], same[2], ("c", INT)], OLD, Some("")),
        ("dropped since", &same, &[OLD[0], OLD[2]], Some("")),
        (
            "wider, and dropped since",
            &[same[0], ("a", LONG), same[2]],
            &[OLD[0], OLD[2]],
            Some("2:20"),
        ),
        ("renamed twice", &[same[0], ("y", INT), same[2]], &[OLD[0], ("z", 2, INT), OLD[2]], None),
        ("renamed, and dropped since", &[same[0], ("y", INT), same[2]], &[OLD[0], OLD[2]], None),
        (
            "dropped, and its name given to another",
            &[same[0], same[1]],
            &[OLD[0], ("a", 3, INT)],
            Some("-2 3=a"),
        ),
        ("not told of, and alive", &[same[0], same[2]], OLD, None),
        (
            "not told of, and renamed since",
            &[same[0], same[1]],
            &[OLD[0], OLD[1], ("z", 3, INT)],
            None,
        ),
        (
            "renamed, and a third of that name since",
            &[same[0], same[1], ("c", INT)],
            &[OLD[0], OLD[1], ("d", 3, INT), ("c", 4, INT)],
            None,
        ),
        (
            "added, and made anew of another type since",
            &[same[0], same[1], same[2], ("c", INT)],
            &[OLD[0], OLD[1], OLD[2], ("c", 5, LONG)],
            Some(""),
        ),
        (
            "added, and traded since",
            &[same[0], same[1], same[2], ("c", INT)],
            &[OLD[0], ("c", 2, INT), OLD[2], ("a", 4, INT)],
            None,
        ),
    ] {
        assert_eq!(steps(OLD, message, later).as_deref(), wanted, "{why}");
    }
}

#[test]
fn a_message_that_fits_is_not_asked_about() {
    let table = known(OLD);
    let nothing = HashSet::new();
    let same = [("id", INT), ("a", INT), ("b", INT)];
    let asks = |message: &[(&str, u32)]| differs(&table, &said(message), &nothing);
    assert!(!asks(&same));
    assert!(asks(&[same[0], same[2], same[1]]), "another order");
    assert!(asks(&[same[0], same[1]]), "one is gone");
    assert!(asks(&[same[0], same[1], ("b", LONG)]), "another type");
    let more = [same[0], same[1], same[2], ("c", INT)];
    assert!(asks(&more), "a new one");
    assert!(!differs(&table, &said(&more), &HashSet::from(["c".to_owned()])), "looked at before");
    let listed = SyncedTable { column_choice: ColumnChoice::Listed, ..known(OLD) };
    assert!(!differs(&listed, &said(&more), &nothing), "never asked for");
    let mut keyed = said(&same);
    keyed.columns[1].in_identity = true;
    assert!(differs(&table, &keyed, &nothing), "another key");
    let leaf = Relation { id: 8, ..keyed.clone() };
    assert!(!differs(&table, &leaf, &nothing), "a partition may tell more than the key");
    let mut other = leaf.clone();
    other.columns[0].in_identity = false;
    assert!(differs(&table, &other, &nothing), "but the key it must");
    keyed.replica_identity = ReplicaIdentity::Full;
    assert!(!differs(&table, &keyed, &nothing), "whole old rows hold the key");
}

#[test]
fn rows_are_mixed_where_a_name_went_to_another_column() {
    let mixed = |later: Listed<'_>| {
        let (table, seen) = (known(OLD), seen_now(&now(later)));
        is_mixed(&table, &plan(&table, &seen), &seen)
    };
    assert!(!mixed(OLD));
    assert!(!mixed(&[OLD[0], ("z", 2, INT), OLD[2]]), "renamed");
    assert!(!mixed(&[OLD[0], OLD[2], ("z", 4, INT)]), "dropped and added");
    assert!(mixed(&[OLD[0], ("b", 2, INT), ("a", 3, INT)]), "traded");
    assert!(mixed(&[OLD[0], ("z", 2, INT), OLD[2], ("a", 4, INT)]), "renamed, and another added");
}
