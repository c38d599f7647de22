//! Upstreams of other majors: each is followed through everything a table goes through.

use crate::support::client::{self, Ask};
use crate::support::cluster::{ClusterOptions, Shutdown};
use crate::support::load::{self, Load, LoadOptions, OnBreak};
use crate::support::pair::{Pair, Sync};
use std::sync::Arc;
use std::time::Duration;

const ROWS: i64 = 20_000;

const TABLES: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
    CREATE TABLE \"Mixed Case\" (\"Region\" text, code int, mood mood, amount numeric(12, 2), at timestamptz,
        tags text[], doc jsonb, PRIMARY KEY (\"Region\", code));
    CREATE TABLE by_index (a int NOT NULL, b text NOT NULL, c text);
    CREATE UNIQUE INDEX by_index_key ON by_index (a, b);
    ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_key;
    CREATE TABLE part (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
    INSERT INTO \"Mixed Case\" SELECT 'r' || i % 7, i, (ARRAY['sad','ok','happy'])[1 + i % 3]::mood, i / 3.0,
        timestamptz '2024-01-01 12:00+00' + i * interval '1 h', ARRAY['a', NULL, i::text], jsonb_build_object('i', i)
        FROM generate_series(1, 2000) AS i;
    INSERT INTO by_index SELECT i, 'b' || i, repeat('x', i % 50) FROM generate_series(1, 500) AS i;
    INSERT INTO part SELECT i, date '2024-01-01' + i % 700, 'v' || i FROM generate_series(1, 2000) AS i";

const FOLLOWED: [(&str, &str); 4] = [
    ("item", "public.item"),
    ("mixed_case", "public.\"Mixed Case\""),
    ("by_index", "public.by_index"),
    ("part", "public.part"),
];

fn all_same(sync: &Sync) {
    for (target, source) in FOLLOWED {
        sync.assert_same(target, source);
    }
}

/// From the first look at the server to a crash of it, under load all along.
fn follow(major: u32) {
    let name = format!("upstream_{major}");
    let mut options = ClusterOptions::source(&format!("{name}-source")).major(major);
    if major >= 13 {
        options = options.setting("logical_decoding_work_mem", "64kB");
    }
    let pair = Pair::start_with(options, ClusterOptions::ods(&format!("{name}-ods")));
    let sync = Sync::on(&pair, &name);
    let mut source = sync.source();
    let mut ods = sync.ods();
    source.run(load::TABLE);
    load::fill(&mut source, ROWS);
    source.run(TABLES);

    let unmet = ods.text(
        "SELECT string_agg(check_name || ': ' || detail, '; ')
         FROM ods.check_server('src', ARRAY['public.item', 'public.part']) WHERE NOT met AND status <> 'warning'",
    );
    assert_eq!(unmet, None, "everything that is needed is there");
    let syncable = ods.number("SELECT count(*) FROM ods.discover('src') WHERE syncable");
    assert_eq!(syncable, 4, "the partitioned table counts once");

    let writers = {
        let (pair, name) = (Arc::clone(&pair), name.clone());
        let options = LoadOptions {
            writers: 4,
            seed: u64::from(major),
            rows: ROWS,
            pause: Duration::from_millis(2),
            on_break: OnBreak::Reconnect,
        };
        Load::start(options, move || client::try_connect(&pair.source, &name, "app"))
    };
    for (target, source) in FOLLOWED {
        sync.create(target, source);
    }
    for (target, _) in FOLLOWED {
        sync.wait_loaded(target);
    }
    // Large enough to be streamed or spilled at the source, with a part that is rolled back.
    source.run(
        "BEGIN; INSERT INTO \"Mixed Case\" SELECT 'large', i, 'ok', i FROM generate_series(1, 30000) AS i;
         SAVEPOINT s; DELETE FROM \"Mixed Case\" WHERE code % 2 = 0; ROLLBACK TO s;
         UPDATE \"Mixed Case\" SET mood = 'sad' WHERE code % 5 = 0; COMMIT",
    );
    source.run(
        "UPDATE by_index SET b = b || '!' WHERE a % 3 = 0; DELETE FROM by_index WHERE a % 3 = 1;
         BEGIN; UPDATE by_index SET a = -a WHERE a IN (2, 3); UPDATE by_index SET a = 3 WHERE a = -2;
         UPDATE by_index SET a = 2 WHERE a = -3; COMMIT;
         UPDATE part SET day = day + 365 WHERE day < '2024-06-01' AND id % 5 = 0",
    );
    source.run(
        "CREATE TABLE part_3 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         INSERT INTO part SELECT i, '2026-02-02', 'new leaf' FROM generate_series(5001, 5100) AS i",
    );
    sync.wait_same("part", "public.part");

    ods.run("SELECT ods.pause('mixed_case')");
    source.run("DELETE FROM \"Mixed Case\" WHERE code % 4 = 0; UPDATE \"Mixed Case\" SET amount = -1 WHERE code % 4 = 1");
    ods.run("SELECT ods.resume('mixed_case')");
    sync.wait_loaded("mixed_case");
    source.run("BEGIN; TRUNCATE by_index; INSERT INTO by_index VALUES (1, 'one', NULL); COMMIT");

    pair.source.restart(Shutdown::Immediate);
    writers.wait_for(100);
    pair.ods.kill9(sync.stream_worker());
    writers.wait_for(100);
    writers.stop();
    all_same(&sync);
    for (target, _) in FOLLOWED {
        assert_ne!(sync.state(target), "failed");
    }
}

#[test]
fn postgres_12_is_followed() {
    follow(12);
}

#[test]
fn postgres_13_is_followed() {
    follow(13);
}

#[test]
fn postgres_14_is_followed() {
    follow(14);
}

#[test]
fn postgres_16_is_followed() {
    follow(16);
}

#[test]
fn postgres_17_is_followed() {
    follow(17);
}

#[test]
fn postgres_18_is_followed() {
    follow(18);
}
