//! Tables of odd shapes: the widest, and those whose columns the source computes.

use crate::support::client::Ask;
use crate::support::pair::Sync;
use postgres::{Config, NoTls};
use std::sync::{Arc, Mutex, PoisonError};

/// What creating a table says beside its result: message and hint.
fn told(sync: &Sync, sql: &str) -> Vec<(String, String)> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let mut client = Config::new()
        .host_path(sync.ods_cluster().socket_dir())
        .port(sync.ods_cluster().port())
        .user("postgres")
        .dbname(sync.name())
        .notice_callback(move |notice| {
            let hint = notice.hint().unwrap_or_default().to_owned();
            let mut told = heard.lock().unwrap_or_else(PoisonError::into_inner);
            told.push((notice.message().to_owned(), hint));
        })
        .connect(NoTls)
        .expect("a connection");
    client.run(sql);
    told.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[test]
fn generated_columns_are_left_out_with_the_statement_that_adds_them() {
    let sync = Sync::shared("generated");
    let mut source = sync.source();
    source.run(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, a int NOT NULL DEFAULT 7 CHECK (a > 0), b int,
             total bigint GENERATED ALWAYS AS (a + coalesce(b, 0)) STORED, \"Name\" text GENERATED ALWAYS AS ('n' || a::text) STORED);
         INSERT INTO t (b) SELECT i FROM generate_series(1, 500) AS i",
    );
    let create = "SELECT ods.create_synced_table('public.t', server => 'src', source => 'public.t', consumer => 'outside tests')";
    let told = told(&sync, create);
    let (message, hint) = told.first().expect("a notice");
    assert!(message.ends_with("changes do not carry them: total, \"Name\""), "{message}");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    let mut ods = sync.ods();
    assert_eq!(
        ods.text("SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0")
            .as_deref(),
        Some("id,a,b,_ods_committed_at,_ods_synced_at")
    );
    // Only the key is NOT NULL here, and nothing has a default.
    assert_eq!(
        ods.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum BETWEEN 1 AND 3 AND (atthasdef OR attidentity <> '' OR attnotnull AND attname <> 'id')"),
        0
    );
    ods.run(hint.split_once(": ").expect("a statement").1);
    source.run("UPDATE t SET a = a + id; INSERT INTO t (a) VALUES (1); DELETE FROM t WHERE id = 5");
    sync.assert_same("t", "public.t");
    ods.run("SELECT ods.pause('t')");
    source.run("UPDATE t SET b = NULL WHERE id < 100");
    ods.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    assert_eq!(ods.number("SELECT count(*) FROM t WHERE total <> a + coalesce(b, 0)"), 0);
}

#[test]
fn the_widest_tables_are_followed() {
    let sync = Sync::shared("widest");
    let mut source = sync.source();
    source.run(
        "DO $$ BEGIN
           EXECUTE (SELECT format('CREATE TABLE public.fits (id int PRIMARY KEY, %s)', string_agg(format('c%s int', i), ', '))
                      FROM generate_series(2, 1598) AS i);
           EXECUTE (SELECT format('CREATE TABLE public.over (id int PRIMARY KEY, %s)', string_agg(format('c%s int', i), ', '))
                      FROM generate_series(2, 1600) AS i);
         END $$;
         INSERT INTO fits (id, c2, c1598) SELECT i, i, -i FROM generate_series(1, 200) AS i;
         INSERT INTO fits SELECT 1000; INSERT INTO over (id, c1600) VALUES (1, 2)",
    );
    // One row with a value in every column.
    source.run(
        "DO $$ BEGIN
           EXECUTE (SELECT format('INSERT INTO public.fits VALUES (%s)', string_agg((10000 + i)::text, ', ')) FROM generate_series(1, 1598) AS i);
         END $$",
    );
    let mut ods = sync.ods();
    let create = |table: &str, further: &str| {
        format!(
            "SELECT ods.create_synced_table('{table}', server => 'src', source => 'public.{table}', consumer => 'outside tests'{further})"
        )
    };
    ods.run(&create("fits", ""));
    let error = ods.refused(&create("over", ""));
    assert!(error.message().starts_with("1600 columns are too many"), "{error:?}");
    assert!(error.message().ends_with("room for 1598"), "{error:?}");
    assert!(ods.refused(&create("fits", ", on_delete => 'mark'")).message().ends_with("1597"));
    let some = (2..=1598).map(|n| format!("c{n}")).collect::<Vec<_>>().join(", ");
    ods.run(&create("over", &format!(", columns => '{{id, {some}}}'")));
    for table in ["fits", "over"] {
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
        source.run(&format!(
            "UPDATE {table} SET c2 = c2 + 1, c700 = 7 WHERE id < 100; UPDATE {table} SET id = -id WHERE id = 50;
             DELETE FROM {table} WHERE id = 60; INSERT INTO {table} (id, c800) SELECT i, 8 FROM generate_series(2000, 2100) AS i"
        ));
        sync.assert_same(table, &format!("public.{table}"));
        ods.run(&format!("SELECT ods.pause('{table}')"));
        source.run(&format!(
            "UPDATE {table} SET c900 = 9 WHERE id % 2 = 0; DELETE FROM {table} WHERE id % 3 = 0"
        ));
        ods.run(&format!("SELECT ods.resume('{table}')"));
        sync.wait_loaded(table);
        sync.assert_same(table, &format!("public.{table}"));
    }
}
