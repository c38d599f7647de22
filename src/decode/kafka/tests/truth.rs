//! Every recorded record through a decoder, folded by key, against the rows that the source had.

use super::canonical::{canonical, of_mariadb};
use super::lost::lost;
use super::recorded::{ALL, Set, Truth};
use super::shapes::mysql;
use crate::decode::cell::{Cell, TupleBuf};
use crate::decode::kafka::column::Column;
use crate::decode::kafka::decoder::{Decoder, Rows};
use crate::decode::kafka::envelope::{Event, Op};
use crate::decode::kafka::settings::{Binary, Decimals, Settings, Temporal};
use std::collections::{BTreeMap, BTreeSet};

/// A cell as text: none for an absent one.
type Shown = Option<Option<String>>;

/// A table that events are applied to.
struct Folded {
    decoder: Decoder,
    key: Vec<usize>,
    width: usize,
    rows: BTreeMap<Vec<String>, Vec<Option<String>>>,
    /// A row on its way to another key: what the event of that leaves out is as it was.
    moving: Option<Vec<Option<String>>>,
    out: Rows,
}

fn cells(row: &TupleBuf) -> Vec<Shown> {
    let shown = |cell| match cell {
        Cell::Absent => None,
        Cell::Null => Some(None),
        Cell::Text(text) => Some(Some(String::from_utf8(text.to_vec()).unwrap())),
    };
    row.tuple().cells().map(shown).collect()
}

impl Folded {
    fn new(columns: &[(String, String)], key: Vec<usize>, settings: Settings) -> Self {
        let width = columns.len();
        let columns = columns.iter().map(|(name, kind)| Column::new(name.clone(), kind)).collect();
        let decoder = Decoder::new(columns, key.clone(), settings);
        Self { decoder, key, width, rows: BTreeMap::new(), moving: None, out: Rows::default() }
    }

    fn key_of(&self, row: &TupleBuf) -> Vec<String> {
        let row = cells(row);
        self.key.iter().map(|at| row[*at].clone().unwrap().unwrap()).collect()
    }

    fn apply(&mut self, set: &Set, record: &crate::decode::kafka::Record<'_>) {
        let event = self.decoder.decode(record, set.both(record), &mut self.out);
        let event = event.unwrap_or_else(|error| {
            panic!("{} {} {}: {error}", set.name, record.topic, record.offset)
        });
        match event {
            Event::Row(row) if row.op == Op::Delete => {
                let key = self.key_of(if row.key { &self.out.key } else { &self.out.before });
                let removed = self.rows.remove(&key);
                self.moving = removed.filter(|_| row.new_key.is_some());
            }
            Event::Row(row) => {
                assert!(row.after);
                let key = self.key_of(&self.out.after);
                let moved = self.moving.take().filter(|_| row.old_key.is_some());
                let fresh = || moved.unwrap_or_else(|| vec![None; self.width]);
                let known = self.rows.entry(key).or_insert_with(fresh);
                for (known, cell) in known.iter_mut().zip(cells(&self.out.after)) {
                    if let Some(cell) = cell {
                        *known = cell;
                    }
                }
            }
            Event::Tombstone { key, told: true } => {
                assert!(key);
                self.rows.remove(&self.key_of(&self.out.key));
            }
            Event::Truncate(_) => self.rows.clear(),
            other => panic!("{} {}: {other:?}", set.name, record.offset),
        }
    }
}

/// How a person would set the sets up whose records don't tell.
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

/// The columns that a person would make.
fn columns(set: &str, types: &[(String, String)]) -> Vec<(String, String)> {
    let kind = |kind: &str| match kind {
        // What a domain is over tells how it is written.
        "price" => "numeric(8,3)".to_owned(),
        "positive" => "integer".to_owned(),
        kind if set.starts_with("mariadb") => match mysql(kind) {
            // It goes beyond a day and below zero.
            time if time.starts_with("time(") => "interval".to_owned(),
            kind => kind,
        },
        kind => kind.to_owned(),
    };
    types.iter().map(|(name, told)| (name.clone(), kind(told))).collect()
}

