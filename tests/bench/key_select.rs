//! Reading a synced table by key against reading plain ones: with the columns of the source alone,
//! and with the stamps of a synced table too, which tells what its width costs from what we do.

use crate::report::{Report, Target};
use crate::scale::Scale;
use crate::scene::{self, Scene};
use crate::support::client::Ask;
use postgres::{Client, Statement};
use std::time::{Duration, Instant};

/// One table is read for so long before the other has its turn: short, so that both see the same
/// noise.
const SLICE: Duration = Duration::from_millis(200);

const COLUMNS: &str =
    "id, customer, quantity, status, amount, name, address, note, created_at, changed_at, active";

/// Prepared SELECTs of one row on one connection.
pub fn run(scale: &Scale, report: &mut Report) {
    let rows = scale.rows(500_000);
    let scene = Scene::start("select", rows);
    scene.follow(&["item"]);
    let mut ods = scene.sync.ods();
    ods.run(&scene::item_as("plain"));
    ods.run(&format!("INSERT INTO plain SELECT {COLUMNS} FROM item ORDER BY id"));
    ods.run("CREATE TABLE stamped (LIKE item INCLUDING ALL) WITH (fillfactor = 90)");
    ods.run("INSERT INTO stamped SELECT * FROM item ORDER BY id");
    ods.run("VACUUM ANALYZE item, plain, stamped");
    ods.run("CHECKPOINT");

    let statements = ["item", "plain", "stamped"].map(|table| {
        ods.prepare(&format!("SELECT {COLUMNS} FROM {table} WHERE id = $1"))
            .expect("the statement is prepared")
    });
    let mut rng = fastrand::Rng::with_seed(1);
    let last = i64::try_from(rows).expect("a key");
    for statement in &statements {
        slice(&mut ods, statement, last, &mut rng);
    }
    let mut rates = [Vec::new(), Vec::new(), Vec::new()];
    let end = Instant::now() + scale.duration(Duration::from_secs(40));
    while Instant::now() < end {
        // There and back, so that a drift of the machine falls on all alike.
        for table in [0, 1, 2, 2, 1, 0] {
            rates[table].push(slice(&mut ods, &statements[table], last, &mut rng));
        }
    }
    let [synced, plain, stamped] = rates.map(median);
    report.note(&format!(
        "synced {synced:.0} SELECTs/s, plain {plain:.0}, with the same columns {stamped:.0}"
    ));
    report.result("select_by_key_vs_plain", synced / plain, "x", Target::AtLeast(0.99));
    report.result("select_by_key_vs_same_columns", synced / stamped, "x", Target::AtLeast(0.99));
}

/// SELECTs a second during one slice.
fn slice(client: &mut Client, statement: &Statement, last: i64, rng: &mut fastrand::Rng) -> f64 {
    let begin = Instant::now();
    let mut selects = 0_u64;
    while begin.elapsed() < SLICE {
        let id = rng.i64(1..=last);
        let row = client.query_one(statement, &[&id]).expect("the row is there");
        assert_eq!(row.get::<_, i64>(0), id);
        selects += 1;
    }
    selects as f64 / begin.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates[rates.len() / 2]
}
