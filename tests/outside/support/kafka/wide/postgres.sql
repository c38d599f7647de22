-- A table with a column of every type, and tables for what else a connector may say.
CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION citext;
SET ROLE app;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy', 'it''s "odd", or');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN price AS numeric(8,3);
CREATE TYPE pair AS (a int, b text);

CREATE TABLE wide (
    id int PRIMARY KEY,
    c_smallint smallint, c_int int, c_bigint bigint, c_real real, c_double double precision,
    c_numeric numeric(12,2), c_numeric_free numeric, c_numeric_whole numeric(20,0),
    c_numeric_hundreds numeric(5,-2), c_numeric_tiny numeric(3,5), c_money money,
    c_bool bool, c_text text, c_varchar varchar(20), c_varchar_free varchar, c_char char(5), c_char1 char(1),
    c_char_internal "char", c_name name, c_citext citext, c_bytea bytea,
    c_date date, c_time time, c_time3 time(3), c_time0 time(0), c_timetz timetz,
    c_timestamp timestamp, c_timestamp3 timestamp(3), c_timestamp0 timestamp(0),
    c_timestamptz timestamptz, c_timestamptz3 timestamptz(3), c_interval interval,
    c_json json, c_jsonb jsonb, c_xml xml, c_uuid uuid,
    c_bit bit(11), c_bit1 bit(1), c_varbit varbit, c_varbit10 varbit(10),
    c_inet inet, c_cidr cidr, c_macaddr macaddr, c_macaddr8 macaddr8,
    c_point point, c_line line, c_lseg lseg, c_box box, c_path path, c_polygon polygon, c_circle circle,
    c_enum mood, c_domain positive, c_domain_numeric price, c_composite pair,
    c_oid oid, c_pg_lsn pg_lsn, c_tsvector tsvector, c_tsquery tsquery,
    c_int4range int4range, c_int8range int8range, c_numrange numrange, c_tsrange tsrange,
    c_tstzrange tstzrange, c_daterange daterange, c_int4multirange int4multirange,
    c_hstore hstore, c_ltree ltree,
    a_smallint smallint[], a_int int[], a_bigint bigint[], a_real real[], a_double double precision[],
    a_numeric numeric(8,2)[], a_numeric_free numeric[], a_money money[], a_bool bool[],
    a_text text[], a_varchar varchar(5)[], a_char char(3)[], a_citext citext[], a_bytea bytea[],
    a_date date[], a_time time[], a_timetz timetz[], a_timestamp timestamp[], a_timestamptz timestamptz[],
    a_interval interval[], a_uuid uuid[], a_json json[], a_jsonb jsonb[], a_xml xml[],
    a_inet inet[], a_cidr cidr[], a_macaddr macaddr[], a_enum mood[], a_int4range int4range[],
    a_numrange numrange[], a_tsrange tsrange[], a_daterange daterange[], a_oid oid[],
    a_hstore hstore[], a_ltree ltree[], a_bit bit(3)[], a_point point[]
);
-- One value a column that is nothing special, then none, then the ends of the ranges.
INSERT INTO wide VALUES (1,
    12, 345678, 9876543210, 1.5, 2.25,
    12.50, 123.456789, 12345678901234567890, 12300, 0.00123, 1234.56,
    true, 'text é € 😀', 'varchar', 'free', 'ch', 'x',
    'q', 'a name', 'CiTexT', '\x00ff10',
    '2024-02-29', '12:34:56.789012', '12:34:56.789', '12:34:56', '12:34:56.789+05:30',
    '2024-02-29 12:34:56.789012', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56',
    '2024-02-29 12:34:56.789012+00', '2024-02-29 12:34:56.789+00', '1 year 2 mons 3 days 04:05:06.78',
    '{"b": 1, "a": [1, 2.50, null]}', '{"b": 1, "a": [1, 2.50, null]}', '<a x="1">text</a>', '0123abcd-4567-89ab-cdef-0123456789ab',
    B'10110011101', B'1', B'110', B'1011',
    '192.168.1.5/24', '10.1.0.0/16', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    '(1.5,-2)', '{1,2,3}', '[(0,0),(1,1)]', '(2,2),(1,1)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(1,2),3.5>',
    'happy', 7, 12.345, '(1,"b, ""c""")',
    4294967295, '16/B374D848', 'a fat cat:3', 'fat & (rat | cat)',
    '[1,10)', '[1,10)', '(1.5,2.5]', '["2024-01-01 00:00:00","2024-06-01 12:00:00")',
    '["2024-01-01 00:00:00+00","2024-06-01 12:00:00+00")', '[2024-01-01,2024-06-01)', '{[1,3),[5,7)}',
    'a=>1, "b c"=>"x \"y\"", n=>NULL', 'Top.Science.Astronomy',
    '{1,2}', '{1,-2,3}', '{1,9876543210}', '{1.5,2.5}', '{1.5,2.5}',
    '{1.25,-3.50}', '{1.123,2}', '{1.5,2.5}', '{t,f}',
    '{a,"b c","d\"e","NULL"}', '{ab,cd}', '{a,bcd}', '{Ab,cD}', '{"\\x00ff","\\x01"}',
    '{2024-01-01,2024-02-29}', '{12:34:56.789,00:00:00}', '{12:34:56+01}', '{"2024-02-29 12:34:56.789012"}', '{"2024-02-29 12:34:56.789012+00"}',
    '{1 day,02:03:04}', '{0123abcd-4567-89ab-cdef-0123456789ab}', '{"{\"a\": 1}"}', '{"{\"a\": 1}","[1, 2]"}', '{<a/>}',
    '{192.168.1.5,::1}', '{10.0.0.0/8}', '{08:00:2b:01:02:03}', '{sad,"it''s \"odd\", or"}', '{"[1,10)"}',
    '{"[1.5,2)"}', '{"[\"2024-01-01 00:00:00\",\"2024-06-01 00:00:00\")"}', '{"[2024-01-01,2024-06-01)"}', '{1,2}',
    '{"a=>1"}', '{a.b,c}', '{101,010}', '{"(1,2)"}');
