//! Types of the source's own that a synced table needs: enums, domains and composites are made here,
//! or found here with the same definition.
//!
//! A domain is made without its constraints: the source has checked every value, and a condition in
//! its words could name what does not exist here. One that is found keeps those that it has, and
//! they run as the table's owner: so only types of that person or of a superuser are used.

use crate::api::columns::Form;
use crate::api::target::ColumnPlan;
use crate::apply::statements::quote_ident;
use crate::catalog::table::spi_error;
use crate::error::{ErrorKind, OdsError, Result};
use crate::pg::foreign::current_user;
use crate::pg::libpq::Connection;
use crate::pg::owner::ActingAs;
use crate::pg::wait::Deadline;
use crate::settings;
use pgrx::pg_sys;
use pgrx::prelude::*;
use serde::Deserialize;

/// The first oid that initdb does not give to a built-in object.
const FIRST_OF_USERS: u32 = 16_384;
/// Deeper than any type that a person made.
const DEEPEST: usize = 32;

/// Built-in types whose values name what only the source has, by its oid or its role, or that can't
/// be read from text. They are text here.
const OF_THE_SOURCE: &[&str] = &[
    "aclitem",
    "gtsvector",
    "pg_brin_bloom_summary",
    "pg_brin_minmax_multi_summary",
    "pg_dependencies",
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
    "regclass",
    "regcollation",
    "regconfig",
    "regdatabase",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// A type of the source as it will be here.
#[derive(Clone, Debug)]
pub enum LocalType {
    /// A type that this database has, by the same name.
    Known(String),
    /// The type of an extension that this database has too, in whatever schema.
    OfExtension(String),
    /// The text of a value that no type here could hold.
    Text(&'static str),
    /// A type that is to be in a schema of ours.
    Own {
        /// Its name, without schema.
        name: String,
        /// What it is.
        definition: Definition,
        /// Whether the column is an array of it.
        is_array: bool,
    },
}

/// What a type of a user is.
#[derive(Clone, Debug)]
pub enum Definition {
    /// An enum of these labels, in order.
    Enum(Vec<String>),
    /// A domain over a type.
    Domain(Box<Part>),
    /// A composite of named parts.
    Composite(Vec<(String, Part)>),
}

/// What a domain or a composite is made of.
#[derive(Clone, Debug)]
pub struct Part {
    kind: LocalType,
    type_modifier: i32,
    collation: Option<String>,
}

/// What each column's type is here.
pub fn plan(connection: &mut Connection, columns: &[ColumnPlan]) -> Result<Vec<LocalType>> {
    columns
        .iter()
        .map(|column| {
            let kind = match column.form {
                Form::Value => {
                    plan_type(connection, &column.source, column.type_oid, &column.source_type, 0)?
                }
                Form::Text => LocalType::Text("text"),
            };
            if column.key_position.is_some() && !kind.is_ordered_alike() {
                return Err(OdsError::new(
                    ErrorKind::Unsupported,
                    format!(
                        "key column {} can't be of type {}: its order and equality are not those of a built-in type",
                        quote_ident(&column.source),
                        column.source_type
                    ),
                )
                .hint("ALTER TABLE … REPLICA IDENTITY USING INDEX …;  -- at the source, an index on columns of built-in types"));
            }
            Ok(kind)
        })
        .collect()
}

fn missing(column: &str, kind: &str, extension: Option<&str>) -> OdsError {
    let column = quote_ident(column);
    let create = extension.map_or_else(
        || format!("Create type {kind} here,"),
        |extension| format!("CREATE EXTENSION {}; --", quote_ident(extension)),
    );
    OdsError::new(
        ErrorKind::Unsupported,
        format!("column {column} is of type {kind}, which this database does not have"),
    )
    .hint(format!(
        "{create} or take its text by columns => '{{{column}::text, …}}', or leave it out there."
    ))
}

/// A type of the source, by its catalog.
#[derive(Deserialize)]
struct Described {
    name: String,
    kind: String,
    is_array: bool,
    /// The type, or the element type of an array, without modifiers.
    plain: String,
    extension: Option<String>,
    labels: Option<Vec<String>>,
    base: Option<DescribedPart>,
    attributes: Option<Vec<DescribedPart>>,
}

#[derive(Deserialize)]
struct DescribedPart {
    name: Option<String>,
    type_oid: u32,
    type_sql: String,
    type_modifier: i32,
    collation: Option<String>,
}

const DESCRIBE: &str = "
SELECT pg_catalog.json_build_object('name', e.typname, 'kind', e.typtype, 'is_array', e.oid <> t.oid,
    'plain', pg_catalog.format_type(e.oid, NULL),
    'extension', (SELECT x.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension x ON x.oid = d.refobjid
                  WHERE d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objid = e.oid
                    AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'),
    'labels', (SELECT pg_catalog.json_agg(l.enumlabel ORDER BY l.enumsortorder)
               FROM pg_catalog.pg_enum l WHERE l.enumtypid = e.oid),
    'base', CASE WHEN e.typtype = 'd' THEN pg_catalog.json_build_object(
        'type_oid', e.typbasetype::bigint, 'type_modifier', e.typtypmod,
        'type_sql', pg_catalog.format_type(e.typbasetype, e.typtypmod),
        'collation', (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname)
                      FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
                      JOIN pg_catalog.pg_type b ON b.oid = e.typbasetype
                      WHERE c.oid = e.typcollation AND c.oid <> b.typcollation)) END,
    'attributes', CASE WHEN e.typtype = 'c' THEN (
        SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname,
            'type_oid', a.atttypid::bigint, 'type_modifier', a.atttypmod,
            'type_sql', pg_catalog.format_type(a.atttypid, a.atttypmod),
            'collation', (SELECT pg_catalog.format('%I.%I', n.nspname, c.collname)
                          FROM pg_catalog.pg_collation c JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace
                          JOIN pg_catalog.pg_type b ON b.oid = a.atttypid
                          WHERE c.oid = a.attcollation AND c.oid <> b.typcollation)) ORDER BY a.attnum)
        FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = e.typrelid AND a.attnum > 0 AND NOT a.attisdropped) END)
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_type e ON e.oid = CASE WHEN t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0
                                          THEN t.typelem ELSE t.oid END
