-- What OPTIONS of a server and of a user mapping may hold, and who may write it.
CREATE ROLE regress_ods_plain;
GRANT USAGE ON FOREIGN DATA WRAPPER ods_postgres TO regress_ods_plain;
GRANT USAGE ON SCHEMA ods TO regress_ods_plain;

-- ordinary options
CREATE SERVER regress_crm FOREIGN DATA WRAPPER ods_postgres
    OPTIONS (host '192.0.2.1', port '5432', dbname 'crm', sslmode 'verify-full', connect_timeout '5',
             publication 'Mixed Case', slot_name 'ods_crm', heartbeat_interval '2s');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (user 'replicator', password 'not shown');

-- unknown ones, with the closest valid name
\set VERBOSITY default
ALTER SERVER regress_crm OPTIONS (ADD hots 'x');
ALTER SERVER regress_crm OPTIONS (ADD colour 'x');
ALTER USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (ADD pasword 'not shown');
\set VERBOSITY terse

-- dangerous ones, for superusers too
ALTER SERVER regress_crm OPTIONS (ADD passfile '/etc/passwd');
ALTER SERVER regress_crm OPTIONS (ADD service 'x');
ALTER SERVER regress_crm OPTIONS (ADD options '-c search_path=evil');
ALTER SERVER regress_crm OPTIONS (ADD replication 'true');
ALTER SERVER regress_crm OPTIONS (ADD client_encoding 'LATIN1');
ALTER SERVER regress_crm OPTIONS (ADD fallback_application_name 'x');
ALTER SERVER regress_crm OPTIONS (ADD sslcompression '1');
ALTER USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (ADD passfile '/etc/passwd');

-- each in its place: secrets never on a server, where everybody reads them
\set VERBOSITY default
ALTER SERVER regress_crm OPTIONS (ADD password 'not shown');
ALTER USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (ADD host '192.0.2.2');
\set VERBOSITY terse
ALTER SERVER regress_crm OPTIONS (ADD user 'x');
ALTER SERVER regress_crm OPTIONS (ADD sslkey '/x');

-- values of the wrong form
\set VERBOSITY default
ALTER SERVER regress_crm OPTIONS (SET port '0');
ALTER SERVER regress_crm OPTIONS (SET sslmode 'sometimes');
ALTER SERVER regress_crm OPTIONS (SET slot_name 'Not A Slot');
ALTER SERVER regress_crm OPTIONS (SET heartbeat_interval '50ms');
\set VERBOSITY terse
ALTER SERVER regress_crm OPTIONS (SET heartbeat_interval '2h');
ALTER SERVER regress_crm OPTIONS (SET heartbeat_interval '5');
ALTER SERVER regress_crm OPTIONS (SET publication '');
ALTER SERVER regress_crm OPTIONS (SET connect_timeout 'soon');
ALTER USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (ADD password_required 'maybe');

-- files, and access without a password, are a superuser's to give
ALTER SERVER regress_crm OPTIONS (ADD sslrootcert '/etc/ssl/ca.pem');
ALTER USER MAPPING FOR CURRENT_USER SERVER regress_crm OPTIONS (ADD password_required 'false');
SET ROLE regress_ods_plain;
CREATE SERVER regress_plain FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '192.0.2.1', sslrootcert '/etc/passwd');
CREATE SERVER regress_plain FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '192.0.2.1', sslcrl '/etc/passwd');
CREATE SERVER regress_plain FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '192.0.2.1');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_plain OPTIONS (sslcert '/x', sslkey '/x');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_plain OPTIONS (user 'u', password_required 'false');
CREATE USER MAPPING FOR CURRENT_USER SERVER regress_plain OPTIONS (user 'u', password_required 'true');

-- reading a source is granted, and needs the server, a mapping and a password
SELECT * FROM ods.discover('regress_plain');
RESET ROLE;
GRANT EXECUTE ON FUNCTION ods.discover(text), ods.check_server(text, text[]) TO regress_ods_plain;
SET ROLE regress_ods_plain;
\set VERBOSITY default
SELECT * FROM ods.discover('regress_crm');
SELECT * FROM ods.discover('regress_plain');
DROP USER MAPPING FOR CURRENT_USER SERVER regress_plain;
SELECT * FROM ods.discover('regress_plain');
SELECT check_name, met, detail FROM ods.check_server('regress_plain') WHERE check_name = 'user mapping';
SELECT * FROM ods.discover('regress_missing');
\set VERBOSITY terse
SELECT * FROM ods.check_server('regress_plain', ARRAY['no name']);
RESET ROLE;

-- servers of another wrapper are none of ours; the wrapper itself has no options
CREATE FOREIGN DATA WRAPPER regress_other;
CREATE SERVER regress_other FOREIGN DATA WRAPPER regress_other;
SELECT * FROM ods.discover('regress_other');
ALTER FOREIGN DATA WRAPPER ods_postgres OPTIONS (ADD host 'x');

DROP FOREIGN DATA WRAPPER regress_other CASCADE;
DROP SERVER regress_plain CASCADE;
DROP SERVER regress_crm CASCADE;
REVOKE ALL ON FUNCTION ods.discover(text), ods.check_server(text, text[]) FROM regress_ods_plain;
REVOKE ALL ON SCHEMA ods FROM regress_ods_plain;
REVOKE ALL ON FOREIGN DATA WRAPPER ods_postgres FROM regress_ods_plain;
DROP ROLE regress_ods_plain;
