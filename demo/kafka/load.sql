-- What customers do in a moment: one orders, one pays, one moves, one parcel leaves, one order goes.
SET @customer = 1 + floor(pow(rand(), 3) * 2000), @other = 1 + floor(rand() * 2000);
INSERT INTO orders (customer_id, status, total, placed_at) VALUES (@customer, 'placed', round(5 + rand() * 495, 2), now(6));
UPDATE orders SET status = 'paid' WHERE status = 'placed' ORDER BY order_id DESC LIMIT 1;
BEGIN;
UPDATE customers SET city = elt(1 + floor(rand() * 5), 'Berlin', 'Graz', 'Lyon', 'Torino', 'Utrecht'), updated_at = now(6)
WHERE customer_id = @customer;
UPDATE customers SET credit_limit = credit_limit + round(rand() * 10, 2), updated_at = now(6)
WHERE customer_id = @other;
COMMIT;
UPDATE orders SET status = 'shipped' WHERE status = 'paid' ORDER BY order_id LIMIT 1;
DELETE FROM orders WHERE status = 'shipped' ORDER BY order_id LIMIT 1;
