-- One frame: how fresh each table is, then who has spent the most of late.
\pset border 0
\pset footer off
\pset null ''

SELECT table_name, server, state, rows_applied, lag_messages,
       round(extract(epoch FROM staleness)::numeric, 1) AS stale_s, left(last_error, 40) AS last_error
FROM ods.sync_status ORDER BY table_name::text;

SELECT c.customer_id, c.full_name AS customer, c.city, c.credit_limit, count(*) AS orders, sum(o.total) AS ordered,
       sum(o.total) FILTER (WHERE o.status = 'placed') AS unpaid, max(o.placed_at)::timestamp(0) AS latest
FROM customers AS c JOIN orders AS o USING (customer_id)
GROUP BY c.customer_id ORDER BY max(o.placed_at) DESC, c.customer_id LIMIT 8;
