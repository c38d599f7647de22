//! Passwords and values of rows stay where they belong.

use crate::support::client::Ask;
use crate::support::pair::{PASSWORD, PATIENCE, Pair, Sync};

const WRONG: &str = "wrong-sesame-91";
const ROW: &str = "value-of-a-row-17";

/// Everything that people other than the owner of the mapping may come to see.
fn seen(pair: &Pair, sync: &Sync) -> Vec<(&'static str, String)> {
    let mut ods = sync.ods();
    let mut all = vec![("the log here", pair.ods.log())];
    for (place, query) in [
        ("sync_status", "SELECT string_agg(to_jsonb(v)::text, ' ') FROM ods.sync_status v"),
        ("stream_status", "SELECT string_agg(to_jsonb(v)::text, ' ') FROM ods.stream_status v"),
        ("incidents", "SELECT string_agg(to_jsonb(v)::text, ' ') FROM ods.incidents v"),
        (
            "pg_stat_activity here",
            "SELECT string_agg(to_jsonb(v)::text, ' ') FROM pg_stat_activity v WHERE pid <> pg_backend_pid()",
        ),
        (
            "check_server",
            "SELECT string_agg(to_jsonb(v)::text, ' ') FROM ods.check_server('src') v",
        ),
        (
            "maintenance_board",
            "SELECT string_agg(to_jsonb(v)::text, ' ') FROM ods.maintenance_board() v",
        ),
        ("pg_foreign_server", "SELECT string_agg(to_jsonb(v)::text, ' ') FROM pg_foreign_server v"),
    ] {
        all.push((place, ods.text(query).unwrap_or_default()));
    }
    let activity = "SELECT string_agg(to_jsonb(v)::text, ' ') FROM pg_stat_activity v WHERE pid <> pg_backend_pid()";
    all.push(("pg_stat_activity there", sync.source_admin().text(activity).unwrap_or_default()));
    all
}

/// The words as they stand, and as logs and JSON would write them.
fn forms(secret: &str) -> Vec<String> {
    vec![
        secret.to_owned(),
        secret.replace('\'', "''"),
        secret.replace('\\', "\\\\"),
        secret.replace('\\', "\\\\").replace('\'', "\\'"),
        secret.replace('\\', "\\\\").replace('"', "\\\""),
    ]
}

#[test]
fn passwords_are_nowhere_to_be_seen() {
    let pair = Pair::start("secrets");
    let sync = Sync::on(&pair, "secrets");
    sync.source()
        .run("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')");
    sync.create_loaded("t", "public.t");
    let mut ods = sync.ods();
    ods.run(&format!(
        "ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (SET password '{WRONG}')"
    ));
    let error = ods.refused("SELECT ods.create_synced_table('u', server => 'src', source => 'public.t', consumer => 'tests')");
    assert!(!format!("{error:?}").contains(WRONG), "{error:?}");
    let worker = sync.stream_worker();
    ods.run(&format!("SELECT pg_terminate_backend({worker})"));
    ods.wait_until(
        "the status says that the password is wrong",
        "SELECT bool_and(state = 'stalled' AND reason LIKE '%password authentication failed%') FROM ods.sync_status",
        PATIENCE,
    );
    let wrong = seen(&pair, &sync);
    ods.run(&format!(
        "ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (SET password {})",
        crate::support::client::literal(PASSWORD)
    ));
    ods.run("SELECT ods.wake()");
    sync.source().run("INSERT INTO t VALUES (2, 'two')");
    sync.wait_same("t", "public.t");
    for (place, text) in wrong.into_iter().chain(seen(&pair, &sync)) {
        for form in forms(PASSWORD).into_iter().chain(forms(WRONG)) {
            assert!(!text.contains(&form), "{place} shows the password:\n{text}");
        }
    }
    assert!(pair.ods.log().contains("ods"), "there is a log to look into");
}

#[test]
fn values_of_rows_are_nowhere_to_be_seen() {
    let pair = Pair::start("row_values");
    let sync = Sync::on(&pair, "row_values");
    sync.source()
        .run("CREATE TABLE t (id text PRIMARY KEY, v text); INSERT INTO t VALUES ('a', 'one')");
    sync.create_with("t", "public.t", ", on_error => 'halt'");
    sync.wait_loaded("t");
    let mut ods = sync.ods();
    ods.run("ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 10), ADD CONSTRAINT unlike UNIQUE (v)");
    for change in [
        format!("INSERT INTO t VALUES ('b', '{ROW}')"),
        format!("DELETE FROM t; INSERT INTO t VALUES ('{ROW}', 'same'), ('c', 'same')"),
        format!("DELETE FROM t; INSERT INTO t VALUES ('{ROW}', '{ROW}')"),
    ] {
        sync.source().run(&change);
        sync.wait_state("t", "failed");
        for (place, text) in seen(&pair, &sync) {
            assert!(!text.contains(ROW), "{place} shows the value of a row:\n{text}");
        }
        ods.run("SELECT ods.resume('t')");
        sync.wait_state("t", "failed");
        for (place, text) in seen(&pair, &sync) {
            assert!(!text.contains(ROW), "{place} shows the value of a row after resume:\n{text}");
        }
        sync.source().run("DELETE FROM t; INSERT INTO t VALUES ('a', 'one')");
        ods.run("SELECT ods.resume('t')");
        sync.wait_loaded("t");
        sync.assert_same("t", "public.t");
    }
}
