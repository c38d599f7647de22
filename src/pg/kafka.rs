//! The queue of a Kafka consumer, taken event by event.
//!
//! The safe client tells neither the topic nor the offset at which a partition ends, and both must be
//! known to say what has been read. librdkafka fills the queue in threads of its own, which touch nothing
//! of Postgres; all of this runs in the process's one thread.

use rdkafka::bindings as rdsys;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::RDKafkaErrorCode;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// What is written to the wake-up pipe when the queue is no longer empty.
static WAKE: [u8; 1] = [1];

/// The level of errors in syslog.h; worse ones are lower.
const SYSLOG_ERROR: c_int = 3;

/// See the module.
pub struct Queue<C: ConsumerContext + 'static> {
    queue: NonNull<rdsys::rd_kafka_queue_t>,
    /// Where wake-ups are written.
    wake: Option<OwnedFd>,
    /// Must not be destroyed before the queue is given back.
    _consumer: Arc<BaseConsumer<C>>,
}

/// What a queue holds next.
pub enum Event<'q> {
    /// A record.
    Message(Message<'q>),
    /// A partition has been read up to this offset, where it ends for now.
    End {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that is yet to be written.
        offset: i64,
    },
    /// Something went wrong; where it concerns one partition, with it.
    Error {
        /// What.
        code: RDKafkaErrorCode,
        /// In words.
        reason: String,
        /// The partition concerned.
        partition: Option<(String, i32)>,
    },
    /// A line for a log.
    Line {
        /// Whether it tells of an error rather than a warning.
        is_error: bool,
        /// What it says.
        text: String,
    },
    /// Something that concerns nobody here.
    Other,
}

/// A record, which lives in librdkafka's memory.
pub struct Message<'q> {
    event: NonNull<rdsys::rd_kafka_event_t>,
    message: NonNull<rdsys::rd_kafka_message_t>,
    queue: PhantomData<&'q ()>,
}

impl<C: ConsumerContext + 'static> Queue<C> {
    /// The queue of a consumer.
    pub fn of_consumer(consumer: Arc<BaseConsumer<C>>) -> Option<Self> {
        // SAFETY: the handle is alive; the queue is counted by reference and given back in Drop.
        NonNull::new(unsafe { rdsys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) })
            .map(|queue| Self { queue, wake: None, _consumer: consumer })
    }

    /// Has a byte written to `pipe` whenever the queue is no longer empty.
    pub fn wake_by(&mut self, pipe: OwnedFd) {
        // SAFETY: the payload is static, and the descriptor stays open until Drop has had librdkafka forget
        // it. It is written to without waiting, since it is non-blocking.
        unsafe {
            rdsys::rd_kafka_queue_io_event_enable(
                self.queue.as_ptr(),
                pipe.as_raw_fd(),
                WAKE.as_ptr().cast::<c_void>(),
                WAKE.len(),
            );
        }
        self.wake = Some(pipe);
    }

    /// The next event, if there is one.
    pub fn take(&self) -> Option<Event<'_>> {
        // SAFETY: the queue is alive. A timeout of 0 never waits.
        let event = NonNull::new(unsafe { rdsys::rd_kafka_queue_poll(self.queue.as_ptr(), 0) })?;
        // SAFETY: the event is alive until it is destroyed, by the message or below.
        let taken = unsafe {
            match rdsys::rd_kafka_event_type(event.as_ptr()) {
                rdsys::RD_KAFKA_EVENT_FETCH => {
                    let message = rdsys::rd_kafka_event_message_next(event.as_ptr()).cast_mut();
                    match NonNull::new(message) {
                        Some(message) => {
                            let message = Message { event, message, queue: PhantomData };
                            return Some(message.sort());
                        }
                        None => Event::Other,
                    }
                }
                rdsys::RD_KAFKA_EVENT_ERROR => error_of(event),
                rdsys::RD_KAFKA_EVENT_LOG => line_of(event),
                _ => Event::Other,
            }
        };
        // SAFETY: nothing refers to it any more.
        unsafe { rdsys::rd_kafka_event_destroy(event.as_ptr()) };
        Some(taken)
    }
}