/// What differs between the rows found and those of the truth; what a connector has lost is noted.
fn difference(
    set: &str,
    table: &str,
    columns: &[(String, String)],
    found: &Folded,
    truth: &[super::recorded::Row],
    noted: &mut BTreeSet<&'static str>,
) -> Option<String> {
    if found.rows.len() != truth.len() {
        return Some(format!("{} rows of {}", found.rows.len(), truth.len()));
    }
    for expected in truth {
        let id = expected["id"].clone().unwrap();
        let Some(row) = found.rows.get(&vec![id.clone()]) else {
            return Some(format!("row {id} is missing"));
        };
        for ((column, kind), found) in columns.iter().zip(row) {
            let Some(expected) = expected.get(column) else { continue };
            let expected = match expected {
                Some(text) if set.starts_with("mariadb") => Some(of_mariadb(kind, text)),
                expected => expected.clone(),
            };
            let one = |text: &Option<String>| text.as_ref().map(|text| canonical(kind, text));
            // Not every text of a lost value has a canonical form.
            if expected == *found {
                continue;
            }
            let (expected, found) = (expected.as_deref(), found.as_deref());
            if let Some(rule) = lost(set, table, &id, column, expected, found) {
                noted.insert(rule);
                continue;
            }
            let (expected, found) = (expected.map(str::to_owned), found.map(str::to_owned));
            if one(&expected) != one(&found) {
                let short = |text: Option<String>| {
                    text.map(|text| text.chars().take(80).collect::<String>())
                };
                let (expected, found) = (short(expected), short(found));
                return Some(format!("{table} {id} {column}: {expected:?} found {found:?}"));
            }
        }
    }
    None
}

#[test]
fn rows_are_as_they_were_after_every_step() {
    let mut noted = BTreeSet::new();
    let mut compared = 0;
    for name in ALL {
        let (set, truth) = (Set::read(name), Truth::of(name));
        for topic in set.tables() {
            let table = topic.split_once('.').unwrap().1;
            let Some(types) = truth.types.get(table) else { continue };
            let has_rows = truth.states.iter().any(|(_, tables)| tables.contains_key(table));
            // Shapes change, or rows have no key: these are looked at below.
            if ["drifts", "keyless"].contains(&table) || !has_rows {
                continue;
            }
            let columns = columns(name, types);
            let mut folded = Folded::new(&columns, vec![0], settings(&set, &topic));
            // That a table was emptied gets lost where records are flattened.
            let states = match (table, name.ends_with("flat")) {
                ("emptied", true) => &truth.states[..1],
                _ => &truth.states[..],
            };
            let mut states = states.iter().peekable();
            let mut why = Vec::new();
            let records = set.records(Some(&topic));
            for record in std::iter::once(None).chain(records.iter().map(Some)) {
                if let Some(record) = record {
                    folded.apply(&set, record);
                }
                while let Some((_, tables)) = states.peek() {
                    let truth = &tables[table];
                    let differs = difference(name, table, &columns, &folded, truth, &mut noted);
                    if let Some(differs) = differs {
                        why.push(differs);
                        break;
                    }
                    why.clear();
                    states.next();
                    compared += 1;
                }
            }
            if let Some((step, _)) = states.next() {
                panic!("{name} {table}, never after {step:?}: {why:?}");
            }
            if table == "emptied" && name.ends_with("flat") {
                let left: Vec<&str> = folded.rows.keys().map(|key| key[0].as_str()).collect();
                assert_eq!(left, ["1", "2", "3"], "{name}");
            }
        }
    }
    assert!(compared > 1_000, "{compared}");
    let noted: Vec<&str> = noted.into_iter().collect();
    assert_eq!(noted, super::lost::RULES);
}

