-- What is fresh, what is not, and why. Rows are those of tables that the caller may read, and the
-- barrier keeps a caller's own functions from seeing others first.

-- A lock that a worker waits for: who holds it, and what they run.
CREATE VIEW ods.lock_wait AS
SELECT b.stream_id,
       pg_catalog.format('waits for a lock held by process %s (%s): %s',
           holder.pid, holder.usename, pg_catalog.left(holder.query, 200)) AS reason,
       pg_catalog.clock_timestamp() - waiting.waitstart AS waited
  FROM ods.stream_board() b
  JOIN pg_catalog.pg_locks waiting ON waiting.pid = b.pid AND NOT waiting.granted
  CROSS JOIN LATERAL (SELECT a.pid, a.usename, a.query
                        FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(b.pid)) AS blocking(pid)
                        JOIN pg_catalog.pg_stat_activity a ON a.pid = blocking.pid
                       LIMIT 1) AS holder
 WHERE pg_catalog.clock_timestamp() - waiting.waitstart > pg_catalog.current_setting('ods.lock_wait_warning')::interval;
REVOKE ALL ON ods.lock_wait FROM PUBLIC;
COMMENT ON VIEW ods.lock_wait IS 'Stream workers that have waited for a lock longer than ods.lock_wait_warning, and for whom';

CREATE VIEW ods.stream_status AS
SELECT s.server_name AS server,
       s.stream_name AS stream,
       CASE WHEN f.reason IS NOT NULL THEN 'fenced'
            WHEN m.state = 'refused' THEN 'failed'
            WHEN b.stream_id IS NULL AND m.reason IS NOT NULL THEN 'waiting'
            WHEN w.reason IS NOT NULL OR b.busy_since IS NOT NULL THEN 'stalled'
            ELSE coalesce(b.state, 'starting') END AS state,
       coalesce(f.reason, CASE WHEN m.state = 'refused' OR b.stream_id IS NULL THEN m.reason END, w.reason,
           'its worker (process ' || b.pid || ') has been busy since ' || b.busy_since, nullif(b.reason, '')) AS reason,
       p.position,
       p.fresh_as_of,
       CASE WHEN p.fresh_as_of IS NOT NULL
            THEN greatest(pg_catalog.clock_timestamp() + coalesce(k.clock_skew, interval '0') - p.fresh_as_of, interval '0') END AS staleness,
       CASE WHEN b.source_end IS NOT NULL AND p.position IS NOT NULL
            THEN greatest(b.source_end - (p.position::pg_catalog.pg_lsn - '0/0'::pg_catalog.pg_lsn), 0)::bigint END AS lag_bytes,
       b.rows_applied,
       b.transactions,
       b.pid,
       b.since,
       b.last_message_at,
       k.clock_skew
  FROM ods.stream s
  LEFT JOIN ods.stream_position p USING (stream_id)
  LEFT JOIN ods.stream_board() b USING (stream_id)
  LEFT JOIN ods.maintenance_board() m ON true
  LEFT JOIN (SELECT l.stream_id, pg_catalog.min(l.reason) AS reason FROM ods.lock_wait l GROUP BY 1) w USING (stream_id)
  CROSS JOIN LATERAL (SELECT pg_catalog.make_interval(secs => b.clock_skew_us / 1e6) AS clock_skew) k
  CROSS JOIN (SELECT ods.fence_reason() AS reason) f;
COMMENT ON VIEW ods.stream_status IS 'One row a stream: what it does, why, where it stands and how old that is';

