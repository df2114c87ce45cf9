//! The real servers: started, killed, frozen, alarmed, found again.

use anabranch_brokers::{
    RabbitMq, RabbitMqOptions, Redis, RedisCluster, RedisOptions, Unavailable, not_run, shared,
};
use std::path::Path;
use tempfile::TempDir;

/// The server, or nothing where it is not installed.
fn had<T>(started: Result<T, Unavailable>) -> Option<T> {
    started.inspect_err(not_run).ok()
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn has_process(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn rabbitmq_lives_through_kill_freeze_and_alarm() {
    let folder = temporary();
    let Some(mut server) = had(RabbitMq::start(RabbitMqOptions::new(folder.path()))) else { return };
    assert_eq!(server.eval("1 + 1").expect("an answer"), "2");
    assert!(server.eval("erlang:error(no)").is_err());
    assert!(server.ctl(&["list_vhosts"]).expect("rabbitmqctl").contains('/'));
    assert!(server.vhost("mine").expect("a virtual host").ends_with("/mine"));
    assert!(
        server.ctl(&["list_exchanges", "name", "type"]).expect("rabbitmqctl").contains("iotsphere\ttopic")
    );

    server.memory_alarm(true).expect("an alarm");
    server.memory_alarm(false).expect("no alarm");

    server.freeze().expect("frozen");
    assert!(!server.is_ready());
    server.thaw().expect("thawed");
    assert!(server.is_ready());

    let (before, port) = (server.pid(), server.amqp_port());
    server.kill().expect("killed");
    assert!(!server.is_alive() && !server.is_ready());
    server.restart().expect("restarted");
    assert_ne!(server.pid(), before);
    assert_eq!(server.amqp_port(), port);
    assert!(server.ctl(&["list_vhosts"]).expect("rabbitmqctl").contains("mine"));

    let pid = server.pid().expect("a process");
    drop(server);
    assert!(!has_process(pid));
}

#[test]
fn redis_lives_through_kill_and_freeze() {
    let folder = temporary();
    let Some(mut server) = had(Redis::start(RedisOptions::new(folder.path()).line("appendfsync always")))
    else {
        return;
    };
    assert_eq!(server.cli(&["XADD", "s", "1-1", "a", "b"]).expect("added"), "1-1");
    assert!(server.cli(&["XADD", "s", "1-1", "a", "b"]).is_err());
    let port = server.port();
    server.kill().expect("killed");
    assert!(!server.is_ready());
    server.restart().expect("restarted");
    assert_eq!((server.port(), server.cli(&["XLEN", "s"]).expect("a length")), (port, "1".to_string()));
    server.freeze().expect("frozen");
    assert!(!server.is_ready());
    server.thaw().expect("thawed");
    assert!(server.is_ready());
    let pid = server.pid().expect("a process");
    drop(server);
    assert!(!has_process(pid));
}

#[test]
fn redis_replicates() {
    let (one, two) = (temporary(), temporary());
    let Some(primary) = had(Redis::start(RedisOptions::new(one.path()))) else { return };
    let replica = Redis::start(RedisOptions::new(two.path())).expect("a second server");
    primary.cli(&["SET", "k", "v"]).expect("set");
    replica.replica_of(&primary).expect("a replica");
    assert_eq!(replica.cli(&["GET", "k"]).expect("a value"), "v");
}

#[test]
fn redis_serves_tls() {
    let folder = temporary();
    let options = RedisOptions { tls: true, ..RedisOptions::new(folder.path()) };
    let Some(server) = had(Redis::start(options)) else { return };
    assert!(server.url().starts_with("rediss://"));
    assert_eq!(server.cli(&["PING"]).expect("an answer"), "PONG");
}

#[test]
fn redis_shares_keys_among_three() {
    let folder = temporary();
    let Some(cluster) = had(RedisCluster::start(folder.path(), 3)) else { return };
    assert!(cluster.is_ready());
    let moved = cluster.nodes.iter().filter(|node| node.cli(&["SET", "k", "v"]).is_err()).count();
    assert_eq!(moved, 2, "one node of three holds a key");
}

#[test]
fn shared_servers_are_found_again() {
    let Some(rabbitmq) = had(shared::rabbitmq()) else { return };
    let Some(redis) = had(shared::redis()) else { return };
    let pids = (rabbitmq.pid(), redis.pid());
    // As another process would.
    drop((rabbitmq, redis));
    let (rabbitmq, redis) = (shared::rabbitmq().expect("found"), shared::redis().expect("found"));
    assert_eq!((rabbitmq.pid(), redis.pid()), pids);
    assert!(rabbitmq.is_ready() && redis.is_ready());
}