WHERE t.oid = $1::pg_catalog.oid";

/// What a type of the source, of `column` or what that is made of, is here.
fn plan_type(
    connection: &mut Connection,
    column: &str,
    oid: u32,
    sql: &str,
    depth: usize,
) -> Result<LocalType> {
    if oid < FIRST_OF_USERS
        && let (element, text) =
            sql.strip_suffix("[]").map_or((sql, "text"), |element| (element, "text[]"))
        && OF_THE_SOURCE.contains(&element)
    {
        return Ok(LocalType::Text(text));
    }
    // The name comes from the source: what Postgres can't read as one type never gets further.
    let known =
        Spi::get_one_with_args::<String>("SELECT pg_catalog.to_regtype($1)::text", &[sql.into()])
            .map_err(spi_error)?
            .map(|_| LocalType::Known(sql.to_owned()))
            .ok_or_else(|| missing(column, sql, None));
    if oid < FIRST_OF_USERS || depth >= DEEPEST {
        return known;
    }
    let rows = connection.query(
        DESCRIBE,
        &[Some(&oid.to_string())],
        Deadline::after(settings::network_timeout()),
    )?;
    let Some(text) = rows.get(0, 0) else { return known };
    let described: Described = serde_json::from_str(text).map_err(|error| {
        OdsError::new(ErrorKind::Protocol, "the source describes a type in an unknown way")
            .detail(error.to_string())
    })?;
    if let Some(extension) = described.extension.as_deref() {
        let modifiers = sql.strip_prefix(described.plain.as_str()).unwrap_or_default();
        return match of_extension(extension, &described.name)? {
            Some(here) => Ok(LocalType::OfExtension(format!("{here}{modifiers}"))),
            None => Err(missing(column, sql, Some(extension))),
        };
    }
    let definition = match (described.kind.as_str(), described.base, described.attributes) {
        ("e", _, _) => Definition::Enum(described.labels.unwrap_or_default()),
        ("d", Some(base), _) => {
            Definition::Domain(Box::new(plan_part(connection, column, &base, depth)?))
        }
        ("c", _, attributes) => {
            let mut parts = Vec::new();
            for attribute in attributes.unwrap_or_default() {
                let part = plan_part(connection, column, &attribute, depth)?;
                parts.push((attribute.name.unwrap_or_default(), part));
            }
            Definition::Composite(parts)
        }
        _ => return known,
    };
    let (name, is_array) = (described.name, described.is_array);
    Ok(LocalType::Own { name, definition, is_array })
}

/// The type of that name of an extension, in the schema where it is here.
fn of_extension(extension: &str, name: &str) -> Result<Option<String>> {
    Spi::get_one_with_args::<String>(
        "SELECT (SELECT pg_catalog.format('%I.%I', n.nspname, t.typname) FROM pg_catalog.pg_extension x \
         JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.refobjid = x.oid \
              AND d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.deptype = 'e' \
         JOIN pg_catalog.pg_type t ON t.oid = d.objid AND t.typname = $2::pg_catalog.name \
         JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace WHERE x.extname = $1::pg_catalog.name)",
        &[extension.into(), name.into()],
    )
    .map_err(spi_error)
}