INSERT INTO wide (id) VALUES (2);
INSERT INTO wide VALUES (3,
    -32768, -2147483648, -9223372036854775808, -3.4028235e38, -1.7976931348623157e308,
    -9999999999.99, -0.000000000000000000000000000001, -99999999999999999999, -99900, -0.00999, -92233720368547758.08,
    false, '', '', '', '', '',
    '', '', '', '',
    '0001-01-01', '00:00:00', '00:00:00', '00:00:00', '00:00:00+15:59',
    '0001-01-01 00:00:00', '0001-01-01 00:00:00', '0001-01-01 00:00:00',
    '0001-01-01 00:00:00+00', '0001-01-01 00:00:00+00', '-178 years -1 mons -2 days -03:04:05.678901',
    'null', 'null', NULL, '00000000-0000-0000-0000-000000000000',
    B'00000000000', B'0', B'', B'',
    '::/0', '::/0', '00:00:00:00:00:00', '00:00:00:00:00:00:00:00',
    '(-1e300,1e-300)', '{-1,0,0}', '[(-1,-1),(-1,-1)]', '(0,0),(-1,-1)', '((0,0),(1,1),(2,0))', '((0,0))', '<(0,0),0>',
    'it''s "odd", or', 1, -99999.999, '(,)',
    0, '0/0', '', '',
    '(,)', '(,)', '(,)', '(,)', '(,)', '(,)', '{}',
    '', '',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}');
INSERT INTO wide (id, c_smallint, c_int, c_bigint, c_real, c_double, c_numeric, c_numeric_free, c_date, c_time, c_timetz, c_timestamp, c_timestamptz,
        c_text, a_int, a_text, a_numeric, a_date, a_timestamptz, a_bool, c_int4range, c_numrange, c_json)
    VALUES (4, 32767, 2147483647, 9223372036854775807, 1e-45, 5e-324, 9999999999.99, 1e100, '9999-12-31', '23:59:59.999999', '23:59:59.999999-15:59',
        '9999-12-31 23:59:59.999999', '9999-12-31 23:59:59.999999+00', E'tab\tnewline\nreturn\rquote"back\\slash''',
        '{1,NULL,3}', '{NULL,"",NULL}', '{NULL,1.10}', '{NULL,2024-01-01}', '{NULL}', '{NULL,t}', 'empty', 'empty', '{"big": 12345678901234567890.123456789012345678901234567890}');

-- What has no plain form elsewhere: infinities, NaN, years before Christ, the end of a day.
CREATE TABLE special (id int PRIMARY KEY, s_real real, s_double double precision, s_date date, s_timestamp timestamp, s_timestamptz timestamptz,
    s_time time, s_timetz timetz);
