//! Sources encoded otherwise than the database here.

use crate::support::client::Ask;
use crate::support::pair::{Pair, Sync};

/// Follows a table whose keys, values and names are full of `sample`: through load, stream, rows
/// that are read again and a reconciliation.
fn follow(sync: &Sync, sample: &str, name: &str) {
    let mut source = sync.source();
    source.run(&format!(
        "CREATE TABLE \"{name}\" (\"{name}\" text, n int, body text, more text, PRIMARY KEY (\"{name}\", n));
         ALTER TABLE \"{name}\" ALTER body SET STORAGE EXTERNAL;
         INSERT INTO \"{name}\" SELECT '{sample}' || i % 50, i, CASE WHEN i < 300 THEN repeat('{sample}', 1000) END, '{sample}'
           FROM generate_series(1, 6000) AS i"
    ));
    let table = format!("\"{name}\"");
    let upstream = format!("public.\"{name}\"");
    sync.create(&table, &upstream);
    sync.create_with(
        "transformed",
        &upstream,
        &format!(", transform => $$SELECT \"{name}\", n, body || '!' AS body, upper(more) AS more FROM batch$$"),
    );
    sync.wait_loaded(&table);
    sync.wait_loaded("transformed");
    sync.assert_same(&table, &upstream);
    // Values that are not sent are completed from the rows here, or read again by their key.
    source.run(&format!(
        "UPDATE {table} SET more = '{sample}{sample}' WHERE n < 100;
         BEGIN; UPDATE {table} SET n = n + 10000, more = '{sample}' WHERE n < 200; COMMIT;
         UPDATE {table} SET \"{name}\" = '{sample}', n = -1, more = 'moved' WHERE n = 5000;
         DELETE FROM {table} WHERE n BETWEEN 4000 AND 4100"
    ));
    sync.assert_same(&table, &upstream);
    source.run(&format!("CREATE VIEW transformed AS SELECT \"{name}\", n, body || '!' AS body, upper(more) AS more FROM {table}"));
    sync.wait_same("transformed", "public.transformed");
    let mut ods = sync.ods();
    ods.run(&format!("SELECT ods.pause('{table}')"));
    source.run(&format!(
        "DELETE FROM {table} WHERE n BETWEEN 3000 AND 3999;
         UPDATE {table} SET more = NULL, body = '{sample}' WHERE n < 3000;
         INSERT INTO {table} SELECT '{sample}', i, '{sample}' FROM generate_series(20000, 20100) AS i"
    ));
    ods.run(&format!("SELECT ods.resume('{table}')"));
    sync.wait_loaded(&table);
    sync.assert_same(&table, &upstream);
    for compared in [table.as_str(), "transformed"] {
        let found = ods.rows(&format!("SELECT * FROM ods.verify('{compared}')"));
        assert!(found.is_empty(), "{compared}: {found:?}");
    }
}

#[test]
fn a_source_in_latin1_is_followed() {
    follow(&Sync::encoded(&Pair::shared(), "from_latin1", "LATIN1", "UTF8"), "é\\ß'' ", "größe");
}

#[test]
fn a_source_in_win1252_is_followed() {
    follow(&Sync::encoded(&Pair::shared(), "from_win1252", "WIN1252", "UTF8"), "€ “x”", "€");
}

#[test]
fn a_source_in_euc_jp_is_followed() {
    follow(&Sync::encoded(&Pair::shared(), "from_euc_jp", "EUC_JP", "UTF8"), "漢字かな", "表");
}

#[test]
fn a_source_in_sql_ascii_that_holds_utf8_is_followed() {
    follow(&Sync::encoded(&Pair::shared(), "from_ascii", "SQL_ASCII", "UTF8"), "é漢", "größe");
}

#[test]
fn a_database_in_latin1_follows() {
    let sync = Sync::encoded(&Pair::shared(), "into_latin1", "UTF8", "LATIN1");
    follow(&sync, "é\\ß'' ", "size");
}

#[test]
fn a_database_in_sql_ascii_follows_one_in_utf8() {
    follow(&Sync::encoded(&Pair::shared(), "into_ascii", "UTF8", "SQL_ASCII"), "é漢", "size");
}

/// Has a table synced that a row which can't be written sets aside.
fn create_halting(sync: &Sync, table: &str) {
    sync.create_with(table, &format!("public.{table}"), ", on_error => 'halt'");
}

