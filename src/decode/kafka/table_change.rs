//! Tables as an upstream's topic of schema changes tells them.
//!
//! Source: "Schema change topic" in the documentation of Debezium's connectors.

use super::datum::{Value, take};
use super::error::Wrong;
use super::pg_type::{Family, of_mysql};
use std::borrow::Cow;

/// A table after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its database, schema and name, as far as there are such.
    pub name: Vec<String>,
    /// The columns of its primary key; none that has no primary key.
    pub key: Vec<String>,
    /// Its columns.
    pub columns: Vec<Column>,
}

/// A column of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type for it in Postgres; `None` for one that is not known here.
    pub type_sql: Option<String>,
    /// Whether null is allowed.
    pub optional: bool,
}

/// The tables that a record of such a topic creates or alters; none where it is no such record.
pub fn tables(value: Value<'_>, family: Family) -> Result<Vec<Table>, Wrong> {
    let mut fields = value.into_struct()?;
    let Some(changes) = take(&mut fields, "tableChanges").filter(|list| *list != Value::Null)
    else {
        return Ok(Vec::new());
    };
    let mut tables = Vec::new();
    for change in changes.into_list()? {
        let mut change = change.into_struct()?;
        let id = take(&mut change, "id").and_then(Value::into_plain_text);
        let table = take(&mut change, "table").filter(|table| *table != Value::Null);
        if let (Some(id), Some(table)) = (id, table) {
            tables.push(read(&id, table, family)?);
        }
    }
    Ok(tables)
}

fn read(id: &str, table: Value<'_>, family: Family) -> Result<Table, Wrong> {
    let mut table = table.into_struct()?;
    let mut list = |name| match take(&mut table, name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(list) => list.into_list(),
    };
    let key = list("primaryKeyColumnNames")?;
    let key = key.into_iter().filter_map(Value::into_plain_text).map(Cow::into_owned);
    let columns = list("columns")?;
    let columns = columns.into_iter().map(|column| self::column(column, family));
    Ok(Table { name: parts(id), key: key.collect(), columns: columns.collect::<Result<_, _>>()? })
}

fn column(column: Value<'_>, family: Family) -> Result<Column, Wrong> {
    let mut fields = column.into_struct()?;
    let mut field = |name| take(&mut fields, name);
    let name = field("name").and_then(Value::into_plain_text).ok_or(Wrong("a column's name"))?;
    let name = name.into_owned();
    let type_name = field("typeName").and_then(Value::into_plain_text);
    let length = field("length").and_then(|length| length.as_i64());
    let scale = field("scale").and_then(|scale| scale.as_i64());
    let optional = field("optional") != Some(Value::Bool(false));
    let type_sql = match family {
        Family::Mysql => type_name.and_then(|name| of_mysql(&name, length, scale, false)),
        _ => None,
    };
    Ok(Column { name, type_sql, optional })
}

/// The parts of an id such as `"shop"."orders"`.
fn parts(id: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for letter in id.chars() {
        match letter {
            '"' | '`' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            letter => {
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
    }
    parts
}

impl Table {
    /// Whether it is the table that `source` of an envelope names.
    pub fn is(&self, database: Option<&str>, schema: Option<&str>, table: &str) -> bool {
        let names: Vec<&str> = self.name.iter().map(String::as_str).collect();
        let Some((own, before)) = names.split_last() else { return false };
        // What the id leaves out is not compared.
        let wanted: Vec<&str> = [database, schema].into_iter().flatten().collect();
        *own == table && before.iter().rev().zip(wanted.iter().rev()).all(|(a, b)| a == b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_tell_tables() {
        let json = r#"{"ddl":"…","tableChanges":[
            {"type":"DROP","id":"\"shop\".\"old\"","table":null},
            {"type":"CREATE","id":"\"shop\".\"a.b\"","table":{"primaryKeyColumnNames":["id"],"columns":[
                {"name":"id","typeName":"BIGINT UNSIGNED","length":20,"scale":null,"optional":false},
                {"name":"n","typeName":"DECIMAL","length":6,"scale":2,"optional":true},
                {"name":"x","typeName":"HYPERCUBE","optional":true}]}}]}"#;
        let found = tables(Value::Json(json), Family::Mysql).unwrap();
        let [table] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(
            (table.name.as_slice(), table.key.as_slice()),
            (&["shop".to_owned(), "a.b".to_owned()][..], &["id".to_owned()][..])
        );
        let types: Vec<_> =
            table.columns.iter().map(|c| (c.type_sql.as_deref(), c.optional)).collect();
        assert_eq!(
            types,
            [(Some("numeric(20,0)"), false), (Some("numeric(6,2)"), true), (None, true)]
        );
        assert!(table.is(Some("shop"), None, "a.b"));
        assert!(!table.is(Some("other"), None, "a.b"));
        assert!(!table.is(Some("shop"), None, "b"));
        assert_eq!(tables(Value::Json(r#"{"ts_ms":1}"#), Family::Mysql), Ok(vec![]));
        assert!(tables(Value::Json("7"), Family::Mysql).is_err());
    }
}
