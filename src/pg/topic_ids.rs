//! The ids of topics. A topic that is made anew has another one, which nothing else may tell: its log may
//! have grown past where the old one had been read.

use super::kafka::text;
use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

/// Bytes of what the library says is wrong with an option.
const WORDS: usize = 256;

/// A topic's id as the cluster gives it; none for a topic that is not there, or where brokers are too old
/// to have ids.
pub type Id = Option<(i64, i64)>;

/// The ids of topics by their names. Waits for the answer.
pub fn topic_ids<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topics: &[&str],
    timeout: Duration,
) -> KafkaResult<BTreeMap<String, Id>> {
    let names: Vec<CString> = topics.iter().filter_map(|name| CString::new(*name).ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let handle = client.client().native_ptr();
    // SAFETY: the handle is alive; collection, options and queue are ours and are given back once, behind
    // the last use. The library copies names and options before the call returns.
    unsafe {
        let queue = rdsys::rd_kafka_queue_new(handle);
        let options = rdsys::rd_kafka_AdminOptions_new(
            handle,
            rdsys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut words: [c_char; WORDS] = [0; WORDS];
        rdsys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            millis,
            words.as_mut_ptr(),
            words.len(),
        );
        let asked =
            rdsys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        rdsys::rd_kafka_DescribeTopics(handle, asked, options, queue);
        let event = rdsys::rd_kafka_queue_poll(queue, millis);
        let found = read(event);
        if !event.is_null() {
            rdsys::rd_kafka_event_destroy(event);
        }
        rdsys::rd_kafka_TopicCollection_destroy(asked);
        rdsys::rd_kafka_AdminOptions_destroy(options);
        rdsys::rd_kafka_queue_destroy(queue);
        found
    }
}

/// Reads the answer.
///
/// # Safety
///
/// `event` is null or an event that is alive.
unsafe fn read(event: *mut rdsys::rd_kafka_event_t) -> KafkaResult<BTreeMap<String, Id>> {
    if event.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    }
    // SAFETY: the caller's; all that is read belongs to the event.
    unsafe {
        let code = rdsys::rd_kafka_event_error(event);
        if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::AdminOp(code.into()));
        }
        let mut found = BTreeMap::new();
        let result = rdsys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Ok(found);
        }
        let mut count = 0;
        let topics = rdsys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        for place in 0..count {
            let topic = ptr::read(topics.add(place));
            let error = rdsys::rd_kafka_TopicDescription_error(topic);
            let is_there = rdsys::rd_kafka_error_code(error)
                == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            let id = rdsys::rd_kafka_TopicDescription_topic_id(topic);
            let id = (is_there && !id.is_null()).then(|| {
                (
                    rdsys::rd_kafka_Uuid_most_significant_bits(id),
                    rdsys::rd_kafka_Uuid_least_significant_bits(id),
                )
            });
            let name = text(rdsys::rd_kafka_TopicDescription_name(topic));
            found.insert(name, id.filter(|id| *id != (0, 0)));
        }
        Ok(found)
    }
}
