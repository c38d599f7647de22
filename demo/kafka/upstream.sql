-- A shop on MariaDB: who buys, and what of it is paid.
CREATE TABLE customers (
    customer_id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    full_name varchar(100) NOT NULL,
    city varchar(60),
    credit_limit decimal(10, 2) NOT NULL,
    updated_at datetime(6) NOT NULL
);

CREATE TABLE orders (
    order_id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer_id bigint NOT NULL,
    status varchar(10) NOT NULL,
    total decimal(12, 2) NOT NULL,
    placed_at datetime(6) NOT NULL,
    KEY (status, order_id)
);

INSERT INTO customers (full_name, city, credit_limit, updated_at)
SELECT concat(elt(1 + seq % 8, 'Ada', 'Boris', 'Chiara', 'Daan', 'Elif', 'Jonas', 'Noor', 'Zoë'), ' ',
              elt(1 + seq % 7, 'Adler', 'Costa', 'García', 'Müller', 'Novák', 'O''Neill', 'Rossi')),
       elt(1 + seq % 6, 'Berlin', 'Graz', 'Lyon', 'Torino', 'Utrecht', NULL), 500 + seq % 40 * 50, now(6)
FROM seq_1_to_2000;

INSERT INTO orders (customer_id, status, total, placed_at)
SELECT 1 + seq * 7919 % 2000, elt(1 + seq % 4, 'placed', 'paid', 'shipped', 'shipped'), seq % 49000 / 100 + 5,
       now(6) - INTERVAL seq MINUTE
FROM seq_1_to_8000;
