-- One step a line, each a session of its own, after the snapshot. Year 0 comes only here: in a snapshot
-- Debezium 3.5 stops at it.
SET sql_mode = ''; CREATE TEMPORARY TABLE again AS SELECT * FROM wide; UPDATE again SET id = id + 10; ALTER TABLE again DROP c_stored, DROP c_virtual; SELECT GROUP_CONCAT(CONCAT('`', column_name, '`') ORDER BY ordinal_position) INTO @c FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'wide' AND is_generated = 'NEVER'; EXECUTE IMMEDIATE CONCAT('INSERT INTO wide (', @c, ') SELECT ', @c, ' FROM again ORDER BY id')
UPDATE wide SET c_decimal = c_decimal + 0.01, c_text = 'updated' WHERE id = 1
UPDATE wide SET id = 100 WHERE id = 2
DELETE FROM wide WHERE id = 3
UPDATE wide SET c_year = 0 WHERE id = 5
UPDATE whole SET v = 'uno' WHERE id = 1
UPDATE whole SET id = 3, v = 'moved' WHERE id = 2
DELETE FROM whole WHERE id = 1
UPDATE keyless SET n = 2.25
INSERT INTO keyless VALUES ('a', 2.25), (NULL, NULL)
DELETE FROM keyless WHERE v = 'a'
UPDATE `Odd Näme` SET `a.b` = 2.5 WHERE `k 2` = 1
UPDATE `Odd Näme` SET `the-key` = 'moved' WHERE `k 2` > 1
DELETE FROM `Odd Näme` WHERE `k 2` = 1
TRUNCATE emptied
INSERT INTO emptied VALUES (2, 'after')
BEGIN; INSERT INTO emptied VALUES (3, 'in one'); UPDATE whole SET v = 'transaction' WHERE id = 3; INSERT INTO drifts VALUES (2, 'of three', NULL); COMMIT
BEGIN; INSERT INTO emptied VALUES (4, 'never'); ROLLBACK
ALTER TABLE drifts ADD added decimal(6,2) DEFAULT 1.25; INSERT INTO drifts VALUES (3, 'added', 'x', 2.5)
ALTER TABLE drifts DROP gone; UPDATE drifts SET v = 'dropped' WHERE id = 1
ALTER TABLE drifts MODIFY v text, MODIFY added varchar(20); INSERT INTO drifts VALUES (4, 'retyped', 'text')
ALTER TABLE drifts CHANGE v w text; INSERT INTO drifts VALUES (5, 'renamed', NULL)
INSERT INTO debezium_signal VALUES ('snapshot-1', 'execute-snapshot', CONCAT('{"type": "incremental", "data-collections": ["', DATABASE(), '.whole", "', DATABASE(), '.drifts"]}'))