impl<C: ConsumerContext + 'static> Drop for Queue<C> {
    fn drop(&mut self) {
        // SAFETY: ours, given back once, before its client is destroyed and the pipe is closed.
        unsafe {
            rdsys::rd_kafka_queue_io_event_enable(self.queue.as_ptr(), -1, ptr::null(), 0);
            rdsys::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// Reads an error event.
///
/// # Safety
///
/// `event` is an error event that is alive.
unsafe fn error_of<'q>(event: NonNull<rdsys::rd_kafka_event_t>) -> Event<'q> {
    // SAFETY: the caller's; the partition is a copy that is ours to destroy.
    unsafe {
        let code = rdsys::rd_kafka_event_error(event.as_ptr());
        let place = NonNull::new(rdsys::rd_kafka_event_topic_partition(event.as_ptr()));
        let partition = place.map(|place| {
            let found = place.as_ref();
            let told = (text(found.topic), found.partition, found.offset);
            rdsys::rd_kafka_topic_partition_destroy(place.as_ptr());
            told
        });
        if code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF
            && let Some((topic, partition, offset)) = partition
        {
            return Event::End { topic, partition, offset };
        }
        let reason = text(rdsys::rd_kafka_event_error_string(event.as_ptr()));
        let partition = partition.map(|(topic, partition, _)| (topic, partition));
        Event::Error { code: code.into(), reason, partition }
    }
}

/// Reads a log event.
///
/// # Safety
///
/// `event` is a log event that is alive.
unsafe fn line_of<'q>(event: NonNull<rdsys::rd_kafka_event_t>) -> Event<'q> {
    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0 as c_int);
    // SAFETY: the caller's; the texts live as long as the event.
    unsafe {
        if rdsys::rd_kafka_event_log(event.as_ptr(), &mut facility, &mut line, &mut level) != 0 {
            return Event::Other;
        }
        Event::Line { is_error: level <= SYSLOG_ERROR, text: text(line) }
    }
}

/// A C string of the library, which writes UTF-8.
///
/// # Safety
///
/// `string` is null or ends with a NUL.
pub(super) unsafe fn text(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(string) }.to_string_lossy().into_owned()
}

/// Bytes of a message; none for a null.
///
/// # Safety
///
/// `length` bytes are readable at `at` for `'a`.
unsafe fn bytes<'a>(at: *const c_void, length: usize) -> Option<&'a [u8]> {
    if at.is_null() {
        return None;
    }
    // SAFETY: the caller's.
    Some(unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) })
}

impl<'q> Message<'q> {
    /// As an event: a message may carry an error in its place.
    fn sort(self) -> Event<'q> {
        // SAFETY: the message is alive as long as its event.
        let message = unsafe { self.message.as_ref() };
        let code = message.err;
        if code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Event::Message(self);
        }
        let (topic, partition) = (self.topic().to_owned(), message.partition);
        if code == rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF {
            return Event::End { topic, partition, offset: message.offset };
        }
        // SAFETY: the text belongs to the message.
        let reason = unsafe { text(rdsys::rd_kafka_message_errstr(self.message.as_ptr())) };
        Event::Error { code: code.into(), reason, partition: Some((topic, partition)) }
    }

    fn raw(&self) -> &rdsys::rd_kafka_message_t {
        // SAFETY: the message is alive as long as its event, which this value owns.
        unsafe { self.message.as_ref() }
    }

    /// The topic's name; names of topics are ASCII.
    pub fn topic(&self) -> &str {
        // SAFETY: the topic's handle and its name live as long as the message.
        unsafe {
            let name = rdsys::rd_kafka_topic_name(self.raw().rkt);
            if name.is_null() { "" } else { CStr::from_ptr(name).to_str().unwrap_or_default() }
        }
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// The record's place in the partition.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        // SAFETY: the library says so of its message.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    /// The value.
    pub fn value(&self) -> Option<&[u8]> {
        // SAFETY: the library says so of its message.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    /// When it was written, in milliseconds since 1970; none where no time is kept.
    pub fn written_ms(&self) -> Option<i64> {
        let mut kind = rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: both live across the call.
        let ms = unsafe { rdsys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        let has_time = kind != rdsys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (has_time && ms >= 0).then_some(ms)
    }

    /// Names and values of the headers, in order.
    pub fn headers(&self) -> Vec<(&str, Option<&[u8]>)> {
        let mut found = Vec::new();
        let mut headers: *mut rdsys::rd_kafka_headers_t = ptr::null_mut();
        // SAFETY: headers, names and values live as long as the message. The walk ends at the first
        // place that has none.
        unsafe {
            let code = rdsys::rd_kafka_message_headers(self.message.as_ptr(), &mut headers);
            if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                return found;
            }
            loop {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0usize);
                let code = rdsys::rd_kafka_header_get_all(
                    headers,
                    found.len(),
                    &mut name,
                    &mut value,
                    &mut size,
                );
                if code != rdsys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null()
                {
                    return found;
                }
                let name = CStr::from_ptr(name).to_str().unwrap_or_default();
                found.push((name, bytes(value, size)));
            }
        }
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: this value owns the event, and the message goes with it.
        unsafe { rdsys::rd_kafka_event_destroy(self.event.as_ptr()) };
    }
}

/// Two ends of a pipe that nobody waits at: what is read from the first was written to the second.
pub fn pipe() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [c_int; 2] = [-1; 2];
    // SAFETY: the array has room for both; on success they are open, and nobody else's.
    unsafe {
        use std::os::fd::FromRawFd;
        if libc::pipe2(ends.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])))
    }
}
