-- What workers tell about themselves, for the status views.
-- A view calls functions with the rights of whoever reads the view, so that these are for all.
COMMENT ON FUNCTION ods.stream_board() IS 'Streams of this database as their workers tell them; ods.stream_status reads it';
COMMENT ON FUNCTION ods.maintenance_board() IS 'The maintenance worker of this database and why it waits, where it does';

REVOKE ALL ON FUNCTION ods.wake() FROM PUBLIC;
COMMENT ON FUNCTION ods.wake() IS 'Has the workers of this database read the catalog again once the transaction has committed';

-- The launcher learns of a new database at the commit of CREATE EXTENSION.
SELECT ods.wake();
