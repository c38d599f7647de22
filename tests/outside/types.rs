//! Types of the source's own: made here, found here, or refused.

use crate::support::client::Ask;
use crate::support::pair::Sync;
use postgres::error::SqlState;

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy');
    CREATE DOMAIN price AS numeric(12, 2) NOT NULL CHECK (VALUE >= 0);
    CREATE DOMAIN code AS varchar(5) COLLATE \"C\";
    CREATE TYPE \"Address\" AS (street text, \"Zip\" code, moods mood[]);
    CREATE DOMAIN home AS \"Address\";
    CREATE DOMAIN prices AS price[];
    CREATE TABLE person (id code PRIMARY KEY, mood mood, costs price, home home, other \"Address\"[], history prices);
    INSERT INTO person VALUES ('a', 'happy', 1.5, ROW('x \"y\", (z)', '12345', ARRAY['sad', NULL]::mood[]),
        ARRAY[ROW(NULL, '', NULL)::\"Address\", NULL], '[0:1]={1,2}'), ('b', NULL, 2, NULL, '{}', NULL)";

const CHANGES: &str = "UPDATE person SET mood = 'it''s ok', home = ROW('moved', '1', '{}'), history = '{}' WHERE id = 'a';
    INSERT INTO person VALUES ('c', 'sad', 0, ROW(NULL, NULL, NULL), NULL, '{{1,2},{3,4}}');
    UPDATE person SET id = 'd' WHERE id = 'b'";

#[test]
fn enums_domains_and_composites_are_made_here() {
    let sync = Sync::shared("types_made");
    sync.source().run(TYPES);
    sync.ods().run("CREATE SCHEMA copies");
    sync.create_loaded("copies.person", "public.person");
    sync.assert_same("copies.person", "public.person");
    sync.source().run(CHANGES);
    sync.assert_same("copies.person", "public.person");
    let made = sync.ods().text(
        "SELECT string_agg(typname, ' ' ORDER BY typname) FROM pg_type
         WHERE typnamespace = 'copies'::regnamespace AND typtype IN ('d', 'e', 'c') AND typname <> 'person'",
    );
    assert_eq!(made.as_deref(), Some("Address code home mood price prices"));
    // A second table finds them.
    sync.source().run(
        "CREATE TABLE also (id int PRIMARY KEY, home home, mood mood[]);
        INSERT INTO also VALUES (1, ROW('s', 'z', NULL), '{happy}')",
    );
    sync.create_loaded("copies.also", "public.also");
    sync.assert_same("copies.also", "public.also");
}

#[test]
fn a_type_of_another_definition_is_refused() {
    let sync = Sync::shared("types_differ");
    sync.source().run(TYPES);
    let mut ods = sync.ods();
    let create =
        "SELECT ods.create_synced_table('person', server => 'src', source => 'public.person',
                      consumer => 'outside tests'";
    for different in [
        "CREATE TYPE mood AS ENUM ('happy', 'sad')",
        "CREATE DOMAIN mood AS text",
        "CREATE DOMAIN price AS numeric(12, 3)",
        "CREATE TYPE \"Address\" AS (street text, \"Zip\" text, moods text[])",
        "CREATE TYPE home AS (a int)",
    ] {
        ods.run(different);
        let error = ods.execute(&format!("{create})"), &[]).expect_err("another definition");
        let error = error.as_db_error().expect("an error of the server");
        assert!(error.message().contains("another definition"), "{different}: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("type_schema")), "{error:?}");
        let name = different.split_whitespace().nth(2).expect("a name");
        ods.run(&format!("DROP TYPE {name}"));
    }
    ods.run("CREATE DOMAIN mood AS text; CREATE SCHEMA elsewhere");
    ods.run(&format!("{create}, type_schema => 'elsewhere')"));
    sync.wait_loaded("person");
    sync.assert_same("person", "public.person");
}

#[test]
fn a_type_of_somebody_else_is_refused() {
    let sync = Sync::shared("types_squatted");
    sync.source().run(TYPES);
    let mut ods = sync.ods();
    ods.run(
        "CREATE ROLE squatter; GRANT CREATE ON SCHEMA public TO squatter; SET ROLE squatter;
         CREATE TABLE caught (by name);
         CREATE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql AS
           'BEGIN INSERT INTO public.caught VALUES (current_user); RETURN true; END';
         RESET ROLE",
    );
    let create =
        "SELECT ods.create_synced_table('person', server => 'src', source => 'public.person',
                      consumer => 'outside tests'";
    for squatted in [
        "CREATE DOMAIN price AS numeric(12, 2) CHECK (public.evil())",
        "CREATE DOMAIN code AS varchar(5) COLLATE \"C\" CHECK (public.evil())",
        "CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'happy')",
    ] {
        let name = squatted.split_whitespace().nth(2).expect("a name");
        ods.run(&format!("SET ROLE squatter; {squatted}; RESET ROLE"));
        let error = ods.refused(&format!("{create})"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{squatted}: {error:?}");
        assert!(error.message().contains(&format!("type public.{name} belongs to role squatter")));
        assert!(error.hint().is_some_and(|hint| hint.contains("type_schema")), "{error:?}");
        ods.run(&format!("DROP TYPE {name}"));
    }
    ods.run("SET ROLE squatter; CREATE DOMAIN price AS numeric(12, 2) CHECK (public.evil()); RESET ROLE");
    ods.run(&format!("CREATE SCHEMA elsewhere; {create}, type_schema => 'elsewhere')"));
    sync.wait_loaded("person");
    sync.assert_same("person", "public.person");
    assert_eq!(ods.number("SELECT count(*) FROM caught"), 0);
    ods.run("DROP TABLE person; DROP OWNED BY squatter; DROP ROLE squatter");
}

#[test]
fn a_type_that_must_be_here_is_not_taken_from_somebody_else() {
    let sync = Sync::shared("types_range");
    sync.source().run(
        "CREATE TYPE span AS RANGE (subtype = date); CREATE TABLE stay (id int PRIMARY KEY, spans span[]);
         INSERT INTO stay VALUES (1, ARRAY['[2024-01-01,2024-02-01)'::span])",
    );
    let mut ods = sync.ods();
    let create = "SELECT ods.create_synced_table('stay', server => 'src', source => 'public.stay',
                      consumer => 'outside tests')";
    ods.run(
        "CREATE ROLE ranger; GRANT CREATE ON SCHEMA public TO ranger; SET ROLE ranger;
         CREATE DOMAIN span AS daterange; RESET ROLE",
    );
    let error = ods.refused(create);
    assert_eq!(error.message(), "type public.span belongs to role ranger");
    assert!(
        error.hint().is_some_and(|hint| hint.contains("ALTER TYPE public.span OWNER TO")),
        "{error:?}"
    );
    ods.run("DROP DOMAIN span; CREATE TYPE span AS RANGE (subtype = date)");
    ods.run(create);
    sync.wait_loaded("stay");
    sync.assert_same("stay", "public.stay");
    ods.run("DROP OWNED BY ranger; DROP ROLE ranger");
}

#[test]
fn types_of_extensions_are_used_where_the_extension_is_here() {
    let sync = Sync::shared("types_extension");
    sync.source_admin().run(
        "CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE SCHEMA trees; GRANT USAGE ON SCHEMA trees TO app;
         CREATE EXTENSION ltree SCHEMA trees",
    );
    let mut source = sync.source();
    source.run(
        "CREATE DOMAIN email AS citext; CREATE TYPE pair AS (c citext, h hstore[]);
         CREATE TABLE t (id int PRIMARY KEY, c citext, cs citext[], h hstore, path trees.ltree, mail email, pair pair);
         INSERT INTO t SELECT i, 'Ab' || i, ARRAY['X', NULL]::citext[], 'a=>\"b c\", d=>NULL', 'top.Sub_1', 'A@b', '(C,\"{k=>v}\")'::pair
           FROM generate_series(1, 100) AS i;
         CREATE TABLE keyed (id citext PRIMARY KEY); CREATE TABLE domained (id email PRIMARY KEY)",
    );
    let mut ods = sync.ods();
    let create = |table: &str, further: &str| {
        format!(
            "SELECT ods.create_synced_table('{table}', server => 'src', source => 'public.{table}', consumer => 'outside tests'{further})"
        )
    };
    let error = ods.refused(&create("t", ""));
    assert_eq!(
        error.message(),
        "column \"c\" is of type public.citext, which this database does not have"
    );
    let hint = error.hint().unwrap_or_default();
    assert!(hint.starts_with("CREATE EXTENSION \"citext\";") && hint.contains("\"c\"::text"));
    // As text, by choice.
    ods.run(&create("t", ", columns => '{id, c::text, h::text AS pairs, path::text, pair::text}'"));
    sync.wait_loaded("t");
    let text = "SELECT id, c::text, h::text AS pairs, path::text, pair::text FROM public.t";
    sync.wait_query("t", &["id", "c", "pairs", "path", "pair"], text);
    source.run("UPDATE t SET c = 'new', h = h || 'n=>1' WHERE id < 50");
    sync.wait_query("t", &["id", "c", "pairs", "path", "pair"], text);
    ods.run("SELECT ods.drop_synced_table('t', keep_data => false)");
    // In another schema than there.
    ods.run("CREATE SCHEMA elsewhere; CREATE EXTENSION citext SCHEMA elsewhere; CREATE EXTENSION hstore; CREATE EXTENSION ltree");
    ods.run(&create("t", ""));
    sync.wait_loaded("t");
    sync.assert_same("t", "public.t");
    source.run(
        "UPDATE t SET c = 'AB', path = 'top' WHERE id % 2 = 0; DELETE FROM t WHERE id = 7;
         INSERT INTO t VALUES (1000, 'é', '{}', '', '', 'x', NULL)",
    );
    sync.assert_same("t", "public.t");
    assert_eq!(
        ods.text("SELECT c::regtype FROM (SELECT pg_typeof(c) AS c FROM t LIMIT 1) x").as_deref(),
        Some("elsewhere.citext")
    );
    for table in ["keyed", "domained"] {
        let error = ods.refused(&create(table, ""));
        assert!(error.message().starts_with("key column \"id\" can't be of type"), "{error:?}");
        assert!(ods.refused(&create(table, ", columns => '{id::text}'")).hint().is_some());
    }
}

#[test]
fn an_adopted_column_tells_its_type() {
    let sync = Sync::shared("types_adopted");
    sync.source().run(TYPES);
    let mut ods = sync.ods();
    ods.run("CREATE TABLE person (id text PRIMARY KEY, mood text, costs numeric, home text, other text, history text)");
    sync.create_loaded("person", "public.person");
    sync.source().run(CHANGES);
    sync.settle();
    assert_eq!(ods.text("SELECT mood FROM person WHERE id = 'a'").as_deref(), Some("it's ok"));
    assert_eq!(
        ods.number("SELECT count(*) FROM pg_type WHERE typname IN ('mood', 'Address', 'price')"),
        0
    );
}

#[test]
fn new_labels_of_an_enum_follow() {
    let sync = Sync::shared("types_labels");
    let mut source = sync.source();
    source.run(TYPES);
    source.run("CREATE TABLE also (mood mood PRIMARY KEY, n int)");
    let mut ods = sync.ods();
    sync.create_loaded("person", "public.person");
    sync.create_loaded("also", "public.also");
    let labels = "SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = 'mood'::regtype";
    // In the stream, in an array within a composite and as a key.
    source.run("ALTER TYPE mood ADD VALUE 'awful' BEFORE 'sad'");
    source.run("ALTER TYPE mood ADD VALUE 'so so' AFTER 'sad'");
    source.run(
        "UPDATE person SET home = ROW('x', 'y', ARRAY['awful', 'so so']::mood[]) WHERE id = 'a'; INSERT INTO also VALUES ('so so', 1)",
    );
    sync.assert_same("person", "public.person");
    sync.assert_same("also", "public.also");
    assert_eq!(ods.text(labels), source.text(labels));
    // While the table is being read.
    ods.run("SELECT ods.pause('person')");
    source.run("ALTER TYPE mood ADD VALUE 'super'");
    source.run("UPDATE person SET mood = 'super'");
    ods.run("SELECT ods.resume('person')");
    sync.wait_loaded("person");
    sync.assert_same("person", "public.person");
    assert_eq!(ods.text(labels), source.text(labels));
    assert!(
        ods.number(
            "SELECT count(*) FROM ods.incidents WHERE message LIKE '%was given the labels%'"
        ) >= 2
    );
    // A renamed one, which rows here hold by its old name.
    source
        .run("ALTER TYPE mood RENAME VALUE 'super' TO 'fine'; INSERT INTO also VALUES ('fine', 1)");
    sync.assert_same("also", "public.also");
    sync.wait_same("person", "public.person");
    assert_eq!(ods.text(labels), source.text(labels));
}

/// Extensions whose types are tried wherever they are installed, and values of each type. Those that
/// come with Postgres are everywhere; the others are where somebody has put them.
const EXTENSIONS: &[(&str, &str, &[&str])] = &[
    ("citext", "citext", &["Ab", "", "É"]),
    ("hstore", "hstore", &["a=>1, \"b c\"=>NULL", ""]),
    ("ltree", "ltree", &["top.Sub_1", ""]),
    ("cube", "cube", &["(1,2),(3,4)", "(0)"]),
    ("isn", "isbn13", &["978-0-393-04002-9"]),
    ("seg", "seg", &["1.5(+-)0.5", "<3"]),
    ("intarray", "query_int", &["1&(2|3)"]),
    ("vector", "vector(3)", &["[1,-2.5,3e-7]", "[0,0,0]"]),
    ("vector", "halfvec(2)", &["[1,65504]"]),
    ("vector", "sparsevec(5)", &["{1:1.5,5:-2}/5"]),
    (
        "postgis",
        "geometry",
        &["POINT(1 2)", "SRID=4326;LINESTRING Z (0 0 0.1,1 1 2)", "POLYGON EMPTY"],
    ),
    ("postgis", "geometry(Point,4326)", &["SRID=4326;POINT(-71.064544 42.28787)"]),
    ("postgis", "geography", &["POINT(-110 30)"]),
    ("postgis", "box3d", &["BOX3D(1 2 3,4 5 6)"]),
];

#[test]
fn values_of_extensions_are_what_they_are_at_the_source() {
    let sync = Sync::shared("types_values");
    let (mut admin, mut source, mut ods) = (sync.source_admin(), sync.source(), sync.ods());
    let mut tried = 0;
    for (number, (extension, kind, values)) in EXTENSIONS.iter().enumerate() {
        let is_here =
            format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{extension}'");
        if admin.number(&is_here) == 0 {
            continue;
        }
        tried += 1;
        let create = format!("CREATE EXTENSION IF NOT EXISTS {extension}");
        admin.run(&create);
        ods.run(&create);
        let table = format!("t{number}");
        let rows: Vec<String> = (1..)
            .zip(*values)
            .map(|(id, value)| format!("({id}, '{value}', ARRAY['{value}', NULL]::{kind}[])"))
            .collect();
        source.run(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, v {kind}, many {kind}[]); INSERT INTO {table} VALUES {}",
            rows.join(", ")
        ));
        sync.create_loaded(&table, &format!("public.{table}"));
        source.run(&format!(
            "INSERT INTO {table} SELECT id + 100, v, many FROM {table}; UPDATE {table} SET many = many || v WHERE id < 100;
             INSERT INTO {table} VALUES (1000, NULL, '{{}}')"
        ));
        sync.assert_same(&table, &format!("public.{table}"));
        ods.run(&format!("SELECT ods.resync('{table}')"));
        sync.wait_loaded(&table);
        sync.assert_same(&table, &format!("public.{table}"));
        assert_eq!(ods.number(&format!("SELECT count(*) FROM ods.verify('{table}')")), 0, "{kind}");
    }
    assert!(tried >= 7, "Postgres comes with seven of them, {tried} were tried");
}
