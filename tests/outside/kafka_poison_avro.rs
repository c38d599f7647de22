//! Poisoned Avro amid good records, with a real schema registry.

use crate::support::client::{Ask, literal};
use crate::support::kafka::record::New;
use crate::support::kafka::registry::Registry;
use crate::support::kafka::scene::{PATIENCE, Scene};

/// Rows in an envelope, as Debezium's connector registers them.
const ENVELOPE: &str = r#"{"type": "record", "name": "Envelope", "namespace": "shop.t", "fields": [
    {"name": "before", "type": ["null", {"type": "record", "name": "Value", "fields": [
        {"name": "id", "type": "long"},
        {"name": "name", "type": "string"},
        {"name": "n", "type": ["null", "int"]},
        {"name": "flag", "type": "boolean"},
        {"name": "raw", "type": "bytes"}]}]},
    {"name": "after", "type": ["null", "Value"]},
    {"name": "op", "type": "string"}]}"#;
const KEY: &str = r#"{"type": "record", "name": "Key", "namespace": "shop.t", "fields": [{"name": "id", "type": "long"}]}"#;

/// Bytes of Avro behind the number of their schema.
#[derive(Clone)]
struct Datum(Vec<u8>);

impl Datum {
    fn of(schema: u32) -> Self {
        Self([&[0], &schema.to_be_bytes()[..]].concat())
    }

