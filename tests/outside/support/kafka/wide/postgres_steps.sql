-- One step a line, each a transaction of its own, after the snapshot.
SELECT toasted(1)
CREATE TEMP TABLE again AS SELECT * FROM wide; UPDATE again SET id = id + 10; INSERT INTO wide SELECT * FROM again ORDER BY id; DROP TABLE again
INSERT INTO special SELECT id + 10, s_real, s_double, s_date, s_timestamp, s_timestamptz, s_time, s_timetz FROM special ORDER BY id
UPDATE toast SET small = 2 WHERE id = 1
UPDATE toast SET t_text = 'short', t_text_array = '{short}' WHERE id = 1
UPDATE toast SET id = 2 WHERE id = 1
UPDATE wide SET c_numeric = c_numeric + 0.01, c_text = 'updated' WHERE id = 1
UPDATE wide SET id = 100 WHERE id = 2
DELETE FROM wide WHERE id = 3
DELETE FROM toast WHERE id = 2
UPDATE whole SET v = 'uno' WHERE id = 1
UPDATE whole SET id = 3, v = 'moved' WHERE id = 2
DELETE FROM whole WHERE id = 1
UPDATE keyless SET n = 2.25
INSERT INTO keyless VALUES ('a', 2.25), (NULL, NULL)
DELETE FROM keyless WHERE v = 'a'
UPDATE "Odd Näme" SET "a.b" = 2.5 WHERE "k 2" = 1
UPDATE "Odd Näme" SET "the-key" = 'moved' WHERE "k 2" = 2
DELETE FROM "Odd Näme" WHERE "k 2" = 1
TRUNCATE emptied
INSERT INTO emptied VALUES (2, 'after')
BEGIN; INSERT INTO emptied VALUES (3, 'in one'); UPDATE whole SET v = 'transaction' WHERE id = 3; INSERT INTO drifts VALUES (2, 'of three', NULL); COMMIT
BEGIN; INSERT INTO emptied VALUES (4, 'never'); ROLLBACK
ALTER TABLE drifts ADD added numeric(6,2) DEFAULT 1.25; INSERT INTO drifts VALUES (3, 'added', 'x', 2.5)
ALTER TABLE drifts DROP gone; UPDATE drifts SET v = 'dropped' WHERE id = 1
ALTER TABLE drifts ALTER v TYPE varchar(10), ALTER added TYPE text; INSERT INTO drifts VALUES (4, 'retyped', 'text')
ALTER TABLE drifts RENAME v TO w; INSERT INTO drifts VALUES (5, 'renamed', NULL)
SELECT pg_logical_emit_message(true, 'greeting', 'hello in a transaction')
SELECT pg_logical_emit_message(false, 'greeting', 'hello')
INSERT INTO debezium_signal VALUES ('snapshot-1', 'execute-snapshot', '{"type": "incremental", "data-collections": ["public.whole", "public.drifts"]}')