CREATE VIEW ods.sync_status WITH (security_barrier) AS
SELECT t.relation AS table_name,
       s.server,
       CASE WHEN t.source_schema = '' THEN t.source_table
            ELSE pg_catalog.format('%I.%I', t.source_schema, t.source_table) END AS source,
       CASE WHEN s.state = 'fenced' THEN 'fenced'
            WHEN ts.state IN ('paused', 'failed') THEN ts.state
            WHEN s.state IN ('failed', 'stalled') THEN s.state
            WHEN ts.state = 'loading' THEN 'loading'
            WHEN s.state IN ('starting', 'connecting', 'waiting', 'stopped') THEN 'stalled'
            ELSE s.state END AS state,
       CASE WHEN s.state <> 'fenced' AND ts.state IN ('paused', 'failed') THEN ts.reason
            WHEN ts.state = 'loading' AND s.state <> 'fenced'
            THEN nullif(pg_catalog.concat_ws('; ', s.reason, ts.reason, l.progress, k.progress), '')
            ELSE nullif(pg_catalog.concat_ws('; ', s.reason, d.reason, x.reason, k.reason), '') END AS reason,
       f.fresh_as_of,
       CASE WHEN f.fresh_as_of IS NOT NULL
            THEN greatest(pg_catalog.clock_timestamp() + coalesce(s.clock_skew, interval '0') - f.fresh_as_of, interval '0') END AS staleness,
       s.lag_bytes,
       k.lag_messages,
       ts.rows_applied,
       l.rows_done AS rows_loaded,
       l.rows_estimated,
       coalesce(r.rereads, 0) AS rereads,
       coalesce(d.letters, 0) AS dead_letters,
       ts.last_error,
       ts.fix,
       t.consumer,
       t.tier,
       t.max_staleness,
       ts.since
  FROM ods.synced_table t
  -- A resync that somebody asked for takes nothing away from how fresh the rows are.
  JOIN (SELECT x.*, x.state = 'live' OR (x.resync = 'asked' AND x.fresh_as_of IS NULL) AS is_followed
          FROM ods.table_state x) ts USING (table_id)
  JOIN ods.stream st USING (stream_id)
  JOIN ods.stream_status s ON s.server = st.server_name AND s.stream = st.stream_name
  -- A topic's table is as fresh as what its connector has told, which other topics of it may have told.
  LEFT JOIN LATERAL (
       SELECT c.fresh_as_of,
              pg_catalog.sum(greatest(p.end_offset - p.next_offset, 0))::bigint AS lag_messages,
              nullif(pg_catalog.sum(greatest(p.loads_to - p.next_offset, 0)), 0) || ' messages to read' AS progress,
              CASE WHEN c.fresh_as_of IS NULL
                   THEN 'no event has told a time of its source, so that nothing proves how fresh it is'
                   WHEN s.state = 'idle' AND pg_catalog.clock_timestamp() - c.fresh_as_of > interval '1 minute'
                   THEN 'no event has told a later time of its source: a heartbeat of the source itself would (heartbeat.action.query)'
                   END AS reason
         FROM ods.topic_source o
         LEFT JOIN ods.connector_position c ON c.stream_id = t.stream_id AND c.connector = o.connector
         LEFT JOIN ods.partition_position p ON p.table_id = o.table_id
        WHERE o.table_id = t.table_id
        GROUP BY c.fresh_as_of) k ON true
  CROSS JOIN LATERAL (
       SELECT CASE WHEN ts.is_followed THEN coalesce(k.fresh_as_of, s.fresh_as_of) ELSE ts.fresh_as_of END AS fresh_as_of) f
  -- The estimate is as old as the last ANALYZE at the source; it is none where there was none.
  LEFT JOIN LATERAL (
       SELECT d.rows_done, d.rows_estimated,
              pg_catalog.concat_ws(', ',
                  pg_catalog.concat(d.rows_done, ' of about ' || d.rows_estimated, ' rows read'),
                  pg_catalog.round(ts.load_rate::numeric) || ' rows/s',
                  pg_catalog.make_interval(secs => pg_catalog.round(
                      ((d.rows_estimated - d.rows_done) / nullif(ts.load_rate, 0))::numeric)::double precision) || ' left') AS progress
         FROM (SELECT pg_catalog.sum(m.rows_done)::bigint AS rows_done,
                      nullif(greatest(pg_catalog.sum(m.rows_estimated), pg_catalog.sum(m.rows_done)), pg_catalog.sum(m.rows_done))::bigint AS rows_estimated
                 FROM ods.source_member m
                WHERE m.table_id = t.table_id AND ts.state = 'loading') d
        WHERE d.rows_done > 0) l ON true
  LEFT JOIN LATERAL (
       SELECT pg_catalog.count(*) AS letters,
              CASE WHEN pg_catalog.count(*) > 0
                   THEN pg_catalog.count(*) || ' changes could not be applied, see ods.dead_letters' END AS reason
         FROM ods.dead_letter dl
        WHERE dl.table_id = t.table_id) d ON true
  LEFT JOIN LATERAL (
       SELECT 'yet to be built: index ' || pg_catalog.string_agg(i.index_name, ', ' ORDER BY i.index_name) AS reason
         FROM ods.deferred_index i
        WHERE i.table_id = t.table_id) x ON true
  LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS rereads FROM ods.reread x WHERE x.table_id = t.table_id) r ON true
 WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT');
