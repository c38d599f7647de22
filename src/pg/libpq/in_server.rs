//! Run inside a server, against that server.

#[pgrx::pg_schema]
mod tests {
    use super::super::*;
    use crate::error::OdsError;
    use crate::pg::wait::WaitSet;
    use pgrx::prelude::*;
    use std::time::Duration;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    fn setting(name: &str) -> String {
        Spi::get_one_with_args("SELECT current_setting($1)", &[name.into()]).unwrap().unwrap()
    }

    fn connect(more: &[(&str, &str)]) -> Connection {
        let sockets = setting("unix_socket_directories");
        let host = sockets.split(',').next().unwrap().trim().to_owned();
        let user: String = Spi::get_one("SELECT current_user::text").unwrap().unwrap();
        let database: String = Spi::get_one("SELECT current_database()::text").unwrap().unwrap();
        let port = setting("port");
        let mut parameters: Vec<(&str, &str)> =
            vec![("host", &host), ("port", &port), ("user", &user), ("dbname", &database)];
        parameters.extend(more);
        Connection::open(&parameters, soon()).unwrap()
    }

    #[pg_test]
    fn queries_give_rows() {
        let mut connection = connect(&[]);
        let rows =
            connection.query("SELECT $1::int + 1, $2::text", &[Some("41"), None], soon()).unwrap();
        assert_eq!((rows.len(), rows.width()), (1, 2));
        assert_eq!(rows.parse::<i32>(0, 0).unwrap(), 42);
        assert_eq!(rows.get(0, 1), None);
        assert_eq!(rows.get(1, 0), None);
        assert_eq!(rows.get(0, 2), None);
        let last = connection.query("SELECT 1; SELECT 2", &[], soon()).unwrap();
        assert_eq!(last.get(0, 0), Some("2"));
        assert!(!connection.used_password());
        assert!(connection.server_version() >= 150_000);
        assert!(connection.backend_pid() > 0);
        assert_eq!(connection.parameter_status(c"integer_datetimes").as_deref(), Some("on"));
    }

    #[pg_test]
    fn errors_keep_the_connection_and_hide_rows() {
        let mut connection = connect(&[]);
        let error = connection.query("SELECT nothing", &[], soon()).err().unwrap();
        assert_eq!(error.sqlstate(), Some("42703"));
        let error = connection.query("SELECT 'secret'::int", &[], soon()).err().unwrap();
        assert_eq!(error.sqlstate(), Some("22P02"));
        assert!(!format!("{:?} {error:?}", OdsError::from(error.clone())).contains("secret"));
        assert!(matches!(connection.query("SELECT '\0'", &[], soon()), Err(PqError::ZeroByte)));
        assert!(connection.status_ok());
        assert!(connection.query("SELECT 1", &[], soon()).is_ok());
    }

    #[pg_test]
    fn a_deadline_ends_a_statement() {
        let mut connection = connect(&[]);
        let deadline = Deadline::after(Duration::from_millis(50));
        let error = connection.query("SELECT pg_sleep(60)", &[], deadline).err().unwrap();
        assert!(matches!(error, PqError::TimedOut(_)), "{error:?}");
        assert!(!connection.status_ok());
    }

    #[pg_test]
    fn a_terminated_session_is_lost() {
        let (mut victim, mut other) = (connect(&[]), connect(&[]));
        let sql = format!("SELECT pg_terminate_backend({}, 10000)", victim.backend_pid());
        other.query(&sql, &[], soon()).unwrap();
        let error = victim.query("SELECT 1", &[], soon()).err().unwrap();
        assert!(matches!(error, PqError::Lost(_)), "{error:?}");
        assert!(!victim.status_ok());
        let error = victim.query("SELECT 1", &[], soon()).err().unwrap();
        assert!(matches!(error, PqError::Lost(_)), "{error:?}");
        // Whether its socket is closed by now or only at its end, a wait on it ends.
        assert!(WaitSet::new().wait(&[victim.watch(Interest::Read)], soon()).is_ready(0));
    }

    /// Waits until the connection has something, as an event loop does.
    fn await_input(set: &mut WaitSet, connection: &mut Connection) {
        let deadline = soon();
        while !set.wait(&[connection.watch(Interest::Read)], deadline).is_ready(0) {
            assert!(!deadline.is_past());
        }
        connection.consume_input().unwrap();
    }

    fn next_step(set: &mut WaitSet, connection: &mut Connection) -> Step {
        loop {
            match connection.next_result().unwrap() {
                Step::WouldBlock => await_input(set, connection),
                step => return step,
            }
        }
    }

