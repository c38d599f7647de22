//! No value differs from the source, whatever its type and however it came.

mod kinds;

use crate::support::checksum;
use crate::support::client::Ask;
use crate::support::pair::Sync;
use fastrand::Rng;
use kinds::{KINDS, Kind, OWN_TYPES};
use postgres::Client;
use postgres::error::SqlState;

/// Settings that change how values are read and written as text; each side has others.
const THERE: &[(&str, &str)] = &[
    ("DateStyle", "'SQL, DMY'"),
    ("IntervalStyle", "'sql_standard'"),
    ("TimeZone", "'America/St_Johns'"),
    ("extra_float_digits", "'-10'"),
    ("bytea_output", "'escape'"),
    ("xmloption", "'document'"),
];
const HERE: &[(&str, &str)] = &[
    ("DateStyle", "'German, MDY'"),
    ("IntervalStyle", "'iso_8601'"),
    ("TimeZone", "'Asia/Kathmandu'"),
    ("extra_float_digits", "'-15'"),
    ("bytea_output", "'escape'"),
    ("xmloption", "'document'"),
    ("array_nulls", "'off'"),
];
/// Under which both sides are compared.
const ALIKE: &str = "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC';
    SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmloption = 'content'; SET array_nulls = on;
    SET search_path = ''";

/// A column of a random table.
struct Column {
    kind: &'static Kind,
    shape: Shape,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Array,
}

impl Column {
    fn sql(&self) -> String {
        match self.shape {
            Shape::One => self.kind.sql.to_owned(),
            Shape::Array => format!("{}[]", self.kind.sql),
        }
    }

    fn value(&self, rng: &mut Rng) -> String {
        match self.shape {
            Shape::One => self.kind.value(rng),
            Shape::Array => self.kind.array(rng),
        }
    }

    fn value_or_null(&self, rng: &mut Rng) -> String {
        if rng.u8(..8) == 0 { "NULL".to_owned() } else { self.value(rng) }
    }
}

/// A table of random columns: the key `k0…`, the values `v0…`, and a number by which the test knows
/// its rows.
struct Table {
    name: String,
    key: Vec<Column>,
    values: Vec<Column>,
    rows: u32,
}

