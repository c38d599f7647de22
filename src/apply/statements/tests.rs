use super::*;

fn shape() -> Shape {
    Shape {
        table: "\"public\".\"t\"".into(),
        columns: vec![
            Column {
                source: "id".into(),
                target: Some("id".into()),
                sql_type: "int4".into(),
                collation: None,
            },
            Column {
                source: "Name".into(),
                target: Some("name".into()),
                sql_type: "text".into(),
                collation: Some("\"pg_catalog\".\"C\"".into()),
            },
        ],
        key: vec![0],
        transform: None,
        transformed: vec![],
        filter: None,
        on_delete: OnDelete::Delete,
        has_mark: false,
        has_position: false,
    }
}

#[test]
fn absent_columns_are_left_alone() {
    let sql = shape().update_present(&[true, false], Age::Any);
    assert!(!sql.contains("\"name\" ="), "{sql}");
    assert!(sql.contains("t.\"id\" = r.v0"), "{sql}");
}

#[test]
fn keys_are_gone_on_from_in_the_order_of_the_column() {
    let sql = Shape { key: vec![1, 0], ..shape() }.next_keys(true);
    assert!(sql.contains("'UTF8')::text COLLATE \"pg_catalog\".\"C\", pg_catalog"), "{sql}");
    assert!(sql.contains("$3::bytea, 'UTF8')::int4)"), "{sql}");
}

#[test]
fn names_are_quoted() {
    assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
}

#[test]
fn a_filter_sees_the_names_of_the_source() {
    let shape = Shape { filter: Some("\"Name\" <> 'x'".into()), ..shape() };
    let sql = shape.insert();
    assert!(sql.contains("v1 AS \"Name\""), "{sql}");
    assert!(shape.delete_filtered().is_some_and(|sql| sql.contains("NOT COALESCE")));
}

#[test]
fn keys_are_spelt_as_the_source_spells_them() {
    let differing = shape().update_whole(Touch::Differing, Age::Any);
    assert!(differing.contains("SET \"id\" = r.\"id\", \"name\""), "{differing}");
    assert!(!shape().update_whole(Touch::Every, Age::Any).contains("SET \"id\""));
}

#[test]
fn marked_rows_come_back_unmarked() {
    let shape = Shape { on_delete: OnDelete::Mark, has_mark: true, ..shape() };
    assert!(shape.update_whole(Touch::Every, Age::Any).contains("\"_ods_deleted_at\" = NULL"));
    assert!(shape.delete(Age::Any).is_some_and(|sql| sql.starts_with("UPDATE")));
    let ignore = Shape { on_delete: OnDelete::Ignore, ..shape };
    assert_eq!(ignore.delete(Age::Any), None);
}

#[test]
fn an_upsert_leaves_keys_alone_and_stamps_what_it_changes() {
    let sql = Shape { has_mark: true, ..shape() }.upsert(Age::Any);
    assert!(
        sql.contains("ON CONFLICT (\"id\") DO UPDATE SET \"name\" = excluded.\"name\""),
        "{sql}"
    );
    assert!(sql.contains("\"_ods_committed_at\" = excluded.\"_ods_committed_at\""), "{sql}");
    assert!(sql.contains("\"_ods_deleted_at\" = NULL"), "{sql}");
}

#[test]
fn what_is_read_again_changes_no_newer_row() {
    let shape = Shape { has_position: true, ..shape() };
    let older = |sql: &str| sql.contains("t.\"_ods_position\" <= ");
    for age in [Age::Any, Age::Older] {
        let is_older = age == Age::Older;
        assert_eq!(older(&shape.upsert(age)), is_older);
        assert_eq!(older(&shape.update_whole(Touch::Every, age)), is_older);
        assert_eq!(older(&shape.update_present(&[true, true], age)), is_older);
        assert_eq!(shape.delete(age).is_some_and(|sql| older(&sql)), is_older);
    }
    assert!(shape.upsert(Age::Any).contains("\"_ods_position\" = excluded.\"_ods_position\""));
    assert!(shape.delete_all(Some(7)).is_some_and(|sql| sql.ends_with("<= 7)")));
    assert!(shape.delete_all(None).is_some_and(|sql| !older(&sql)));
}
