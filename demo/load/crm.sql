\set what random(1, 100)
\set customer random_zipfian(1, 20000, 1.05)
\if :what <= 45
UPDATE consents SET granted = NOT granted, changed_at = now()
WHERE customer_id = :customer AND purpose = (ARRAY['newsletter', 'profiling', 'partners'])[1 + :what % 3];
\elif :what <= 75
BEGIN;
UPDATE addresses SET street = 'Neue Straße ' || :what WHERE customer_id = :customer AND kind = 'billing';
UPDATE customers SET updated_at = now() WHERE customer_id = :customer;
COMMIT;
\elif :what <= 95
BEGIN;
INSERT INTO customers (full_name, email) VALUES ('New Customer', gen_random_uuid() || '@example.org') RETURNING customer_id \gset new_
INSERT INTO addresses (customer_id, kind, street, postcode, city, country)
VALUES (:new_customer_id, 'billing', 'Bahnhofstraße 1', '10115', 'Berlin', 'DE');
INSERT INTO consents (customer_id, purpose, granted) VALUES (:new_customer_id, 'newsletter', true);
COMMIT;
\else
-- The right to be forgotten.
DELETE FROM customers WHERE customer_id = (SELECT max(customer_id) FROM customers WHERE customer_id > 20000);
\endif
