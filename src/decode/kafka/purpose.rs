//! What a topic holds that holds no rows of a table.

use super::datum::Value;
use super::sample::Sample;

/// Why a topic can't be a table, by its name and some of its records; `None` where it may be one.
pub fn purpose(topic: &str, samples: &[Sample<'_>]) -> Option<&'static str> {
    by_name(topic).or_else(|| samples.iter().find_map(by_record))
}

fn by_name(topic: &str) -> Option<&'static str> {
    const PREFIX: &str = "__debezium-heartbeat";
    match topic {
        _ if topic.starts_with(PREFIX) => Some("heartbeats of a connector"),
        "_schemas" => Some("the schemas of a registry"),
        _ if topic.starts_with("__") => Some("an internal topic of the cluster"),
        _ => None,
    }
}

fn by_record(sample: &Sample<'_>) -> Option<&'static str> {
    if let Some(purpose) = sample.key.as_ref().and_then(|key| by_key(&key.value)) {
        return Some(purpose);
    }
    let value = sample.value.as_ref()?.value.clone().into_struct().ok()?;
    let has = |name: &str| value.iter().any(|(field, _)| field == name);
    let text = |name: &str| {
        value.iter().find(|(field, _)| field == name).and_then(|(_, value)| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        })
    };
    if has("ddl") && (has("tableChanges") || has("databaseName")) {
        return Some(match has("position") {
            true => "the schema history of a connector, which only it may read",
            false => "changes of shape at a source",
        });
    }
    if has("event_count") && has("data_collections") && has("status") {
        return Some("the beginnings and ends of a source's transactions");
    }
    if has("op") && has("source") && has("message") && text("op") == Some("m") {
        return Some("messages that applications wrote into the log of a Postgres source");
    }
    if value.len() == 1 && has("ts_ms") {
        return Some("heartbeats of a connector");
    }
    let row = sample.field("after").and_then(|row| row.into_struct().ok()).unwrap_or(value);
    let names: Vec<&str> =
        row.iter().map(|(name, _)| &**name).filter(|name| !name.starts_with("__")).collect();
    let is_signal = names == ["id", "type", "data"]
        && row.iter().any(|(name, value)| {
            let known = ["execute-snapshot", "snapshot-window-open", "snapshot-window-close"];
            name == "type" && matches!(value, Value::Text(text) if known.contains(&&**text))
        });
    is_signal.then_some("signals to a connector")
}

/// The topics that Kafka Connect keeps for itself are known by their keys.
fn by_key(key: &Value<'_>) -> Option<&'static str> {
    const CONNECT: &str = "what Kafka Connect keeps for itself";
    let starts = [
        "connector-",
        "task-",
        "commit-",
        "target-state-",
        "session-key",
        "status-connector-",
        "status-task-",
        "status-topic-",
        "logger-cluster-",
    ];
    // The name of a connector and the partition of its source.
    let is_offset = |key: &str| key.starts_with("[\"") && key.contains(",{");
    match key {
        Value::Text(key) if is_offset(key) => Some(CONNECT),
        Value::Text(key) => starts.iter().any(|start| key.starts_with(start)).then_some(CONNECT),
        Value::Json(key) if is_offset(key) => Some(CONNECT),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::kafka::tests::recorded::Set;

    #[test]
    fn what_holds_no_rows_is_known() {
        for name in ["postgres-json", "postgres-avro", "mariadb-json-schema", "mariadb-json"] {
            let set = Set::read(name);
            let of = |topic: &str| {
                let records = set.records(Some(topic));
                let (_, samples) = set.samples(&records);
                purpose(topic, &samples).unwrap_or("rows")
            };
            assert!(of("transaction").contains("transactions"), "{name}");
            if name.starts_with("mariadb") {
                assert!(of("").contains("changes of shape"), "{name}");
                assert!(of("samples.debezium_signal").contains("signals"), "{name}");
                assert_eq!(of("samples.wide"), "rows", "{name}");
                assert_eq!(of("samples.heartbeat"), "rows", "{name}");
            } else {
                assert!(of("message").contains("messages"), "{name}");
                assert!(of("public.debezium_signal").contains("signals"), "{name}");
                assert_eq!(of("public.wide"), "rows", "{name}");
            }
            let heartbeats = set.records(None);
            let heartbeats: Vec<_> =
                heartbeats.into_iter().filter(|r| r.topic.contains("heartbeat.")).collect();
            let (_, samples) = set.samples(&heartbeats);
            assert_eq!(purpose("x", &samples), Some("heartbeats of a connector"), "{name}");
        }
        assert!(purpose("__consumer_offsets", &[]).is_some());
        assert!(purpose("orders", &[]).is_none());
        let key = |key: &'static str| by_key(&Value::Json(key)).is_some();
        assert!(key(r#"["shop",{"server":"shop"}]"#) && !key(r#"{"id":1}"#));
        assert!(by_key(&Value::Text(r#"["shop",{"server":"shop"}]"#.into())).is_some());
    }
}
