//! Names and values as parts of a statement for the source.

use std::fmt::Write;

/// `name` as an identifier, always in quotes: no list of keywords to keep for seven versions.
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `schema.table`, both quoted.
pub fn quote_qualified(schema: &str, table: &str) -> String {
    format!("{}.{}", quote_ident(schema), quote_ident(table))
}

/// `value` as a string literal that reads the same whatever `standard_conforming_strings` is.
pub fn quote_literal(value: &str) -> String {
    let mut literal = String::with_capacity(value.len() + 3);
    if value.contains('\\') {
        literal.push('E');
    }
    literal.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            literal.push(c);
        }
        literal.push(c);
    }
    literal.push('\'');
    literal
}

/// `values` as a text array literal, `'{…}'` with quotes around, for a parameter of type text[].
pub fn array_literal<'a>(values: impl IntoIterator<Item = &'a str>) -> String {
    let mut array = String::from("{");
    for (i, value) in values.into_iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String can't fail.
        let _ = write!(array, "{comma}\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
    }
    array.push('}');
    array
}

/// Schema and table out of `table`, `schema.table` or either part in quotes, folded as SQL folds
/// them. A name without schema is in `public`. None where the text is no such name.
pub fn parse_qualified(text: &str) -> Option<(String, String)> {
    let (first, rest) = parse_ident(text.trim())?;
    if rest.is_empty() {
        return Some(("public".to_owned(), first));
    }
    let (second, rest) = parse_ident(rest.strip_prefix('.')?)?;
    rest.is_empty().then_some((first, second))
}

/// One identifier from the start of `text`, and what follows it.
fn parse_ident(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(['.', '"']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let valid = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
        return valid.then(|| (name.to_ascii_lowercase(), rest));
    };
    let mut name = String::new();
    let mut chars = quoted.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '"' {
            name.push(c);
        } else if chars.next_if(|(_, next)| *next == '"').is_some() {
            name.push('"');
        } else {
            return (!name.is_empty()).then(|| (name, &quoted[at + 1..]));
        }
    }
    None
}

/// A comment of one line. Names and values may hold line ends, after which SQL would go on in a
/// script that a person pastes.
pub fn comment(text: &str) -> String {
    format!("-- {}", text.replace(['\n', '\r'], " "))
}

/// What lets `role` in from this network, as a comment that names the line to add.
pub fn let_in(database: &str, role: &str) -> String {
    comment(&format!(
        "add to pg_hba.conf of the source, then SELECT pg_reload_conf():  host {database} {role} samenet scram-sha-256"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_a_comment() {
        assert_eq!(comment("a\nDROP TABLE t;\rb"), "-- a DROP TABLE t; b");
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quote_ident("plain"), "\"plain\"");
        assert_eq!(quote_ident("We\"ird.Name"), "\"We\"\"ird.Name\"");
        assert_eq!(quote_qualified("a.b", "c"), "\"a.b\".\"c\"");
    }

    #[test]
    fn literals_are_quoted() {
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal("a\\'b"), "E'a\\\\''b'");
        assert_eq!(quote_literal(""), "''");
    }

    #[test]
    fn arrays_are_quoted() {
        assert_eq!(
            array_literal(["a", "b,c", "d\"e\\f", "", "NULL"]),
            r#"{"a","b,c","d\"e\\f","","NULL"}"#
        );
        assert_eq!(array_literal([]), "{}");
    }

    #[test]
    fn names_are_read_as_sql_reads_them() {
        let parsed = |text| parse_qualified(text).map(|(s, t)| format!("{s}|{t}"));
        assert_eq!(parsed("customers").as_deref(), Some("public|customers"));
        assert_eq!(parsed(" Sales.Orders ").as_deref(), Some("sales|orders"));
        assert_eq!(parsed("\"We\"\"ird.S\".\"T x\"").as_deref(), Some("We\"ird.S|T x"));
        assert_eq!(parsed("größe.x_1$").as_deref(), Some("größe|x_1$"));
        for text in
            ["", ".", "a.", ".b", "a.b.c", "\"", "\"\"", "\"a", "a b", "1a", "a\"b\"", "a; DROP"]
        {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_name_is_read_back(schema in "[^\0]{1,12}", table in "[^\0]{1,12}") {
            let text = quote_qualified(&schema, &table);
            proptest::prop_assert_eq!(parse_qualified(&text), Some((schema, table)));
        }
    }
}
