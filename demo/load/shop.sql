\set what random(1, 100)
\set customer random_zipfian(1, 20000, 1.05)
\set product random(1, 2000)
\set quantity random(1, 4)
\if :what <= 40
BEGIN;
INSERT INTO orders (customer_id) VALUES (:customer) RETURNING order_id \gset new_
INSERT INTO order_items SELECT :new_order_id, 1, product_id, :quantity, price FROM products WHERE product_id = :product;
INSERT INTO order_items SELECT :new_order_id, 2, product_id, 1, price FROM products WHERE product_id = 1 + :product % 2000;
UPDATE orders SET total = (SELECT sum(quantity * unit_price) FROM order_items WHERE order_id = :new_order_id)
WHERE order_id = :new_order_id;
UPDATE products SET stock = stock - :quantity WHERE product_id = :product;
COMMIT;
\elif :what <= 75
WITH paid AS (
    UPDATE orders SET status = 'paid'
    WHERE order_id = (SELECT order_id FROM orders WHERE status = 'placed' ORDER BY order_id DESC LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING order_id, total
)
INSERT INTO payments (order_id, method, amount) SELECT order_id, 'card', total FROM paid;
\elif :what <= 90
UPDATE orders SET status = 'shipped', shipped_at = now()
WHERE order_id = (SELECT order_id FROM orders WHERE status = 'paid' ORDER BY order_id DESC LIMIT 1 FOR UPDATE SKIP LOCKED);
\elif :what <= 96
UPDATE products SET price = round(price * (0.95 + :quantity * 0.02), 2), stock = stock + 10 WHERE product_id = :product;
\else
DELETE FROM orders WHERE order_id = (SELECT min(order_id) FROM orders WHERE status = 'cancelled');
\endif
