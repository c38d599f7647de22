\set what random(1, 100)
\set customer random_zipfian(1, 20000, 1.05)
\set case_id random(1, 15000)
\if :what <= 30
BEGIN;
INSERT INTO cases (customer_id, agent_id, subject, priority)
VALUES (:customer, 1 + :what, 'Where is my parcel?', 1 + :what % 5) RETURNING case_id \gset new_
INSERT INTO case_messages (case_id, message_no, author, body) VALUES (:new_case_id, 1, 'customer', 'It should be here by now.');
COMMIT;
\elif :what <= 70
INSERT INTO case_messages (case_id, message_no, author, body)
SELECT :case_id, coalesce(max(message_no), 0) + 1, 'agent', 'We are looking into it.' FROM case_messages WHERE case_id = :case_id
ON CONFLICT DO NOTHING;
\elif :what <= 95
UPDATE cases SET status = 'closed', closed_at = now()
WHERE case_id = (SELECT case_id FROM cases WHERE status = 'open' ORDER BY opened_at DESC LIMIT 1 FOR UPDATE SKIP LOCKED);
\else
UPDATE cases SET agent_id = 1 + :what % 40, priority = 1 WHERE case_id = :case_id;
\endif
