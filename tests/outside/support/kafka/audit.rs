//! A synced table whose every write is noted by a trigger of this side, so that one that came twice or
//! out of its order is seen.

use super::scene::Scene;
use crate::support::client::{Ask, literal};
use std::collections::BTreeMap;

/// Has the table `name` follow a topic that a [`super::flow::Flow`] writes into.
pub fn follow<B>(scene: &mut Scene<B>, name: &str, topic: &str, further: &str) {
    scene.ods.run(&format!(
        "CREATE TABLE {name} (id bigint PRIMARY KEY, version bigint NOT NULL, body text);
         CREATE TABLE {name}_written (
             step bigint GENERATED ALWAYS AS IDENTITY, id bigint, version bigint, is_gone boolean);
         CREATE FUNCTION {name}_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.{name}_written (id, version, is_gone)
             VALUES (coalesce(NEW.id, OLD.id), coalesce(NEW.version, OLD.version), TG_OP = 'DELETE');
             RETURN NULL; END $$;
         CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON {name}
             FOR EACH ROW EXECUTE FUNCTION {name}_note()"
    ));
    // Nothing may have been written yet that would tell.
    let format = r#", format => '{"layout": "debezium", "key": "json", "value": "json"}'"#;
    scene.follow(name, topic, &format!("{format}{further}"));
}

/// Waits until the table has read its topic and compares it with the rows that its flow has left there.
pub fn assert_exact<B>(scene: &mut Scene<B>, name: &str, topic: &str, flow: &BTreeMap<i64, i64>) {
    scene.wait_read(name, &[topic]);
    let sql = format!("SELECT id, version FROM {name} ORDER BY id");
    let here: BTreeMap<i64, i64> = scene
        .ods
        .rows(&sql)
        .into_iter()
        .map(|row| {
            let mut row = row.into_iter().map(|cell| cell.expect("a number"));
            let mut number = || row.next().expect("a column").parse().expect("a number");
            (number(), number())
        })
        .collect();
    if here != *flow {
        let differ: Vec<_> = flow
            .keys()
            .chain(here.keys())
            .filter(|id| flow.get(id) != here.get(id))
            .map(|id| (id, flow.get(id), here.get(id)))
            .take(10)
            .collect();
        panic!("{name} is not what its source is (key, there, here): {differ:?}");
    }
    assert_places(scene, name, topic);
    assert_noted_once(scene, name);
}

/// Where the table stands is the end of each partition.
fn assert_places<B>(scene: &mut Scene<B>, name: &str, topic: &str) {
    let ends: Vec<String> =
        scene.kafka.ends(topic).into_iter().map(|(_, end)| end.to_string()).collect();
    let places = scene.rows(&format!(
        "SELECT next_offset FROM ods.partitions WHERE table_name = {}::regclass ORDER BY partition_number",
        literal(name)
    ));
    assert_eq!(places, ends);
}

/// No version was written twice, and none after a newer one. A delete tells the version that went.
fn assert_noted_once<B>(scene: &mut Scene<B>, name: &str) {
    let wrong = scene.rows(&format!(
        "SELECT * FROM (
             SELECT step, id, version, is_gone, lag(version) OVER w AS version_before, lag(is_gone) OVER w AS was_gone
               FROM {name}_written WINDOW w AS (PARTITION BY id ORDER BY step)) AS written
          WHERE NOT CASE WHEN version_before IS NULL THEN NOT is_gone
                         WHEN is_gone THEN version = version_before AND NOT was_gone
                         ELSE version > version_before END
          LIMIT 10"
    ));
    assert!(wrong.is_empty(), "written twice or out of order: {wrong:?}");
    let sum = format!(
        "SELECT (SELECT count(*) FROM {name}_written) >= count(*) AND count(*) > 0 FROM {name}"
    );
    assert_eq!(scene.rows(&sum), ["t"], "the trigger has noted what is there");
}
