-- The tables. They are adopted: events don't say all of what a column is at its source.
\set ON_ERROR_STOP on

CREATE TABLE customers (
    customer_id bigint PRIMARY KEY,
    full_name text NOT NULL,
    city text,
    credit_limit numeric(10, 2) NOT NULL,
    updated_at timestamp NOT NULL
);

CREATE TABLE orders (
    order_id bigint PRIMARY KEY,
    customer_id bigint NOT NULL,
    status text NOT NULL,
    total numeric(12, 2) NOT NULL,
    placed_at timestamp NOT NULL
);
CREATE INDEX ON orders (customer_id);

SELECT ods.create_synced_table('customers', server => 'shop', source => 'shop.shop.customers', consumer => 'sales desk',
                               start => 'earliest');
SELECT ods.create_synced_table('orders', server => 'shop', source => 'shop.shop.orders', consumer => 'sales desk',
                               start => 'earliest');
SELECT ods.wait_until_loaded('customers');
SELECT ods.wait_until_loaded('orders');