fn plan_part(
    connection: &mut Connection,
    column: &str,
    part: &DescribedPart,
    depth: usize,
) -> Result<Part> {
    Ok(Part {
        kind: plan_type(connection, column, part.type_oid, &part.type_sql, depth + 1)?,
        type_modifier: part.type_modifier,
        collation: part.collation.clone(),
    })
}

impl LocalType {
    /// Whether plain operators compare its values here as they do at the source, and in the order
    /// of an index: those of extensions need not be on the search path, and equal values of the
    /// source may have different texts.
    fn is_ordered_alike(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::OfExtension(_) | Self::Text(_) => false,
            Self::Own { definition: Definition::Domain(base), .. } => base.kind.is_ordered_alike(),
            Self::Own { .. } => true,
        }
    }

    /// Every name of it: its own, its labels, those of its parts.
    pub fn names(&self) -> Vec<&str> {
        let (name, definition) = match self {
            Self::Known(name) | Self::OfExtension(name) => return vec![name],
            Self::Text(_) => return Vec::new(),
            Self::Own { name, definition, .. } => (name, definition),
        };
        let mut names = vec![name.as_str()];
        match definition {
            Definition::Enum(labels) => names.extend(labels.iter().map(String::as_str)),
            Definition::Domain(base) => names.extend(base.kind.names()),
            Definition::Composite(parts) => {
                for (name, part) in parts {
                    names.push(name);
                    names.extend(part.kind.names());
                }
            }
        }
        names
    }

    /// The type as SQL, as it is once it is in `schema`.
    pub fn name_in(&self, schema: &str) -> String {
        match self {
            Self::Text(name) => (*name).to_owned(),
            Self::Known(name) | Self::OfExtension(name) => name.clone(),
            Self::Own { name, is_array, .. } => {
                let array = if *is_array { "[]" } else { "" };
                format!("{}.{}{array}", quote_ident(schema), quote_ident(name))
            }
        }
    }

    /// The type as SQL, after making it in `schema` if it must be made.
    pub fn ensure(&self, schema: &str) -> Result<String> {
        let (name, definition, is_array) = match self {
            Self::Text(name) => return Ok((*name).to_owned()),
            Self::Known(name) | Self::OfExtension(name) => {
                if let Some((strange, owner)) = of_others(name)? {
                    return Err(belongs_to_others(&strange, &owner).hint(format!(
                        "Leave the column out by `columns`, or have a superuser own the type: ALTER TYPE {strange} OWNER TO …; -- after a look at what it checks"
                    )));
                }
                return Ok(name.clone());
            }
            Self::Own { name, definition, is_array } => (name, definition, *is_array),
        };
        let qualified = format!("{}.{}", quote_ident(schema), quote_ident(name));
        let parts = definition.ensure_parts(schema)?;
        match find(schema, name)? {
            None => Spi::run(&definition.create_sql(&qualified, &parts)).map_err(spi_error)?,
            Some(here) if definition.is_same(here, &parts)? => {
                if let Some((strange, owner)) = of_others(&qualified)? {
                    return Err(belongs_to_others(&strange, &owner)
                        .hint("Name another schema for the types: type_schema => '…'"));
                }
            }
            Some(_) => {
                return Err(OdsError::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "type {qualified} exists here with another definition than at the source"
                    ),
                )
                .hint("Name another schema for the types: type_schema => '…'"));
            }
        }
        Ok(if is_array { format!("{qualified}[]") } else { qualified })
    }
}

/// The first type among `name` and what it is made of that belongs neither to the current user nor
/// to a superuser, with its owner. An owner may give a type checks of his own at any time. That a
/// type is a member of an extension says nothing: its owner can add it to one of his.
fn of_others(name: &str) -> Result<Option<(String, String)>> {
    // As the statements that use the name will resolve it.
    let found = Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT pg_catalog.to_regtype($1)::pg_catalog.oid",
        &[name.into()],
    )
    .map_err(spi_error)?;
    let _acting = ActingAs::user(current_user());
    let found = Spi::get_two_with_args::<String, String>(
        "WITH RECURSIVE part (oid) AS ( \
             SELECT $1 \
             UNION \
             SELECT n.oid FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid CROSS JOIN LATERAL ( \
                 SELECT t.typelem WHERE t.typelem <> 0 AND t.typtype = 'b' \
                 UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd' \
                 UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a \
                           WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped \
                 UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid \
                 UNION ALL SELECT r.rngtypid FROM pg_catalog.pg_range r WHERE r.rngmultitypid = t.oid) n (oid)) \
         SELECT pg_catalog.format_type(t.oid, NULL), pg_catalog.pg_get_userbyid(t.typowner)::text \
         FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.oid JOIN pg_catalog.pg_roles r ON r.oid = t.typowner \
         WHERE r.rolname <> current_user AND NOT r.rolsuper ORDER BY t.typelem <> 0, t.oid LIMIT 1",
        &[found.into()],
    );
    match found {
        Ok((Some(strange), Some(owner))) => Ok(Some((strange, owner))),
        Ok(_) | Err(pgrx::spi::Error::InvalidPosition) => Ok(None),
        Err(error) => Err(spi_error(error)),
    }
}

