//! The schemas of events as Debezium's Postgres connector 3.6 writes them, of the table of `value`.

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";
const SNAPSHOTS: &str =
    "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental";

/// The schema of a key, as it stands in each record.
pub fn json_key() -> String {
    r#"{"type":"struct","fields":[{"type":"int64","optional":false,"field":"id"}],"optional":false,"name":"bench.public.orders.Key"}"#.to_owned()
}

/// The schema of a value, as it stands in each record.
pub fn json_value() -> String {
    let field = |kind: &str, optional: bool, name: &str| {
        format!(r#"{{"type":"{kind}","optional":{optional},"field":"{name}"}}"#)
    };
    let row = |name: &str| {
        format!(
            r#"{{"type":"struct","fields":[{},{},{},{{"type":"bytes","optional":true,"name":"{DECIMAL}","version":1,"parameters":{{"scale":"2","connect.decimal.precision":"12"}},"field":"amount"}},{},{}],"optional":true,"name":"bench.public.orders.Value","field":"{name}"}}"#,
            field("int64", false, "id"),
            field("int32", true, "customer"),
            field("string", true, "status"),
            field("string", true, "note"),
            field("int64", true, "changed_at"),
        )
    };
    let source = [
        field("string", false, "version"),
        field("string", false, "connector"),
        field("string", false, "name"),
        field("int64", false, "ts_ms"),
        format!(
            r#"{{"type":"string","optional":true,"name":"io.debezium.data.Enum","version":1,"parameters":{{"allowed":"{SNAPSHOTS}"}},"default":"false","field":"snapshot"}}"#
        ),
        field("string", false, "db"),
        field("string", true, "sequence"),
        field("int64", true, "ts_us"),
        field("int64", true, "ts_ns"),
        field("string", false, "schema"),
        field("string", false, "table"),
        field("int64", true, "txId"),
        field("int64", true, "lsn"),
        field("int64", true, "xmin"),
        field("string", true, "origin"),
        field("int64", true, "origin_lsn"),
    ]
    .join(",");
    format!(
        r#"{{"type":"struct","fields":[{before},{after},{{"type":"struct","fields":[{source}],"optional":false,"name":"io.debezium.connector.postgresql.Source","version":1,"field":"source"}},{{"type":"struct","fields":[{id},{total},{order}],"optional":true,"name":"event.block","version":1,"field":"transaction"}},{op},{ms},{us},{ns}],"optional":false,"name":"bench.public.orders.Envelope","version":2}}"#,
        before = row("before"),
        after = row("after"),
        id = field("string", false, "id"),
        total = field("int64", false, "total_order"),
        order = field("int64", false, "data_collection_order"),
        op = field("string", false, "op"),
        ms = field("int64", true, "ts_ms"),
        us = field("int64", true, "ts_us"),
        ns = field("int64", true, "ts_ns"),
    )
}

/// The schema of Avro keys.
pub fn avro_key() -> String {
    r#"{"type":"record","name":"Key","namespace":"bench.public.orders","fields":[{"name":"id","type":"long"}],"connect.name":"bench.public.orders.Key"}"#.to_owned()
}

/// The schema of Avro values.
pub fn avro_value() -> String {
    let field = |name: &str, kind: &str| format!(r#"{{"name":"{name}","type":"{kind}"}}"#);
    let optional = |name: &str, kind: &str| {
        format!(r#"{{"name":"{name}","type":["null",{kind}],"default":null}}"#)
    };
    let row = [
        field("id", "long"),
        optional("customer", "\"int\""),
        optional("status", "\"string\""),
        optional(
            "amount",
            &format!(
                r#"{{"type":"bytes","scale":2,"precision":12,"connect.version":1,"connect.parameters":{{"scale":"2","connect.decimal.precision":"12"}},"connect.name":"{DECIMAL}","logicalType":"decimal"}}"#
            ),
        ),
        optional("note", "\"string\""),
        optional("changed_at", "\"long\""),
    ]
    .join(",");
    let source = [
        field("version", "string"),
        field("connector", "string"),
        field("name", "string"),
        field("ts_ms", "long"),
        format!(
            r#"{{"name":"snapshot","type":[{{"type":"string","connect.version":1,"connect.parameters":{{"allowed":"{SNAPSHOTS}"}},"connect.default":"false","connect.name":"io.debezium.data.Enum"}},"null"],"default":"false"}}"#
        ),
        field("db", "string"),
        optional("sequence", "\"string\""),
        optional("ts_us", "\"long\""),
        optional("ts_ns", "\"long\""),
        field("schema", "string"),
        field("table", "string"),
        optional("txId", "\"long\""),
        optional("lsn", "\"long\""),
        optional("xmin", "\"long\""),
        optional("origin", "\"string\""),
        optional("origin_lsn", "\"long\""),
    ]
    .join(",");
    let fields = [
        optional(
            "before",
            &format!(
                r#"{{"type":"record","name":"Value","fields":[{row}],"connect.name":"bench.public.orders.Value"}}"#
            ),
        ),
        optional("after", "\"Value\""),
        format!(
            r#"{{"name":"source","type":{{"type":"record","name":"Source","namespace":"io.debezium.connector.postgresql","fields":[{source}],"connect.version":1,"connect.name":"io.debezium.connector.postgresql.Source"}}}}"#
        ),
        optional(
            "transaction",
            &format!(
                r#"{{"type":"record","name":"block","namespace":"event","fields":[{},{},{}],"connect.version":1,"connect.name":"event.block"}}"#,
                field("id", "string"),
                field("total_order", "long"),
                field("data_collection_order", "long"),
            ),
        ),
        field("op", "string"),
        optional("ts_ms", "\"long\""),
        optional("ts_us", "\"long\""),
        optional("ts_ns", "\"long\""),
    ]
    .join(",");
    format!(
        r#"{{"type":"record","name":"Envelope","namespace":"bench.public.orders","fields":[{fields}],"connect.version":2,"connect.name":"bench.public.orders.Envelope"}}"#
    )
}
