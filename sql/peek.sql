-- Messages of a topic as a person reads them.
CREATE FUNCTION ods.peek(
    server text,
    topic text,
    messages integer DEFAULT 10,
    start text DEFAULT 'latest',
    partition integer DEFAULT NULL
) RETURNS TABLE (partition_number integer, message_offset bigint, written_at timestamptz, key json, value json, headers json, format text, note text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT m.partition_number, m.message_offset, m.written_at, m.key::json, m.value::json, m.headers::json, m.format, m.note
          FROM ods.peek_messages(server, topic, messages, start, partition) m
    $$;
COMMENT ON FUNCTION ods.peek(text, text, integer, text, integer) IS
    'messages of a topic of a Kafka server, decoded, and consumed by nobody; start is latest, earliest, or an offset of one partition';
COMMENT ON FUNCTION ods.peek_messages(text, text, integer, text, integer) IS 'what ods.peek shows, with JSON as text';
REVOKE ALL ON FUNCTION ods.peek(text, text, integer, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION ods.peek_messages(text, text, integer, text, integer) FROM PUBLIC;