COMMENT ON VIEW ods.sync_status IS 'One row a synced table: what it does, why, how old it is, how far its load has come';

CREATE VIEW ods.partitions WITH (security_barrier) AS
SELECT t.relation AS table_name, s.server_name AS server, p.topic, p.partition_number, p.next_offset, p.end_offset,
       greatest(p.end_offset - p.next_offset, 0) AS lag_messages, p.loads_to
  FROM ods.partition_position p
  JOIN ods.synced_table t USING (table_id)
  JOIN ods.stream s USING (stream_id)
 WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT');
COMMENT ON VIEW ods.partitions IS 'Where synced tables stand in the partitions of their topics: the next offset to read, and where each ended when that was last heard';

CREATE VIEW ods.verifications WITH (security_barrier) AS
SELECT v.relation AS table_name, v.began, v.ended, v.rows_compared, v.missing, v.differing, v.phantom, v.undecided,
       v.repaired, v.error, s.every, s.next_at
  FROM ods.verification v
  LEFT JOIN ods.verify_schedule s USING (table_id)
 WHERE pg_catalog.has_table_privilege(v.relation, 'SELECT');
COMMENT ON VIEW ods.verifications IS 'Comparisons of synced tables with their sources, and what each came to';

CREATE VIEW ods.incidents WITH (security_barrier) AS
SELECT i.at, coalesce(i.relation::text, i.table_name) AS table_name, s.server_name AS server, i.kind, i.message, i.fix
  FROM ods.incident i
  LEFT JOIN ods.stream s USING (stream_id)
 WHERE i.relation IS NULL OR pg_catalog.has_table_privilege(i.relation, 'SELECT');
COMMENT ON VIEW ods.incidents IS 'What happened that a person may want to know, newest last, with what to do about it';

-- Rows of their tables are in them, so that they are for those who may read these. Records may hold more
-- than the table does: they are for its owner.
CREATE VIEW ods.dead_letters WITH (security_barrier) AS
SELECT d.letter_id AS id,
       t.relation AS table_name,
       d.key,
       d.error,
       d.position,
       d.operation,
       d.new_row,
       d.old_row,
       d.other_key,
       d.sqlstate,
       d.committed_at,
       d.at,
       d.topic,
       d.partition_number,
       d.record_offset,
       CASE WHEN o.owns THEN d.raw_key END AS raw_key,
       CASE WHEN o.owns THEN d.raw_value END AS raw_value,
       CASE WHEN o.owns THEN d.headers END AS headers,
       d.written_at
  FROM ods.dead_letter d
  JOIN ods.synced_table t USING (table_id)
  JOIN pg_catalog.pg_class c ON c.oid = t.relation
  CROSS JOIN LATERAL (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') AS owns) o
 WHERE pg_catalog.has_table_privilege(t.relation, 'SELECT');
COMMENT ON VIEW ods.dead_letters IS 'One row a change that could not be applied and is kept; its key is parked until it is retried, healed or discarded';
