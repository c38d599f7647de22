-- What PUBLIC may call only reads; everything else is granted by the owner of the extension.
SELECT p.oid::regprocedure AS callable_by_public, p.provolatile AS volatility
FROM pg_proc p
WHERE p.pronamespace = 'ods'::regnamespace
  AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
ORDER BY p.oid::regprocedure::text COLLATE "C";

-- And reads no table of the catalog, nor writes one.
SELECT c.relname AS open_to_public, a.privilege_type
FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'ods'::regnamespace AND a.grantee = 0
ORDER BY c.relname COLLATE "C", a.privilege_type;

-- A function of the caller's own sees no row that the caller may not.
BEGIN;
CREATE TABLE secret (id int PRIMARY KEY);
INSERT INTO ods.incident (relation, kind, message) VALUES ('secret', 'gap', 'not for all');
CREATE ROLE regress_ods_reader;
GRANT USAGE, CREATE ON SCHEMA public TO regress_ods_reader;
SET ROLE regress_ods_reader;
CREATE FUNCTION leak(message text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
    'BEGIN RAISE NOTICE ''seen: %'', message; RETURN true; END';
SELECT message FROM ods.incidents WHERE leak(message);
ROLLBACK;

-- Everything says what it is for.
SELECT c.relname, a.attname
FROM pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND c.relkind = 'v' AND a.attnum > 0
WHERE c.relnamespace = 'ods'::regnamespace AND c.relkind IN ('r', 'v')
  AND (obj_description(c.oid, 'pg_class') IS NULL OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)
ORDER BY 1, 2;
SELECT p.oid::regprocedure AS not_told FROM pg_proc p
WHERE p.pronamespace = 'ods'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