fn belongs_to_others(strange: &str, owner: &str) -> OdsError {
    OdsError::new(ErrorKind::Forbidden, format!("type {strange} belongs to role {owner}"))
        .detail("What its owner has it check would run as the owner of the synced table.")
}

impl Definition {
    fn parts(&self) -> Vec<&Part> {
        match self {
            Self::Enum(_) => Vec::new(),
            Self::Domain(base) => vec![&**base],
            Self::Composite(parts) => parts.iter().map(|(_, part)| part).collect(),
        }
    }

    /// The types of the parts as SQL, made where they must be.
    fn ensure_parts(&self, schema: &str) -> Result<Vec<String>> {
        self.parts().into_iter().map(|part| part.kind.ensure(schema)).collect()
    }

    fn create_sql(&self, name: &str, parts: &[String]) -> String {
        match self {
            Self::Enum(labels) => {
                let labels: Vec<String> = labels.iter().map(pgrx::spi::quote_literal).collect();
                format!("CREATE TYPE {name} AS ENUM ({})", labels.join(", "))
            }
            Self::Domain(base) => {
                let base = base.collate_sql(parts.first().map_or("", String::as_str));
                format!("CREATE DOMAIN {name} AS {base}")
            }
            Self::Composite(attributes) => {
                let attributes: Vec<String> = attributes
                    .iter()
                    .zip(parts)
                    .map(|((name, part), sql)| {
                        format!("{} {}", quote_ident(name), part.collate_sql(sql))
                    })
                    .collect();
                format!("CREATE TYPE {name} AS ({})", attributes.join(", "))
            }
        }
    }

    /// Whether the type `here` is this one, as far as its values go.
    fn is_same(&self, here: pg_sys::Oid, parts: &[String]) -> Result<bool> {
        let (names, parts_of_ours): (Vec<String>, Vec<&Part>) = match self {
            Self::Enum(labels) => {
                let found = Spi::get_one_with_args::<Vec<String>>(
                    "SELECT pg_catalog.array_agg(l.enumlabel::text ORDER BY l.enumsortorder) \
                     FROM pg_catalog.pg_enum l WHERE l.enumtypid = $1",
                    &[here.into()],
                )
                .map_err(spi_error)?;
                return Ok(found.unwrap_or_default() == *labels);
            }
            Self::Domain(base) => (vec![String::new()], vec![&**base]),
            Self::Composite(parts) => parts.iter().map(|(name, part)| (name.clone(), part)).unzip(),
        };
        let modifiers: Vec<i32> = parts_of_ours.iter().map(|part| part.type_modifier).collect();
        Spi::get_one_with_args::<bool>(
            "SELECT coalesce(pg_catalog.array_agg(ROW(p.name COLLATE \"C\", p.type, p.modifier) ORDER BY p.place), '{}') = \
                    (SELECT coalesce(pg_catalog.array_agg(ROW(w.name COLLATE \"C\", pg_catalog.to_regtype(w.type)::oid, w.modifier) \
                                                          ORDER BY w.place), '{}') \
                     FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]), \
                                     pg_catalog.unnest($4::int[])) WITH ORDINALITY AS w (name, type, modifier, place)) \
             FROM (SELECT ''::text AS name, t.typbasetype::oid AS type, t.typtypmod AS modifier, 1::int8 AS place \
                   FROM pg_catalog.pg_type t WHERE t.oid = $1 AND t.typtype = 'd' \
                   UNION ALL \
                   SELECT a.attname::text, a.atttypid::oid, a.atttypmod, \
                          pg_catalog.row_number() OVER (ORDER BY a.attnum) \
                   FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid \
                   WHERE t.oid = $1 AND t.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped) p",
            &[here.into(), names.into(), parts.to_vec().into(), modifiers.into()],
        )
        .map(|same| same.unwrap_or(false))
        .map_err(spi_error)
    }
}

impl Part {
    /// The type with its collation, where there is one of that name here.
    fn collate_sql(&self, sql: &str) -> String {
        match self.collation.as_deref().filter(|name| super::target::is_collation(name)) {
            Some(collation) => format!("{sql} COLLATE {collation}"),
            None => sql.to_owned(),
        }
    }
}

fn find(schema: &str, name: &str) -> Result<Option<pg_sys::Oid>> {
    Spi::get_one_with_args::<pg_sys::Oid>(
        "SELECT (SELECT t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
                 WHERE n.nspname = $1::pg_catalog.name AND t.typname = $2::pg_catalog.name)",
        &[schema.into(), name.into()],
    )
    .map_err(spi_error)
}
