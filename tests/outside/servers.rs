//! Which publication, slot, mapping and role a stream uses, and how many streams there are.

use crate::support::client::{self, Ask, literal};
use crate::support::pair::{PASSWORD, PATIENCE, Pair, Sync};
use postgres::error::SqlState;
use std::fs;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text);
    INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) AS i";

/// Changes, then the comparison.
fn follows(sync: &Sync) {
    sync.source().run(
        "UPDATE t SET v = v || '!' WHERE id % 2 = 0; DELETE FROM t WHERE id % 7 = 0;
         INSERT INTO t SELECT max(id) + 7, 'new' FROM t",
    );
    sync.assert_same("t", "public.t");
}

#[test]
fn a_publication_of_all_tables_and_a_slot_name_of_one_s_own() {
    let sync = Sync::shared("own_names");
    sync.source().run(TABLE);
    let mut admin = sync.source_admin();
    admin.run("CREATE PUBLICATION everything FOR ALL TABLES");
    let mut ods = sync.ods();
    ods.run(
        "ALTER SERVER src OPTIONS (ADD publication 'everything', ADD slot_name 'slot_of_mine')",
    );
    sync.create_loaded("t", "public.t");
    follows(&sync);
    assert_eq!(sync.slot(), "slot_of_mine");
    let slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE database = current_database()";
    assert_eq!(admin.text(slots).as_deref(), Some("slot_of_mine"));
    let publications = "SELECT string_agg(pubname, ',') FROM pg_publication";
    assert_eq!(admin.text(publications).as_deref(), Some("everything"));
    // A table made later is carried at once.
    sync.source().run("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1)");
    sync.create_loaded("later", "public.later");
    sync.assert_same("later", "public.later");
    ods.run("DROP SERVER src CASCADE");
    let no_slot =
        "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())";
    admin.wait_until("the slot is gone", no_slot, PATIENCE);
    assert_eq!(admin.text(publications).as_deref(), Some("everything"), "it is not ours to drop");
}

#[test]
fn a_publication_of_named_tables() {
    let sync = Sync::shared("named_tables");
    sync.source().run(TABLE);
    sync.source()
        .run("CREATE TABLE left_out (id int PRIMARY KEY); INSERT INTO left_out VALUES (1)");
    let mut admin = sync.source_admin();
    admin.run("CREATE PUBLICATION chosen FOR TABLE t");
    let mut ods = sync.ods();
    ods.run("ALTER SERVER src OPTIONS (ADD publication 'chosen')");
    sync.create_loaded("t", "public.t");
    follows(&sync);
    // One that it lacks waits for a person, and others go on meanwhile.
    sync.create("left_out", "public.left_out");
    ods.wait_until(
        "a person is told",
        "SELECT EXISTS (SELECT FROM ods.incidents WHERE table_name = 'left_out'
           AND fix LIKE '%ALTER PUBLICATION \"chosen\" ADD TABLE \"public\".\"left_out\"%')",
        PATIENCE,
    );
    follows(&sync);
    assert_eq!(sync.state("left_out"), "loading");
    admin.run("ALTER PUBLICATION chosen ADD TABLE left_out");
    sync.wait_loaded("left_out");
    sync.assert_same("left_out", "public.left_out");
    let members = "SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_publication_tables";
    assert_eq!(admin.text(members).as_deref(), Some("left_out,t"));
    ods.run("SELECT ods.drop_synced_table('left_out')");
    follows(&sync);
    assert_eq!(admin.text(members).as_deref(), Some("left_out,t"), "it is not ours to change");
}

