//! Backlogs: what happened upstream while nobody followed.

use crate::scene::ITEM_ROW;

/// One kind of backlog.
pub struct Workload {
    /// The middle of its lines' names.
    pub name: &'static str,
    /// Changes in a full measurement.
    pub changes: u64,
    /// How much faster than a native subscription `ods` has to catch up.
    pub target: f64,
    /// Whether it takes away rows that must be there first.
    pub uses_up_rows: bool,
    /// The body of a procedure: `wanted` changes, told exactly in `done`. `last` is the greatest key
    /// at the start.
    body: &'static str,
}

/// New rows, a thousand a transaction.
pub const INSERTS: Workload = Workload {
    name: "inserts",
    changes: 500_000,
    target: 1.2,
    uses_up_rows: false,
    body: "FOR t IN 0 .. wanted / 1000 - 1 LOOP
             INSERT INTO item SELECT {row}
             FROM generate_series(last + t * 1000 + 1, last + (t + 1) * 1000) AS i;
             done := done + 1000;
             COMMIT;
           END LOOP;",
};

/// Rows of random keys, a thousand a transaction.
pub const UPDATES: Workload = Workload {
    name: "updates",
    changes: 300_000,
    target: 2.0,
    uses_up_rows: false,
    body: "FOR t IN 1 .. wanted / 1000 LOOP
             UPDATE item SET customer = customer + 1, amount = (t % 1000) / 7.0,
                 note = 'updated by ' || t, changed_at = clock_timestamp()
             WHERE id = ANY (ARRAY(SELECT 1 + floor(random() * last)::bigint
                                   FROM generate_series(1, 1000)));
             GET DIAGNOSTICS part = ROW_COUNT;
             done := done + part;
             COMMIT;
           END LOOP;",
};

/// Rows of random keys go, a thousand a transaction.
pub const DELETES: Workload = Workload {
    name: "deletes",
    changes: 300_000,
    target: 2.0,
    uses_up_rows: true,
    body: "keys := ARRAY(SELECT id FROM item ORDER BY hashint8(id) LIMIT wanted);
           FOR t IN 0 .. wanted / 1000 - 1 LOOP
             DELETE FROM item WHERE id = ANY (keys[t * 1000 + 1 : (t + 1) * 1000]);
             GET DIAGNOSTICS part = ROW_COUNT;
             done := done + part;
             COMMIT;
           END LOOP;",
};

/// One row a transaction: new ones and updates of random keys in turns.
pub const SINGLE: Workload = Workload {
    name: "single",
    changes: 200_000,
    target: 3.0,
    uses_up_rows: false,
    body: "FOR t IN 1 .. wanted / 2 LOOP
             INSERT INTO item SELECT {row} FROM (SELECT last + t AS i) AS one;
             COMMIT;
             UPDATE item SET customer = customer + 1, note = 'updated by ' || t,
                 changed_at = clock_timestamp()
             WHERE id = (SELECT 1 + floor(random() * last)::bigint);
             COMMIT;
             done := done + 2;
           END LOOP;",
};

/// Transactions of about a hundred: 40 inserts, 40 updates, 20 deletes of random keys.
pub const MIXED: Workload = Workload {
    name: "mixed",
    changes: 300_000,
    target: 2.0,
    uses_up_rows: true,
    body: "FOR t IN 0 .. wanted / 100 - 1 LOOP
             INSERT INTO item SELECT {row}
             FROM generate_series(last + t * 40 + 1, last + (t + 1) * 40) AS i;
             UPDATE item SET amount = (t % 1000) / 7.0, note = 'updated by ' || t,
                 changed_at = clock_timestamp()
             WHERE id = ANY (ARRAY(SELECT 1 + floor(random() * last)::bigint
                                   FROM generate_series(1, 40)));
             GET DIAGNOSTICS part = ROW_COUNT;
             done := done + 40 + part;
             DELETE FROM item
             WHERE id = ANY (ARRAY(SELECT 1 + floor(random() * last)::bigint
                                   FROM generate_series(1, 20)));
             GET DIAGNOSTICS part = ROW_COUNT;
             done := done + part;
             COMMIT;
           END LOOP;",
};

/// New rows in one transaction, large enough to be streamed, or spilled, before its commit.
pub const LARGE: Workload = Workload {
    name: "large",
    changes: 500_000,
    target: 1.2,
    uses_up_rows: false,
    body: "INSERT INTO item SELECT {row} FROM generate_series(last + 1, last + wanted) AS i;
           done := wanted;",
};

impl Workload {
    /// Creates procedure `backlog(wanted, INOUT done)`.
    pub fn procedure(&self) -> String {
        format!(
            "CREATE PROCEDURE backlog(wanted integer, INOUT done bigint) LANGUAGE plpgsql AS $$
             DECLARE
               last bigint := (SELECT max(id) FROM item);
               part bigint;
               keys bigint[];
             BEGIN
               done := 0;
               {}
             END $$",
            self.body.replace("{row}", ITEM_ROW)
        )
    }
}
