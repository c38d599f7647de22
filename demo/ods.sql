-- All that it takes on the side of ods.
\set ON_ERROR_STOP on
\getenv password ODS_DEMO_PASSWORD
\getenv port ODS_DEMO_SOURCE_PORT

CREATE EXTENSION ods;

CREATE SERVER crm FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '127.0.0.1', port :'port', dbname 'crm');
CREATE SERVER shop FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '127.0.0.1', port :'port', dbname 'shop');
CREATE SERVER support FOREIGN DATA WRAPPER ods_postgres OPTIONS (host '127.0.0.1', port :'port', dbname 'support');
CREATE USER MAPPING FOR CURRENT_USER SERVER crm OPTIONS (user 'replicator', password :'password');
CREATE USER MAPPING FOR CURRENT_USER SERVER shop OPTIONS (user 'replicator', password :'password');
CREATE USER MAPPING FOR CURRENT_USER SERVER support OPTIONS (user 'replicator', password :'password');

SELECT ods.create_synced_table(target, server => server, source => source, consumer => 'support cockpit',
                               tier => tier, max_staleness => max_staleness::interval)
FROM (VALUES
    ('customers', 'crm', 'public.customers', 'real-time', '5 seconds'),
    ('addresses', 'crm', 'public.addresses', 'near-real-time', '1 minute'),
    ('consents', 'crm', 'public.consents', 'real-time', '5 seconds'),
    ('products', 'shop', 'public.products', 'near-real-time', '1 minute'),
    ('orders', 'shop', 'public.orders', 'real-time', '5 seconds'),
    ('order_items', 'shop', 'public.order_items', 'near-real-time', '1 minute'),
    ('payments', 'shop', 'public.payments', 'real-time', '5 seconds'),
    ('agents', 'support', 'public.agents', 'near-real-time', '1 hour'),
    ('cases', 'support', 'public.cases', 'real-time', '5 seconds'),
    ('case_messages', 'support', 'public.case_messages', 'near-real-time', '1 minute')
) AS wanted (target, server, source, tier, max_staleness);
