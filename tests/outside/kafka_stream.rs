//! Synced tables that follow topics of a real broker.

use crate::support::client::Ask;
use crate::support::kafka::record::New;
use crate::support::kafka::scene::Scene;
use serde_json::json;

#[test]
fn a_table_follows_a_topic_from_its_beginning() {
    let mut scene = Scene::start("follow");
    scene.kafka.create_topic("shop.public.orders", 3, &[]);
    scene.write(
        "shop.public.orders",
        &[
            ("r", json!({"id": 1, "state": "new", "total": 10})),
            ("r", json!({"id": 2, "state": "new", "total": 20})),
            ("c", json!({"id": 3, "state": "new", "total": null})),
            ("u", json!({"id": 1, "state": "paid", "total": 11})),
            ("d", json!({"id": 2})),
        ],
    );
    scene.ods.run("CREATE TABLE orders (id bigint PRIMARY KEY, state text, total int)");
    scene.follow("orders", "shop.public.orders", "");
    scene.wait_loaded("orders");
    let all = "SELECT id, state, total FROM orders ORDER BY id";
    assert_eq!(scene.rows(all), ["1|paid|11", "3|new|∅"]);
    scene.write(
        "shop.public.orders",
        &[
            ("u", json!({"id": 3, "state": "paid", "total": 30})),
            ("c", json!({"id": 4, "state": "new", "total": 40})),
            ("d", json!({"id": 1})),
        ],
    );
    scene.wait_read("orders", &["shop.public.orders"]);
    assert_eq!(scene.rows(all), ["3|paid|30", "4|new|40"]);
    let at = "SELECT DISTINCT _ods_committed_at AT TIME ZONE 'UTC' FROM orders";
    assert_eq!(scene.rows(at), ["2023-11-14 22:13:20"]);
    let refused = scene.ods.refused("DELETE FROM orders");
    assert!(refused.message().contains("cannot write to synced table"), "{refused:?}");
    assert!(
        refused.detail().is_some_and(|detail| detail.contains("\"shop.public.orders\" of server"))
    );
    let status = "SELECT source, state IN ('live', 'idle'), lag_messages FROM ods.sync_status";
    assert_eq!(scene.rows(status), ["shop.public.orders|t|0"]);
}

#[test]
fn plain_rows_come_and_go_by_their_keys() {
    let mut scene = Scene::start("plain");
    scene.kafka.create_topic("stock", 2, &[]);
    scene.kafka.produce(&[
        New::of("stock", "\"a\"", r#"{"count": 5, "place": {"shelf": 1}}"#),
        New::of("stock", "\"b\"", r#"{"count": 7}"#),
        New::of("stock", "\"a\"", r#"{"count": 6}"#),
        New::tombstone("stock", "\"b\""),
        New::tombstone("stock", "\"never there\""),
    ]);
    scene.ods.run("CREATE TABLE stock (sku text PRIMARY KEY, count int, place jsonb)");
    scene.follow("stock", "stock", r#", format => '{"layout": "plain"}'"#);
    scene.wait_loaded("stock");
    let all = "SELECT * FROM (SELECT sku, count, place FROM stock) s ORDER BY 1";
    // A field that an event does not have says nothing of the row.
    assert_eq!(scene.rows(all), [r#"a|6|{"shelf": 1}"#]);
}
