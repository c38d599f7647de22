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