    #[pg_test]
    fn a_copy_streams_without_blocking() {
        let mut set = WaitSet::new();
        let mut connection = connect(&[]);
        let sql = "COPY (SELECT g, repeat('x', 1000) FROM generate_series(1, 5000) g) TO STDOUT";
        connection.send_query(sql).unwrap();
        assert_eq!(connection.flush().unwrap(), Flush::Done);
        assert!(matches!(next_step(&mut set, &mut connection), Step::CopyOut));
        let mut rows = 0;
        loop {
            match connection.get_copy_data().unwrap() {
                CopyPoll::Row(row) => {
                    rows += 1;
                    assert!(
                        row.starts_with(format!("{rows}\tx").as_bytes()) && row.ends_with(b"\n")
                    );
                }
                CopyPoll::WouldBlock => await_input(&mut set, &mut connection),
                CopyPoll::End => break,
            }
        }
        assert_eq!(rows, 5000);
        assert!(matches!(next_step(&mut set, &mut connection), Step::Rows(_)));
        assert!(matches!(next_step(&mut set, &mut connection), Step::Done));
        assert!(connection.query("SELECT 1", &[], soon()).is_ok());
    }

    #[pg_test]
    fn a_replication_stream_goes_both_ways() {
        let mut set = WaitSet::new();
        let mut connection = connect(&[("replication", "database")]);
        let rows = connection.query("IDENTIFY_SYSTEM", &[], soon()).unwrap();
        let sql = format!("START_REPLICATION PHYSICAL {}", rows.get(0, 2).unwrap());
        connection.send_query(&sql).unwrap();
        connection.flush().unwrap();
        assert!(matches!(next_step(&mut set, &mut connection), Step::CopyBoth));
        // A standby status update that asks for an answer.
        let mut status = vec![b'r'];
        status.extend([0; 32]);
        status.push(1);
        assert_eq!(connection.put_copy_data(&status).unwrap(), Put::Queued);
        connection.flush().unwrap();
        loop {
            match connection.get_copy_data().unwrap() {
                CopyPoll::Row(message) if message[0] == b'k' => break,
                CopyPoll::Row(_) => {}
                CopyPoll::WouldBlock => await_input(&mut set, &mut connection),
                CopyPoll::End => panic!("the stream ended"),
            }
        }
        connection.put_copy_end().unwrap();
        connection.flush().unwrap();
        loop {
            match connection.get_copy_data().unwrap() {
                CopyPoll::End => break,
                CopyPoll::Row(_) => {}
                CopyPoll::WouldBlock => await_input(&mut set, &mut connection),
            }
        }
    }

    #[pg_test]
    fn a_wait_tells_which_socket_is_ready() {
        let (mut quiet, mut busy) = (connect(&[]), connect(&[]));
        let mut set = WaitSet::new();
        let watches =
            |a: &Connection, b: &Connection| [a.watch(Interest::Read), b.watch(Interest::Read)];
        let wake = set.wait(&watches(&quiet, &busy), Deadline::after(Duration::from_millis(20)));
        assert!(wake.latch || wake.is_timeout());
        busy.send_query("SELECT 1").unwrap();
        busy.flush().unwrap();
        let deadline = soon();
        let wake = loop {
            let wake = set.wait(&watches(&quiet, &busy), deadline);
            if !wake.latch {
                break wake;
            }
        };
        assert!(wake.is_ready(1) && !wake.is_ready(0) && !wake.is_timeout());
        // A new connection may get the descriptor of a closed one: the set must not be taken in.
        drop(busy);
        let mut busy = connect(&[]);
        busy.send_query("SELECT 1").unwrap();
        busy.flush().unwrap();
        while !set.wait(&watches(&quiet, &busy), deadline).is_ready(1) {
            assert!(!deadline.is_past());
        }
        quiet.query("SELECT 1", &[], soon()).unwrap();
        assert!(set.wait(&[quiet.watch(Interest::Write)], soon()).is_ready(0));
    }

    #[pg_test]
    fn a_set_latch_ends_a_wait() {
        // SAFETY: MyLatch is this backend's own.
        unsafe { pg_sys::SetLatch(pg_sys::MyLatch) };
        assert!(WaitSet::new().wait(&[], soon()).latch);
        // SAFETY: as above.
        unsafe { pg_sys::SetLatch(pg_sys::MyLatch) };
        assert!(wait::wait_for_latch(soon()));
    }
}