INSERT INTO special VALUES
    (1, 'infinity', 'infinity', 'infinity', 'infinity', 'infinity', '24:00:00', '24:00:00+00'),
    (2, '-infinity', '-infinity', '-infinity', '-infinity', '-infinity', '00:00:00', '00:00:00+00'),
    (3, 'nan', 'nan', '0044-03-15 BC', '0044-03-15 12:00:00 BC', '0044-03-15 12:00:00+00 BC', '12:00', '12:00+00'),
    (4, '-0', '-0', '4713-01-01 BC', '1582-10-10 01:02:03.000004', '1900-01-01 00:00:00+00', '00:00:00.000001', '00:00:00.000001+00'),
    (5, 0, 0, '200000-01-01', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999999+00', '00:00', '00:00-08');
CREATE TABLE special_numeric (id int PRIMARY KEY, n numeric, n2 numeric(10,2));

-- Values that are stored apart, and so are missing from an update that does not touch them.
CREATE TABLE toast (id int PRIMARY KEY, small int,
    t_text text, t_varchar varchar, t_bytea bytea, t_json json, t_jsonb jsonb, t_xml xml, t_numeric numeric, t_hstore hstore,
    t_text_array text[], t_varchar_array varchar[], t_char_array char(3)[], t_json_array json[], t_jsonb_array jsonb[], t_bytea_array bytea[],
    t_int_array int[], t_bigint_array bigint[], t_date_array date[], t_timestamptz_array timestamptz[], t_uuid_array uuid[],
    t_numeric_array numeric(8,2)[], t_bool_array bool[], t_double_array double precision[], t_smallint_array smallint[], t_enum_array mood[],
    t_tsvector tsvector, t_citext citext, t_varbit varbit, t_polygon polygon, t_ltree ltree, t_int4multirange int4multirange);
DO $$ DECLARE c record; BEGIN
    FOR c IN SELECT attname FROM pg_attribute WHERE attrelid = 'toast'::regclass AND attnum > 2 LOOP
        EXECUTE format('ALTER TABLE toast ALTER COLUMN %I SET STORAGE EXTERNAL', c.attname);
    END LOOP;
END $$;
ALTER TABLE toast SET (toast_tuple_target = 128);
CREATE FUNCTION toasted(id int) RETURNS void BEGIN ATOMIC
    INSERT INTO toast SELECT id, 1, repeat('t', 200), repeat('v', 200), convert_to(repeat('b', 200), 'UTF8'),
        to_json(repeat('j', 200)), to_jsonb(repeat('k', 200)), xmlelement(name x, repeat('x', 200)), 10::numeric ^ 300 + 1, hstore('k', repeat('h', 200)),
        array_fill('ab'::text, ARRAY[20]), array_fill('cd'::varchar, ARRAY[20]), array_fill('ef'::char(3), ARRAY[20]), array_fill('{}'::json, ARRAY[20]), array_fill('[]'::jsonb, ARRAY[20]), array_fill('\x01'::bytea, ARRAY[20]),
        array_fill(1, ARRAY[40]), array_fill(2::bigint, ARRAY[20]), array_fill(date '2024-01-01', ARRAY[40]), array_fill(timestamptz '2024-01-01 00:00+00', ARRAY[20]), array_fill('0123abcd-4567-89ab-cdef-0123456789ab'::uuid, ARRAY[10]),
        array_fill(1.25::numeric(8,2), ARRAY[20]), array_fill(true, ARRAY[100]), array_fill(1.5::float8, ARRAY[20]), array_fill(1::smallint, ARRAY[80]), array_fill('ok'::mood, ARRAY[40]),
        array_to_tsvector(ARRAY(SELECT 'word' || i FROM generate_series(10, 30) AS i)), repeat('c', 200), repeat('10', 800)::varbit, ('((0,0)' || repeat(',(1,1)', 12) || ')')::polygon, (repeat('abcdef.', 30) || 'z')::ltree, (SELECT range_agg(int4range(i * 2, i * 2 + 1)) FROM generate_series(1, 20) AS i);
END;

CREATE TABLE whole (id int PRIMARY KEY, v text, big text);
ALTER TABLE whole REPLICA IDENTITY FULL;
ALTER TABLE whole ALTER big SET STORAGE EXTERNAL;
INSERT INTO whole VALUES (1, 'one', repeat('w', 3000)), (2, 'two', 'little');
CREATE TABLE keyless (v text, n numeric(6,2));
ALTER TABLE keyless REPLICA IDENTITY FULL;
INSERT INTO keyless VALUES ('a', 1.50);
CREATE TABLE "Odd Näme" ("the-key" text, "k 2" bigint, "a.b" numeric(5,1), "Ünicode" text DEFAULT 'dé', counted int NOT NULL DEFAULT 7, PRIMARY KEY ("the-key", "k 2"));
INSERT INTO "Odd Näme" VALUES ('k''1', 1, 1.5, DEFAULT, DEFAULT), ('k2', 2, NULL, NULL, 0);
CREATE TABLE emptied (id int PRIMARY KEY, v text);
INSERT INTO emptied VALUES (1, 'goes');
CREATE TABLE drifts (id int PRIMARY KEY, v text, gone text);
INSERT INTO drifts VALUES (1, 'before', 'x');
CREATE TABLE heartbeat (id int PRIMARY KEY, at timestamptz);
CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE done (id int PRIMARY KEY);
RESET ROLE;