#[test]
fn rows_follow_their_tables_shape() {
    for name in ALL {
        let (set, truth) = (Set::read(name), Truth::of(name));
        let topic = if name.starts_with("mariadb") { "samples.drifts" } else { "public.drifts" };
        if !set.tables().contains(&topic.to_owned()) {
            continue;
        }
        let columns: Vec<(String, String)> = [("id", "integer"), ("w", "text"), ("added", "text")]
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .to_vec();
        let mut folded = Folded::new(&columns, vec![0], settings(&set, topic));
        for record in set.records(Some(topic)) {
            folded.apply(&set, &record);
        }
        // At the end all rows were sent anew.
        let mut last = truth.states.last().unwrap().1["drifts"].clone();
        let is_fifth = |row: &&mut super::recorded::Row| row["id"].as_deref() == Some("5");
        if name.starts_with("postgres") {
            // A default stands for null.
            let fifth = last.iter_mut().find(is_fifth).unwrap();
            assert_eq!(fifth.insert("added".into(), Some("1.25".into())), Some(None));
        }
        if name.ends_with("flat") {
            // Here the others were not sent anew.
            last.retain_mut(|row| is_fifth(&row));
            folded.rows.retain(|key, _| key[0] == "5");
        }
        let difference = difference(name, "drifts", &columns, &folded, &last, &mut BTreeSet::new());
        assert_eq!(difference, None, "{name}");
    }
}

#[test]
fn rows_without_a_key_come_whole() {
    for name in ALL {
        let set = Set::read(name);
        let topic = if name.starts_with("mariadb") { "samples.keyless" } else { "public.keyless" };
        if !set.tables().contains(&topic.to_owned()) {
            continue;
        }
        let columns = [("v", "text"), ("n", "numeric(6,2)")];
        let columns = super::columns(&columns);
        let mut decoder = Decoder::new(columns, Vec::new(), settings(&set, topic));
        let mut rows = Rows::default();
        let mut seen = Vec::new();
        for record in set.records(Some(topic)) {
            let shown = |row: &TupleBuf| super::shown(row).join(" ");
            match decoder.decode(&record, set.both(&record), &mut rows).unwrap() {
                Event::Row(row) if row.op == Op::Delete => {
                    assert!(row.before && !row.key);
                    seen.push(format!("- {}", shown(&rows.before)));
                }
                Event::Row(_) => seen.push(format!("+ {}", shown(&rows.after))),
                // It says nothing.
                Event::Tombstone { key: false, .. } => {}
                other => panic!("{other:?}"),
            }
        }
        // Two equal rows are deleted by one statement.
        let all = ["+ a 1.50", "+ a 2.25", "+ a 2.25", "+ null null", "- a 2.25", "- a 2.25"];
        assert_eq!(seen, all, "{name}");
    }
}

#[test]
fn odd_names_and_changed_keys_come_through() {
    for name in ALL {
        let set = Set::read(name);
        let topic =
            if name.starts_with("mariadb") { "samples.Odd_N_me" } else { "public.Odd_N_me" };
        if !set.tables().contains(&topic.to_owned()) {
            continue;
        }
        // The converter to Avro allows no other names.
        let names = match name.contains("avro") {
            true => ["the_key", "k_2", "a_b", "_nicode"],
            false => ["the-key", "k 2", "a.b", "Ünicode"],
        };
        let kinds = ["text", "numeric(20,0)", "numeric(5,1)", "text"];
        let columns: Vec<(String, String)> =
            names.iter().zip(kinds).map(|(n, k)| ((*n).to_owned(), k.to_owned())).collect();
        let mut folded = Folded::new(&columns, vec![0, 1], settings(&set, topic));
        for record in set.records(Some(topic)) {
            folded.apply(&set, &record);
        }
        // Without a schema, or with one that calls it signed, an unsigned number may wrap.
        let number = if name.starts_with("mariadb") { "-1" } else { "2" };
        let row =
            ["moved", number, "", "dé"].map(|text| (!text.is_empty()).then(|| text.to_owned()));
        let key = vec!["moved".to_owned(), number.to_owned()];
        assert_eq!(folded.rows, BTreeMap::from([(key, row.to_vec())]), "{name}");
    }
}