impl Table {
    fn random(name: &str, rng: &mut Rng, kinds: &[&'static Kind]) -> Self {
        let keyable: Vec<&'static Kind> = KINDS.iter().filter(|kind| kind.is_key).collect();
        let key = (0..rng.usize(1..4))
            .map(|_| Column { kind: keyable[rng.usize(..keyable.len())], shape: Shape::One })
            // With a number at its end, a key of few values has room for many rows.
            .chain([Column { kind: &KINDS[2], shape: Shape::One }])
            .collect();
        let values = kinds
            .iter()
            .flat_map(|kind| [Shape::One, Shape::Array].map(|shape| Column { kind, shape }))
            .collect();
        Self { name: name.to_owned(), key, values, rows: 0 }
    }

    fn columns(&self) -> impl Iterator<Item = (String, &Column)> {
        let name = |prefix: &'static str| move |(n, column)| (format!("{prefix}{n}"), column);
        self.key
            .iter()
            .enumerate()
            .map(name("k"))
            .chain(self.values.iter().enumerate().map(name("v")))
    }

    fn create_sql(&self) -> String {
        let columns: Vec<String> =
            self.columns().map(|(name, column)| format!("{name} {}", column.sql())).collect();
        let key: Vec<String> = (0..self.key.len()).map(|n| format!("k{n}")).collect();
        format!(
            "CREATE TABLE {} (n int, {}, PRIMARY KEY ({}))",
            self.name,
            columns.join(", "),
            key.join(", ")
        )
    }

    fn insert_sql(&mut self, rng: &mut Rng) -> String {
        self.rows += 1;
        let mut values = vec![self.rows.to_string()];
        values.extend(self.key.iter().map(|column| column.value(rng)));
        values.extend(self.values.iter().map(|column| column.value_or_null(rng)));
        format!("INSERT INTO {} VALUES ({})", self.name, values.join(", "))
    }

    fn change_sql(&mut self, rng: &mut Rng) -> String {
        let row = rng.u32(1..=self.rows);
        match rng.u8(..10) {
            0..2 => self.insert_sql(rng),
            2 => format!("DELETE FROM {} WHERE n = {row}", self.name),
            3 => {
                let part = rng.usize(..self.key.len());
                let value = self.key[part].value(rng);
                format!("UPDATE {} SET k{part} = {value} WHERE n = {row}", self.name)
            }
            _ => {
                let part = rng.usize(..self.values.len());
                let value = self.values[part].value_or_null(rng);
                format!("UPDATE {} SET v{part} = {value} WHERE n = {row}", self.name)
            }
        }
    }
}

/// Runs what may fail because a key is taken, or too long for an index.
fn attempt(source: &mut Client, sql: &str) {
    match source.batch_execute(sql) {
        Ok(()) => {}
        Err(error)
            if error.code() == Some(&SqlState::UNIQUE_VIOLATION)
                || error.code() == Some(&SqlState::PROGRAM_LIMIT_EXCEEDED) => {}
        Err(error) => panic!("{sql}\n{error:?}"),
    }
}

/// The seed of a test's randomness: `ODS_SEED`, or a new one.
fn seed() -> u64 {
    let seed = std::env::var("ODS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("ODS_SEED={seed}");
    seed
}

#[test]
fn every_value_survives_the_load_the_stream_and_a_resync() {
    let sync = Sync::shared("values");
    let mut rng = Rng::with_seed(seed());
    let set = |settings: &[(&str, &str)]| {
        settings.iter().fold(String::new(), |sql, (name, value)| {
            format!("{sql}; ALTER DATABASE {} SET {name} = {value}", sync.name())
        })
    };
    sync.source_admin().run(&set(THERE));
    sync.ods().run(&set(HERE));
    let mut source = sync.source();
    // What the test writes is read alike, whatever the rest of the database does.
    source.run(ALIKE);
    source.run("CREATE TABLE public.seed (id int PRIMARY KEY)");
    source.run(OWN_TYPES);
    let mut kinds: Vec<&'static Kind> = KINDS.iter().collect();
    rng.shuffle(&mut kinds);
    let mut tables: Vec<Table> = kinds
        .chunks(10)
        .enumerate()
        .map(|(n, kinds)| Table::random(&format!("public.t{n}"), &mut rng, kinds))
        .collect();
    for table in &mut tables {
        source.run(&table.create_sql());
        for _ in 0..40 {
            attempt(&mut source, &table.insert_sql(&mut rng));
        }
        sync.create(&table.name, &table.name);
    }
    tables.iter().for_each(|table| sync.wait_loaded(&table.name));
    assert_same(&sync, &tables, "after the load");
    let change = |source: &mut Client, rng: &mut Rng, tables: &mut [Table]| {
        for table in tables {
            for _ in 0..60 {
                attempt(source, &table.change_sql(rng));
            }
        }
    };
    change(&mut source, &mut rng, &mut tables);
    assert_same(&sync, &tables, "after changes");
    let mut ods = sync.ods();
    tables.iter().for_each(|table| ods.run(&format!("SELECT ods.pause('{}')", table.name)));
    change(&mut source, &mut rng, &mut tables);
    tables.iter().for_each(|table| ods.run(&format!("SELECT ods.resume('{}')", table.name)));
    change(&mut source, &mut rng, &mut tables);
    tables.iter().for_each(|table| sync.wait_loaded(&table.name));
    assert_same(&sync, &tables, "after a resync");
    // What is equal was left alone: nothing here is written in another form than it was there.
    let written = |ods: &mut Client| {
        tables
            .iter()
            .map(|table| ods.text(&format!("SELECT max(_ods_synced_at) FROM {}", table.name)))
            .collect::<Vec<_>>()
    };
    let before = written(&mut ods);
    tables.iter().for_each(|table| {
        ods.run(&format!("SELECT ods.pause('{0}'); SELECT ods.resume('{0}')", table.name));
    });
    tables.iter().for_each(|table| sync.wait_loaded(&table.name));
    assert_same(&sync, &tables, "after a resync of what is equal");
    assert_eq!(written(&mut ods), before, "a resync has written rows that were equal");
}

/// Settles and compares under the same settings on both sides.
fn assert_same(sync: &Sync, tables: &[Table], when: &str) {
    sync.settle();
    let (mut source, mut ods) = (sync.source_admin(), sync.ods());
    source.run(ALIKE);
    ods.run(ALIKE);
    for table in tables {
        if let Err(difference) = checksum::compare(&mut source, &table.name, &mut ods, &table.name)
        {
            panic!("{when}: {difference}\n{}\n{}", table.create_sql(), sync.status());
        }
    }
}