    fn long(mut self, value: i64) -> Self {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        while rest >= 0x80 {
            self.0.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    fn bytes(self, value: &[u8]) -> Self {
        let mut datum = self.long(value.len() as i64);
        datum.0.extend_from_slice(value);
        datum
    }

    fn raw(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    /// A row's fields, the last two as they are given.
    fn row(self, id: i64, name: &[u8], n: i64) -> Self {
        self.long(id).bytes(name).long(1).long(n).raw(&[1]).bytes(b"\xde\xad")
    }

    /// An envelope that begins with a row after.
    fn after(schema: u32) -> Self {
        Self::of(schema).long(0).long(1)
    }
}

fn whole(schema: u32, id: i64, n: i64) -> Datum {
    Datum::after(schema).row(id, b"good", n).bytes(b"c")
}

fn bad(envelope: u32, key: u32, id: i64) -> Vec<(&'static str, Vec<u8>)> {
    let good = whole(envelope, id, 1).0;
    let start = || Datum::after(envelope);
    let mut all = vec![
        ("empty", Vec::new()),
        ("another magic byte", [&[9], &good[1..]].concat()),
        ("the magic byte alone", vec![0]),
        ("half the number of a schema", good[..3].to_vec()),
        ("no datum", good[..5].to_vec()),
        ("JSON", br#"{"op": "c", "after": {"id": 1}}"#.to_vec()),
        ("the schema of keys", Datum::of(key).long(id).0),
        (
            "a branch that there is none of",
            Datum::of(envelope).long(0).long(7).row(id, b"x", 1).bytes(b"c").0,
        ),
        (
            "a branch below none",
            Datum::of(envelope).long(0).long(-1).row(id, b"x", 1).bytes(b"c").0,
        ),
        ("a text of negative length", start().long(id).long(-5).raw(b"s3cret").0),
        ("a text longer than the datum", start().long(id).long(1 << 40).raw(b"s3cret").0),
        ("a text that is no UTF-8", start().row(id, b"s3cret\xff", 1).bytes(b"c").0),
        ("a text with a zero character", start().row(id, b"s3cret\0", 1).bytes(b"c").0),
        (
            "a boolean that is neither",
            start().long(id).bytes(b"x").long(0).raw(&[2]).bytes(b"y").bytes(b"c").0,
        ),
        ("an endless number", start().raw(&[0xff; 12]).0),
        ("a number too large for its type", start().row(id, b"x", 1 << 40).bytes(b"c").0),
        ("an unknown operation", start().row(id, b"x", 1).bytes(b"z").0),
        ("no row", Datum::of(envelope).long(0).long(0).bytes(b"c").0),
        ("something behind it", [&good[..], b"s3cret"].concat()),
        ("a value that a CHECK refuses", start().row(id, b"s3cret", 13).bytes(b"c").0),
        ("a name that is taken", start().row(id, b"taken", 1).bytes(b"c").0),
    ];
    for length in 6..good.len() {
        all.push(("cut", good[..length].to_vec()));
    }
    all
}

fn letters(scene: &mut Scene, table: &str) -> Vec<String> {
    scene.rows(&format!(
        "SELECT record_offset, encode(raw_value, 'hex'), key::text, error <> '' AND error !~ 's3cret|taken'
           FROM ods.dead_letters WHERE table_name = {}::regclass ORDER BY record_offset",
        literal(table)
    ))
}

#[test]
fn avro_of_every_bad_shape_and_a_schema_that_comes_late() {
    let mut scene = Scene::shared("poison_avro");
    let registry = Registry::start("poison_avro");
    scene.ods.run(&format!(
        "ALTER SERVER events OPTIONS (ADD \"schema.registry.url\" {})",
        literal(&registry.ccompat())
    ));
    for topic in ["poison_avro", "poison_avro_beside"] {
        scene.kafka.create_topic(topic, 1, &[]);
    }
    let key = registry.register("poison_avro-key", KEY);
    let envelope = registry.register("poison_avro-value", ENVELOPE);
    let kafka = scene.broker.kafka();
    let send = |id: i64, value: &[u8]| {
        let key = Datum::of(key).long(id).0;
        let (key, value) = (Some(&key[..]), Some(value));
        kafka.produce(&[New { topic: "poison_avro", key, value, ..New::default() }]);
    };
    send(1, &Datum::after(envelope).row(1, b"taken", 1).bytes(b"c").0);
    let mut expected = Vec::new();
    let mut offset = 1;
    let count = i64::try_from(bad(envelope, key, 0).len()).expect("a few");
    for at in 0..count {
        let id = 1_000 + at;
        let (what, value) =
            bad(envelope, key, id).swap_remove(usize::try_from(at).expect("a place"));
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        expected.push((what, format!("{offset}|{hex}|{{{id}}}|t")));
        send(id, &value);
        send(at + 2, &whole(envelope, at + 2, at + 100).0);
        offset += 2;
    }
    for table in ["t", "beside"] {
        // Names are all the same but for one, so that the rest may go on.
        scene.ods.run(&format!(
            "CREATE TABLE {table} (id bigint PRIMARY KEY, name text NOT NULL, n int CHECK (n <> 13), flag boolean, raw bytea);
             CREATE UNIQUE INDEX ON {table} (name) WHERE name = 'taken'"
        ));
    }
    let avro = r#", format => '{"layout": "debezium", "key": "avro", "value": "avro"}'"#;
    scene.follow("t", "poison_avro", avro);
    scene.follow("beside", "poison_avro_beside", avro);
    scene.wait_loaded("t");
    scene.wait_read("t", &["poison_avro"]);
    let found = letters(&mut scene, "t");
    let wrong: Vec<_> = expected.iter().filter(|(_, letter)| !found.contains(letter)).collect();
    assert!(wrong.is_empty(), "{wrong:#?} are not among {found:#?}");
    assert_eq!(found.len(), expected.len());
    let rows = format!("SELECT count(*) = {}, min(raw::text) FROM t", count + 1);
    assert_eq!(scene.rows(&rows), ["t|\\xdead"]);

    // A schema that is not there may be on its way.
    let late =
        ENVELOPE.replace("\"op\"", "\"op\", \"doc\": \"later\"").replace("Envelope", "Later");
    let probe = r#"{"type": "record", "name": "probe", "fields": []}"#;
    let next = registry.register("probe-value", probe) + 1;
    send(2_000, &whole(next, 2_000, 1).0);
    send(2, &whole(envelope, 2, 77).0);
    scene.ods.wait_until(
        "the table says what it waits for",
        &format!("SELECT reason LIKE '%schema%{next}%' AND state NOT IN ('failed', 'paused') FROM ods.sync_status WHERE table_name = 't'::regclass"),
        PATIENCE,
    );
    let record = Datum::of(key).long(5).0;
    let value = whole(envelope, 5, 5).0;
    scene.kafka.produce(&[New {
        topic: "poison_avro_beside",
        key: Some(&record),
        value: Some(&value),
        ..New::default()
    }]);
    scene.wait_read("beside", &["poison_avro_beside"]);
    assert_eq!(scene.rows("SELECT id, n FROM beside"), ["5|5"]);
    assert_eq!(scene.rows("SELECT n FROM t WHERE id = 2"), ["100"], "nothing overtakes");
    assert_eq!(scene.rows("SELECT count(*) FROM t WHERE id >= 2000"), ["0"]);
    assert_eq!(letters(&mut scene, "t").len(), expected.len(), "it is no letter");
    // The registry is away, and that is no poison either.
    registry.kill9();
    registry.start_again();
    let given = registry.register("late-value", &late);
    assert_eq!(given, next, "the number that the registry gives next");
    scene.wait_read("t", &["poison_avro"]);
    assert_eq!(
        scene.rows("SELECT id, n FROM t WHERE id IN (2, 2000) ORDER BY id"),
        ["2|77", "2000|1"]
    );
}
