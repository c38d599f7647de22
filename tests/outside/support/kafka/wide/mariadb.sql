-- A table with a column of every type but inet4 and inet6, which Debezium 3.5 cannot parse, and tables for what else a connector may say.
SET sql_mode = '';
CREATE TABLE wide (
    id int PRIMARY KEY,
    c_tinyint tinyint, c_tinyint_u tinyint unsigned, c_tinyint1 tinyint(1), c_boolean boolean,
    c_smallint smallint, c_smallint_u smallint unsigned, c_mediumint mediumint, c_mediumint_u mediumint unsigned,
    c_int int, c_int_u int unsigned, c_int_z int(8) zerofill, c_bigint bigint, c_bigint_u bigint unsigned,
    c_decimal decimal(12,2), c_decimal_whole decimal(20), c_decimal_long decimal(65,30), c_decimal_u decimal(10,4) unsigned,
    c_float float, c_float_2 float(7,2), c_double double, c_double_2 double(12,3),
    c_bit1 bit(1), c_bit bit(11), c_bit64 bit(64),
    c_char char(5), c_varchar varchar(40), c_latin varchar(40) CHARACTER SET latin1, c_binary binary(4), c_varbinary varbinary(20),
    c_tinytext tinytext, c_text text, c_mediumtext mediumtext, c_longtext longtext,
    c_tinyblob tinyblob, c_blob blob, c_mediumblob mediumblob, c_longblob longblob,
    c_enum enum('sad','ok','happy','with, comma'), c_set set('red','green','blue'), c_json json,
    c_date date, c_time time, c_time3 time(3), c_time6 time(6),
    c_datetime datetime, c_datetime3 datetime(3), c_datetime6 datetime(6),
    c_timestamp timestamp NULL, c_timestamp3 timestamp(3) NULL, c_timestamp6 timestamp(6) NULL, c_year year,
    c_uuid uuid,
    c_point point, c_linestring linestring, c_polygon polygon, c_multipoint multipoint, c_multilinestring multilinestring,
    c_multipolygon multipolygon, c_collection geometrycollection, c_geometry geometry,
    c_default varchar(20) DEFAULT 'default', c_number_default int NOT NULL DEFAULT 7,
    c_stored int AS (c_int + 1) STORED, c_virtual int AS (c_int + 2) VIRTUAL
);
INSERT INTO wide VALUES (1,
    -12, 200, 1, true, -1234, 60000, -123456, 16000000, -345678, 4000000000, 42, -9876543210, 18000000000000000000,
    12.50, 12345678901234567890, 12345.678901234567890123456789, 1.2345, 1.5, 12345.67, 2.25, 123.456,
    b'1', b'10110011101', b'1000000000000000000000000000000000000000000000000000000000000001',
    'ch', 'text é € 😀', 'latin é', x'00ff10', x'00ff', 'tiny', 'text', 'medium', 'long', x'01', x'0203', x'040506', x'00',
    'happy', 'red,blue', '{"b": 1, "a": [1, 2.50, null]}',
    '2024-02-29', '12:34:56', '12:34:56.789', '12:34:56.789012', '2024-02-29 12:34:56', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789012',
    '2024-02-29 12:34:56', '2024-02-29 12:34:56.789', '2024-02-29 12:34:56.789012', 2024,
    '0123abcd-4567-89ab-cdef-0123456789ab',
    ST_GeomFromText('POINT(1.5 -2)'), ST_GeomFromText('LINESTRING(0 0,1 1,2 0)', 4326), ST_GeomFromText('POLYGON((0 0,1 1,2 0,0 0))'),
    ST_GeomFromText('MULTIPOINT(0 0,1 1)'), ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))'), ST_GeomFromText('MULTIPOLYGON(((0 0,1 1,2 0,0 0)))'),
    ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))'), ST_GeomFromText('POINT(3 4)'),
    'said', 8, DEFAULT, DEFAULT);
INSERT INTO wide (id, c_default) VALUES (2, NULL);
INSERT INTO wide VALUES (3,
    -128, 255, -128, false, -32768, 65535, -8388608, 16777215, -2147483648, 4294967295, 99999999, -9223372036854775808, 18446744073709551615,
    -9999999999.99, -99999999999999999999, -99999999999999999999999999999999999.999999999999999999999999999999, 0, -3.40282e38, -99999.99, -1.7976931348623157e308, -999999999.999,
    b'0', b'00000000000', b'1111111111111111111111111111111111111111111111111111111111111111',
    '', '', '', '', '', '', '', '', '', '', '', '', '',
    'with, comma', '', '[]',
    '1000-01-01', '-838:59:59', '-838:59:59.999', '-838:59:59.999999', '1000-01-01 00:00:00', '1000-01-01 00:00:00', '1000-01-01 00:00:00',
    '1970-01-01 00:00:01', '1970-01-01 00:00:01', '1970-01-01 00:00:01', 1901,
    '00000000-0000-0000-0000-000000000000',
    ST_GeomFromText('POINT(0 0)'), NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', 0, DEFAULT, DEFAULT);
INSERT INTO wide (id, c_tinyint, c_smallint, c_int, c_bigint, c_date, c_time, c_time6, c_datetime, c_datetime6, c_timestamp, c_timestamp6, c_year, c_text, c_json)
    VALUES (4, 127, 32767, 2147483647, 9223372036854775807, '9999-12-31', '838:59:59', '838:59:59.999999', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999999',
    '2038-01-19 03:14:07', '2038-01-19 03:14:07.999999', 2155, 'tab\tnewline\nquote"back\\slash\'', '{"big": 12345678901234567890.123456789012345678901234567890}');
INSERT INTO wide (id, c_date, c_datetime, c_datetime6, c_timestamp, c_year, c_enum, c_time)
    VALUES (5, '0000-00-00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', '0000-00-00 00:00:00', 1970, '', '00:00:00');
CREATE TABLE whole (id int AUTO_INCREMENT PRIMARY KEY, v varchar(20), big longtext);
INSERT INTO whole VALUES (1, 'one', REPEAT('w', 3000)), (2, 'two', 'little');
CREATE TABLE keyless (v varchar(20), n decimal(6,2));
INSERT INTO keyless VALUES ('a', 1.50);
CREATE TABLE `Odd Näme` (`the-key` varchar(20), `k 2` bigint unsigned, `a.b` decimal(5,1), `Ünicode` varchar(20) DEFAULT 'dé', PRIMARY KEY (`the-key`, `k 2`));
INSERT INTO `Odd Näme` VALUES ('k''1', 1, 1.5, 'x'), ('k2', 18446744073709551615, NULL, NULL);
CREATE TABLE emptied (id int PRIMARY KEY, v text);
INSERT INTO emptied VALUES (1, 'goes');
CREATE TABLE drifts (id int PRIMARY KEY, v varchar(20), gone text);
INSERT INTO drifts VALUES (1, 'before', 'x');
CREATE TABLE heartbeat (id int PRIMARY KEY, at timestamp(6));
CREATE TABLE debezium_signal (id varchar(42) PRIMARY KEY, type varchar(32) NOT NULL, data varchar(2048));
CREATE TABLE done (id int PRIMARY KEY);
