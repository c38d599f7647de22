-- What writes no row is none of the guard's business.
\getenv srcdir PG_ABS_SRCDIR
\set setup :srcdir '/include/synced.sql'
\set ECHO none
\i :setup
\set ECHO all
CREATE SCHEMA guard_read; SET search_path = guard_read;
CREATE TABLE customer (id int PRIMARY KEY, name text);
INSERT INTO customer VALUES (1, 'one');
CALL pg_temp.make_synced('customer');

SELECT * FROM customer FOR UPDATE;
SELECT * FROM customer FOR NO KEY UPDATE;
SELECT * FROM customer FOR SHARE;
SELECT * FROM customer FOR KEY SHARE;
CREATE INDEX customer_name ON customer (name);
CREATE INDEX CONCURRENTLY customer_upper ON customer (upper(name));
DROP INDEX CONCURRENTLY customer_upper;
REINDEX TABLE customer;
REINDEX TABLE CONCURRENTLY customer;
ALTER INDEX customer_name RENAME TO customer_by_name;
DROP INDEX customer_by_name;
ANALYZE customer;
VACUUM customer;
VACUUM FULL customer;
CLUSTER customer USING customer_pkey;
GRANT SELECT ON customer TO PUBLIC;
REVOKE SELECT ON customer FROM PUBLIC;
COMMENT ON TABLE customer IS 'kept by a stream';
CREATE STATISTICS customer_statistics ON id, name FROM customer;
BEGIN;
LOCK TABLE customer IN ACCESS EXCLUSIVE MODE;
COMMIT;
CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM customer;
REFRESH MATERIALIZED VIEW summary;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT ON customer FOR EACH ROW EXECUTE FUNCTION audit();
ALTER TABLE customer DISABLE TRIGGER audit;
ALTER TABLE customer ENABLE TRIGGER audit;
ALTER TABLE customer ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;
ALTER TABLE customer VALIDATE CONSTRAINT positive;
ALTER TABLE customer DROP CONSTRAINT positive;
CREATE POLICY everyone ON customer USING (true);
ALTER TABLE customer SET (fillfactor = 90);
COPY customer TO stdout;

DROP SCHEMA guard_read CASCADE;
CALL pg_temp.forget_all();
