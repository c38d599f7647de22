-- A restored, cloned or templated database stands fenced until somebody adopts it.
REVOKE ALL ON FUNCTION ods.adopt_database() FROM PUBLIC;
COMMENT ON FUNCTION ods.adopt_database() IS
    'makes a fenced database the owner of streams of its own and reconciles its tables; returns how many';

COMMENT ON FUNCTION ods.fence_reason() IS
    'why this database connects to no source, or null if it may';
