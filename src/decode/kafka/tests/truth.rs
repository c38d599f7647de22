//! Every recorded record through a decoder, folded by key, against the rows that the source had.

use super::recorded::{ALL, Row, Set, Truth};
use super::shown;
use crate::decode::kafka::column::Column;
use crate::decode::kafka::decoder::{Decoder, Rows};
use crate::decode::kafka::envelope::{Event, Op};
use crate::decode::kafka::settings::{Binary, Decimals, Layout, Settings, Temporal};
use std::collections::BTreeMap;

/// A table that events are applied to, by its key.
struct Folded {
    columns: Vec<String>,
    key: Vec<usize>,
    rows: BTreeMap<Vec<String>, Vec<Option<String>>>,
}

fn cells(row: &crate::decode::cell::TupleBuf) -> Vec<Option<Option<String>>> {
    use crate::decode::cell::Cell;
    row.tuple()
        .cells()
        .map(|cell| match cell {
            Cell::Absent => None,
            Cell::Null => Some(None),
            Cell::Text(text) => Some(Some(String::from_utf8(text.to_vec()).unwrap())),
        })
        .collect()
}

impl Folded {
    fn key(&self, row: &[Option<Option<String>>]) -> Vec<String> {
        self.key.iter().map(|at| row[*at].clone().flatten().unwrap_or_default()).collect()
    }

    fn apply(&mut self, event: &Event<'_>, rows: &Rows) {
        match event {
            Event::Row(row) if row.op == Op::Delete => {
                let key = self.key(&cells(if row.key { &rows.key } else { &rows.before }));
                self.rows.remove(&key);
            }
            Event::Row(row) => {
                assert!(row.after);
                let after = cells(&rows.after);
                let key = self.key(&after);
                let known = self.rows.entry(key).or_insert_with(|| vec![None; self.columns.len()]);
                for (known, cell) in known.iter_mut().zip(after) {
                    if let Some(cell) = cell {
                        *known = cell;
                    }
                }
            }
            Event::Tombstone { key: true, .. } => {
                let key = self.key(&cells(&rows.key));
                self.rows.remove(&key);
            }
            Event::Truncate(_) => self.rows.clear(),
            other => panic!("{other:?}"),
        }
    }
}

fn settings(set: &Set, topic: &str) -> Settings {
    let mut settings = set.settings(topic);
    if set.name.ends_with("modes-string") {
        settings.binary = Binary::Hex;
        settings.decimals = Decimals::Digits;
    }
    if set.name == "mariadb-flat" {
        settings.temporal = Temporal::AdaptiveTimeMicroseconds;
    }
    settings
}

#[test]
fn dump() {
    for name in ALL {
        let set = Set::read(name);
        let truth = Truth::of(name);
        for topic in set.tables() {
            let table = topic.split_once('.').unwrap().1;
            let Some(types) = truth.types.get(table) else { continue };
            if table == "keyless" || table == "drifts" {
                continue;
            }
            let types: Vec<(String, String)> = if name.starts_with("mariadb") {
                types
                    .iter()
                    .map(|(c, t)| {
                        (
                            c.clone(),
                            super::shapes::mysql(t)
                                .replace("time(0) without time zone", "interval")
                                .replace("time(3) without time zone", "interval")
                                .replace("time(6) without time zone", "interval")
                                .replace("timeinterval", "timestamp(0) without time zone"),
                        )
                    })
                    .collect()
            } else {
                types.clone()
            };
            let columns: Vec<Column> =
                types.iter().map(|(c, t)| Column::new(c.clone(), t)).collect();
            let mut decoder = Decoder::new(columns, vec![0], settings(&set, &topic));
            let mut folded = Folded {
                columns: types.iter().map(|(c, _)| c.clone()).collect(),
                key: vec![0],
                rows: BTreeMap::new(),
            };
            let mut rows = Rows::default();
            for record in set.records(Some(&topic)) {
                let schemas = set.both(&record);
                match decoder.decode(&record, schemas, &mut rows) {
                    Ok(event) => folded.apply(&event, &rows),
                    Err(error) => println!("ERROR {name} {topic} {}: {error}", record.offset),
                }
            }
            let Some(last) = truth.states.last().unwrap().1.get(table) else { continue };
            for row in last {
                let id = row["id"].clone().unwrap();
                let Some(found) = folded.rows.get(&vec![id.clone()]) else {
                    println!("MISSING {name} {table} {id}");
                    continue;
                };
                for ((column, kind), found) in types.iter().zip(found) {
                    let expected = row.get(column).cloned().flatten();
                    let canon = |t: &Option<String>| {
                        t.as_ref().map(|t| super::canonical::canonical(kind, t))
                    };
                    let expected_geo = if name.starts_with("mariadb") {
                        expected.clone().map(|t| super::canonical::of_mariadb(kind, &t))
                    } else {
                        expected.clone()
                    };
                    if canon(&expected_geo) != canon(found) {
                        let short = |t: &Option<String>| {
                            t.as_ref().map(|t| t.chars().take(60).collect::<String>())
                        };
                        println!(
                            "DIFF {name} {table} {id} {column} {kind}: {:?} found {:?}",
                            short(&expected),
                            short(found)
                        );
                    }
                }
            }
            if folded.rows.len() != last.len() {
                println!("COUNT {name} {table}: {} found {}", last.len(), folded.rows.len());
            }
        }
    }
}