#[test]
fn two_servers_to_one_source_are_two_streams() {
    let sync = Sync::shared("two_servers");
    sync.source().run(TABLE);
    sync.source().run("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)");
    let mut ods = sync.ods();
    ods.run(&sync.create_server_sql("second"));
    sync.create_loaded("t", "public.t");
    ods.run("SELECT ods.create_synced_table('t_again', server => 'second', source => 'public.t', consumer => 'tests');
             SELECT ods.create_synced_table('u', server => 'second', source => 'public.u', consumer => 'tests')");
    sync.wait_loaded("t_again");
    sync.wait_loaded("u");
    assert_eq!(sync.slots(), 2);
    follows(&sync);
    sync.wait_same("t_again", "public.t");
    // While one is being dropped, the other streams.
    let mut dropping = sync.ods();
    dropping.run("BEGIN; DROP SERVER second CASCADE");
    follows(&sync);
    assert_eq!(sync.state("t"), "live");
    let streams = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'ods stream' AND datname = current_database()";
    assert_eq!(ods.number(streams), 1);
    dropping.run("ROLLBACK");
    sync.source().run("UPDATE t SET v = 'after the rollback'");
    sync.wait_same("t_again", "public.t");
    let slot =
        ods.text("SELECT stream FROM ods.stream_status WHERE server = 'second'").expect("its slot");
    ods.run("DROP SERVER second CASCADE");
    let gone =
        format!("SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{slot}')");
    sync.source_admin().wait_until("its slot is gone", &gone, PATIENCE);
    follows(&sync);
    ods.run("DELETE FROM t_again");
}

#[test]
fn several_databases_of_a_cluster_stream_beside_each_other() {
    let pair = Pair::start("several");
    let syncs: Vec<Sync> =
        (1..=3).map(|number| Sync::on(&pair, &format!("several_{number}"))).collect();
    for sync in &syncs {
        sync.source().run(TABLE);
        sync.create("t", "public.t");
    }
    for sync in &syncs {
        sync.wait_loaded("t");
    }
    for (number, sync) in syncs.iter().enumerate() {
        sync.source().run(&format!("INSERT INTO t VALUES (-1, 'of {number}')"));
        follows(sync);
        let own = sync.ods().text("SELECT v FROM t WHERE id = -1");
        assert_eq!(own, Some(format!("of {number}")));
        assert_eq!(sync.ods().number("SELECT count(*) FROM ods.stream_board()"), 1, "only its own");
    }
    // What happens in one leaves the others alone.
    pair.ods.connect("postgres").run("DROP DATABASE several_2 WITH (FORCE)");
    follows(&syncs[0]);
    follows(&syncs[2]);
}

#[test]
fn the_mapping_of_public_serves_everyone() {
    let sync = Sync::shared("public_mapping");
    sync.source().run(TABLE);
    let mut ods = sync.ods();
    ods.run(&format!(
        "DROP USER MAPPING FOR CURRENT_USER SERVER src;
         CREATE USER MAPPING FOR PUBLIC SERVER src OPTIONS (user 'replicator', password {})",
        literal(PASSWORD)
    ));
    sync.create_loaded("t", "public.t");
    follows(&sync);
}

/// A plain role that may do what the README says it needs, and a server of its own.
fn plain_owner(sync: &Sync, role: &str, mapping: &str) -> postgres::Client {
    let mut ods = sync.ods();
    ods.run(&format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER ods_postgres TO {role};
         GRANT USAGE ON SCHEMA ods TO {role}; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA ods TO {role};
         GRANT CREATE ON SCHEMA public TO {role}; DROP SERVER src CASCADE"
    ));
    let mut plain = client::connect_as(sync.ods_cluster(), sync.name(), role);
    plain.run(&format!("{}; {mapping}", sync.server_only_sql("src")));
    plain
}

fn forget_role(sync: &Sync, role: &str) {
    sync.ods().run(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}

#[test]
fn a_server_of_a_plain_role_works_end_to_end() {
    let sync = Sync::shared("plain_role");
    sync.source().run(TABLE);
    let mut plain = plain_owner(
        &sync,
        "plain_role",
        &format!(
            "CREATE USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (user 'replicator', password {})",
            literal(PASSWORD)
        ),
    );
    let unmet = "SELECT string_agg(check_name || ': ' || detail, '; ') FROM ods.check_server('src') WHERE NOT met";
    assert_eq!(plain.text(unmet), None);
    plain.run("SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'tests')");
    plain.run("SELECT ods.wait_until_loaded('t')");
    follows(&sync);
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 't'";
    assert_eq!(plain.text(owner).as_deref(), Some("plain_role"));
    assert_eq!(plain.text("SELECT state FROM ods.sync_status").as_deref(), Some("live"));
    assert_eq!(plain.refused("DELETE FROM t").code(), &SqlState::READ_ONLY_SQL_TRANSACTION);
    plain.run("SELECT ods.pause('t')");
    sync.source().run("DELETE FROM t WHERE id < 10");
    plain.run("SELECT ods.resume('t')");
    sync.wait_loaded("t");
    follows(&sync);
    plain.run("SELECT ods.drop_synced_table('t', keep_data => false)");
    forget_role(&sync, "plain_role");
}

#[test]
fn a_plain_role_must_give_a_password_that_is_asked_for() {
    let pair = Pair::start("must_give");
    let sync = Sync::on(&pair, "must_give");
    sync.source().run(TABLE);
    let mut plain = plain_owner(
        &sync,
        "must_give",
        "CREATE USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (user 'replicator')",
    );
    let create = "SELECT ods.create_synced_table('t', server => 'src', source => 'public.t', consumer => 'tests')";
    let error = plain.refused(create);
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    assert!(error.message().contains("has no password"), "{error:?}");
    let error = plain.refused(
        "ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (ADD password_required 'false')",
    );
    assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{error:?}");
    // The socket lets in whoever the server's operating system user is, by trust and by peer.
    let socket = pair.source.socket_dir().display().to_string();
    plain.run(&format!(
        "ALTER SERVER src OPTIONS (SET host {});
         ALTER USER MAPPING FOR CURRENT_USER SERVER src OPTIONS (ADD password 'any')",
        literal(&socket)
    ));
    let hba = pair.source.file("data/pg_hba.conf");
    let trusting = fs::read_to_string(&hba).expect("pg_hba.conf");
    for peer in [false, true] {
        if peer {
            let ident = pair.source.file("data/pg_ident.conf");
            let names = ["postgres", &whoami()].map(|user| format!("ods {user} replicator\n"));
            fs::write(ident, names.concat()).expect("pg_ident.conf");
            let rule = format!("local all replicator peer map=ods\n{trusting}");
            fs::write(&hba, rule).expect("pg_hba.conf");
            pair.source.connect("postgres").run("SELECT pg_reload_conf()");
        }
        let error = plain.refused(create);
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "peer {peer}: {error:?}");
        assert!(error.message().contains("did not ask for the password"), "peer {peer}: {error:?}");
    }
    assert_eq!(sync.slots(), 0);
    forget_role(&sync, "must_give");
}

fn whoami() -> String {
    std::env::var("USER").unwrap_or_else(|_| "postgres".to_owned())
}
