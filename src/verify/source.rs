//! What a comparison asks the source for.

use crate::apply::statements::compare::hash_of;
use crate::load::chunk::{ChunkSource, joined, literal};
use crate::source::postgres::quote::quote_ident as ident;

/// A stretch of keys: behind the first, up to and with the second.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    /// Behind this key; none is from the first.
    pub after: Option<Vec<String>>,
    /// Up to this key; none is to the last.
    pub up_to: Option<Vec<String>>,
}

impl ChunkSource {
    /// Rows of a stretch of a relation (`ONLY` it where that is said), in key order.
    pub fn rows(&self, relation: &str, stretch: &Stretch, limit: usize) -> String {
        let columns = joined(self.columns.iter().map(|name| ident(name)));
        let sql = format!(
            "SELECT {columns} FROM {relation}{} ORDER BY {} LIMIT {limit}",
            self.condition(stretch),
            self.key_list()
        );
        self.in_transaction(relation, &sql)
    }

    /// The rows of these keys, led by the place of the key in the list from 1, and by what tells one
    /// version of the row from the next.
    pub fn versions(&self, schema: &str, table: &str, keys: &[Vec<String>]) -> String {
        let relation = format!("{}.{}", ident(schema), ident(table));
        let sql = format!(
            "SELECT w.n, t.tableoid::text || t.ctid::text || t.xmin::text, {} FROM ({}) w JOIN {relation} t ON ROW({}) = ROW({})",
            joined(self.columns.iter().map(|name| format!("t.{}", ident(name)))),
            self.wanted(keys),
            joined(self.key.iter().map(|&column| format!("t.{}", ident(&self.columns[column])))),
            joined((0..self.key.len()).map(|part| format!("w.k{part}"))),
        );
        self.in_transaction(&relation, &sql)
    }

    /// The key that `rows` rows of a stretch end with, if it has as many.
    pub fn end_of(&self, relation: &str, stretch: &Stretch, rows: usize) -> String {
        let keys = self.key_list();
        let texts = joined(
            self.key.iter().map(|&column| format!("k.{}::text", ident(&self.columns[column]))),
        );
        // Beside `id::text`, ORDER BY id would be the order of the text.
        format!(
            "SELECT {texts} FROM (SELECT {keys} FROM {relation}{} ORDER BY {keys} OFFSET {} LIMIT 1) k",
            self.condition(stretch),
            rows.saturating_sub(1)
        )
    }

    /// How many rows a stretch has, and the sum of their hashes.
    pub fn digest(&self, relation: &str, stretch: &Stretch) -> String {
        let row = joined(self.columns.iter().map(|name| ident(name)));
        format!(
            "SELECT pg_catalog.count(*), coalesce(pg_catalog.sum({}), 0) FROM {relation}{}",
            hash_of(&row),
            self.condition(stretch)
        )
    }

    fn condition(&self, stretch: &Stretch) -> String {
        let key = self.key_list();
        let ends = [(">", &stretch.after), ("<=", &stretch.up_to)];
        let conditions: Vec<String> = ends
            .into_iter()
            .filter_map(|(comparison, end)| {
                let values = end.as_ref()?.iter().zip(&self.key_types);
                let values =
                    joined(values.map(|(value, kind)| format!("{}::{kind}", literal(value))));
                Some(format!("ROW({key}) {comparison} ROW({values})"))
            })
            .collect();
        if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_has_two_ends_or_none() {
        let source = ChunkSource {
            columns: vec!["id".into(), "Kind".into()],
            key: vec![1, 0],
            key_types: vec!["text".into(), "bigint".into()],
            encoding: "UTF8".into(),
        };
        let key = |text: &str| Some(vec![text.to_owned(), "7".to_owned()]);
        let both = Stretch { after: key("a'"), up_to: key("b") };
        let sql = source.digest("s.t", &both);
        let expected = r#"WHERE ROW("Kind", "id") > ROW( E'a'''::text,  E'7'::bigint) AND ROW("Kind", "id") <= ROW( E'b'::text,"#;
        assert!(sql.contains(expected), "{sql}");
        assert!(!source.digest("s.t", &Stretch::default()).contains("WHERE"));
    }

    #[test]
    fn a_stretch_ends_in_the_order_of_keys_and_not_of_their_texts() {
        let source = ChunkSource {
            columns: vec!["id".into()],
            key: vec![0],
            key_types: vec!["bigint".into()],
            encoding: "UTF8".into(),
        };
        let sql = source.end_of("s.t", &Stretch::default(), 100);
        let expected =
            r#"SELECT k."id"::text FROM (SELECT "id" FROM s.t ORDER BY "id" OFFSET 99 LIMIT 1) k"#;
        assert_eq!(sql, expected);
    }
}