#[test]
fn a_character_that_does_not_exist_here_sets_its_table_aside() {
    let sync = Sync::encoded(&Pair::shared(), "unholdable", "UTF8", "LATIN1");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE streamed (id int PRIMARY KEY, v text); INSERT INTO streamed VALUES (1, 'é');
         CREATE TABLE loaded (id int PRIMARY KEY, v text); INSERT INTO loaded VALUES (1, '漢');
         CREATE TABLE keyed (id text PRIMARY KEY); INSERT INTO keyed VALUES ('a');
         CREATE TABLE other (id int PRIMARY KEY, v text)",
    );
    create_halting(&sync, "streamed");
    sync.wait_loaded("streamed");
    create_halting(&sync, "keyed");
    sync.wait_loaded("keyed");
    create_halting(&sync, "other");
    sync.wait_loaded("other");
    create_halting(&sync, "loaded");
    sync.wait_state("loaded", "failed");
    source.run("UPDATE streamed SET v = '漢'; INSERT INTO keyed VALUES ('漢'); INSERT INTO other VALUES (1, 'ß')");
    sync.assert_same("other", "public.other");
    for table in ["streamed", "keyed", "loaded"] {
        assert_eq!(sync.state(table), "failed");
        let reason = sync.shown(table, "reason").unwrap_or_default();
        assert!(reason.contains("UNTRANSLATABLE_CHARACTER"), "{reason}");
        assert!(!reason.contains('漢'), "{reason}");
    }
    assert_eq!(sync.ods().text("SELECT v FROM streamed").as_deref(), Some("é"));
    source.run(
        "UPDATE streamed SET v = 'ä'; DELETE FROM keyed WHERE id = '漢'; UPDATE loaded SET v = 'ö'",
    );
    for table in ["streamed", "keyed", "loaded"] {
        sync.paste_fix(table);
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
    // Names are read by our own code, which knows no other text than UTF-8.
    source.run("CREATE TABLE names (id int PRIMARY KEY, \"größe\" int)");
    let error = sync.ods().refused(
        "SELECT ods.create_synced_table('names', server => 'src', source => 'public.names', consumer => 'outside tests')",
    );
    assert!(error.message().contains("need a database in UTF8"), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("CREATE DATABASE ... ENCODING 'UTF8'")));
}

#[test]
fn bytes_that_are_no_text_here_set_their_table_aside() {
    let sync = Sync::encoded(&Pair::shared(), "no_text", "SQL_ASCII", "UTF8");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE streamed (id int PRIMARY KEY, v text); INSERT INTO streamed VALUES (1, 'é');
         CREATE TABLE keyed (id text PRIMARY KEY, v text); INSERT INTO keyed VALUES (E'\\xe9', 'a');
         CREATE TABLE other (id int PRIMARY KEY, v text)",
    );
    create_halting(&sync, "streamed");
    sync.wait_loaded("streamed");
    create_halting(&sync, "other");
    sync.wait_loaded("other");
    create_halting(&sync, "keyed");
    sync.wait_state("keyed", "failed");
    source.run("UPDATE streamed SET v = E'\\xe9'; INSERT INTO other VALUES (1, 'ß')");
    sync.assert_same("other", "public.other");
    assert_eq!(sync.state("streamed"), "failed");
    source.run("UPDATE streamed SET v = 'é'; DELETE FROM keyed");
    for table in ["streamed", "keyed"] {
        sync.paste_fix(table);
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
}

#[test]
fn check_server_says_which_encodings_work() {
    for (name, there, here, status) in [
        ("enc_a", "WIN1252", "LATIN1", "failed"),
        ("enc_b", "LATIN1", "SQL_ASCII", "failed"),
        ("enc_c", "EUC_JP", "UTF8", "ok"),
        ("enc_d", "SQL_ASCII", "UTF8", "warning"),
    ] {
        let sync = Sync::encoded(&Pair::shared(), name, there, here);
        sync.source().run("CREATE TABLE t (id int PRIMARY KEY)");
        let mut ods = sync.ods();
        let row = ods.rows(
            "SELECT status, detail FROM ods.check_server('src') WHERE check_name = 'encoding'",
        );
        assert_eq!(row[0][0].as_deref(), Some(status), "{there} there, {here} here: {row:?}");
        let create = "SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'outside tests')";
        if status == "failed" {
            assert_eq!(Some(ods.refused(create).message()), row[0][1].as_deref());
        } else {
            ods.run(create);
            sync.wait_loaded("t");
        }
    }
}

#[test]
fn keys_may_be_ordered_otherwise_here() {
    let sync = Sync::shared("collations");
    let mut source = sync.source();
    source.run(
        "CREATE COLLATION upside (provider = icu, locale = 'en-u-kn-kf-upper');
         CREATE TABLE t (id text COLLATE upside PRIMARY KEY, v int);
         INSERT INTO t SELECT chr(65 + i % 26) || substr('aAbBzZ-_ é', i % 10 + 1, 1) || i, i FROM generate_series(1, 9000) AS i;
         CREATE TABLE c (id text COLLATE \"C\" PRIMARY KEY, v int); INSERT INTO c SELECT id, v FROM t",
    );
    let mut ods = sync.ods();
    ods.run("CREATE TABLE c (id text COLLATE \"und-x-icu\" PRIMARY KEY, v int)");
    for table in ["t", "c"] {
        let upstream = format!("public.{table}");
        sync.create_loaded(table, &upstream);
        sync.assert_same(table, &upstream);
        ods.run(&format!("SELECT ods.pause('{table}')"));
        source.run(&format!("DELETE FROM {table} WHERE v % 3 = 0; UPDATE {table} SET id = lower(id), v = -v WHERE v % 7 = 0"));
        ods.run(&format!("SELECT ods.resume('{table}')"));
        sync.wait_loaded(table);
        sync.assert_same(table, &upstream);
    }
}
