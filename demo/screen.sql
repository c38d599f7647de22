-- One frame: how fresh each table is, then one question across three systems.
\pset border 0
\pset footer off
\pset null ''

SELECT table_name, server, state, rows_applied, lag_bytes,
       round(extract(epoch FROM staleness)::numeric, 1) AS stale_s, left(last_error, 40) AS last_error
FROM ods.sync_status ORDER BY server, table_name::text;

SELECT c.customer_id, c.full_name AS customer, a.city, o.orders, o.ordered, p.paid, o.ordered - p.paid AS owed,
       k.open_cases, k.latest AS latest_open_case
FROM customers AS c
CROSS JOIN LATERAL (
    SELECT count(*) AS open_cases, max(opened_at) AS opened_at, (array_agg(subject ORDER BY opened_at DESC))[1] AS latest
    FROM cases WHERE cases.customer_id = c.customer_id AND status <> 'closed'
) AS k
CROSS JOIN LATERAL (
    SELECT count(*) AS orders, coalesce(sum(total), 0) AS ordered
    FROM orders WHERE orders.customer_id = c.customer_id AND status <> 'cancelled'
) AS o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(amount), 0) AS paid
    FROM payments JOIN orders USING (order_id) WHERE orders.customer_id = c.customer_id AND orders.status <> 'cancelled'
) AS p
LEFT JOIN addresses AS a ON a.customer_id = c.customer_id AND a.kind = 'billing'
WHERE c.customer_id IN (
    SELECT customer_id FROM cases WHERE status <> 'closed' GROUP BY customer_id ORDER BY max(opened_at) DESC LIMIT 8
)
ORDER BY k.opened_at DESC;
