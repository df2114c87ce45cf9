//! The settings on one page, for `anabranch serve --help`. The fields' documentation says more.

/// Every setting with its default. A test compares it with the settings that are read.
pub const SETTINGS: &str = "\
Settings (file; in the environment limits.ring is ANABRANCH_LIMITS_RING):
  listen = \"127.0.0.1:8080\"           address and port; port 0 takes a free one
  log = \"file:anabranch-log\"          file:PATH?fsync=20ms&segment=64MiB&retention=1GiB&age=7d
                                      (fsync: always, none or a time), or
                                      memory:?records=100000&size=64MiB, or
                                      redis://USER:PASSWORD@HOST:6379/0?stream=iotsphere
                                      &partitions=1&maxlen=1000000&age=7d&wait=0&cluster=no
                                      (maxlen: entries kept, or none; wait: replicas that
                                      must have it; transient=FILTER,FILTER: topics that
                                      come by Pub/Sub and are not kept); with TLS
                                      rediss://…&ca=FILE
                                      or
                                      amqp://USER:PASSWORD@HOST:5672/VHOST?exchange=iotsphere
                                      &queue=anabranch&bind=#&from=EXCHANGE&partitions=1
                                      &retention=1GiB&age=7d&segment=64MiB&declare=yes
                                      &heartbeat=10s&prefetch=5000 (bind, from: several with
                                      commas; from: exchanges that feed ours; retention: or
                                      all; declare=no: use only what is there);
                                      with TLS amqps://…&ca=FILE
  origins = [\"same\"]                  web pages that may connect: https://a.example, same,
                                      loopback, any
  static_files = \"FOLDER\"             served at /
  shards = 4                          threads that serve connections; default one for each core
  tls.certificate = \"FILE\"            PEM; with tls.key, or neither
  tls.key = \"FILE\"
  topics.root = \"iotsphere\"           what every topic begins with
  topics.state = [...]                filters of topics of which only the newest value matters
  topics.patch = []                   those whose payloads are merge patches
  topics.event = []                   events after all, where a broader filter says otherwise
  topics.command = [...]              filters of requests and responses
  topics.sizes = []                   \"FILTER SIZE\": largest message on some topics
  topics.checkpoint = \"FILE\"          newest values outlive the process; a start reads less
  shadows.enabled = false             keep a document for each device; its topics are below shadow/
  shadows.document = \"8KiB\"          largest state of one device
  shadows.depth = 8                   levels of objects and arrays in it
  shadows.rate = 100                  updates of one device in a second
  limits.connections = 100000         of this node
  limits.connections_per_address = 10000
  limits.connections_per_subject = 1000
  limits.subscriptions = 256          of one connection
  limits.publishes_in_flight = 256    of one connection
  limits.envelope = \"256KiB\"          largest message
  limits.ring = \"64MiB\"               recent messages in memory, of each shard
  limits.newest = \"256MiB\"            newest values of state topics in memory
  limits.hello = \"10s\"                from the socket's opening to hello
  heartbeat.interval = \"25s\"          between pings
  heartbeat.grace = \"10s\"             from a missed ping to the end
  drain.spread = \"10s\"                over which clients are sent elsewhere
  drain.patience = \"20s\"              before what is left is closed

  auth.issuer = \"anabranch\"           the tokens' iss
  auth.audience = \"anabranch\"         the tokens' aud
  auth.key_file = \"FILE\"              the key that verifies tokens; or the key itself in the
                                      variable ANABRANCH_AUTH_KEY (auth.key, never in a file)
  auth.algorithm = \"HS256\"            of that key: HS256, RS256, ES256 or EdDSA
  auth.kid = \"NAME\"                   of that key
  auth.default_roles = [...]          roles of tokens without the claim anabranch

  [[auth.keys]]                       more keys; each has
  algorithm = \"RS256\"
  file = \"FILE\"                       the key, or
  env = \"VARIABLE\"                    the variable that holds it
  kid = \"NAME\"                        tokens with this kid, and no others
  issuer = \"NAME\"                     if it is not auth.issuer

  [auth.roles.NAME]                   filters; {sub} is the token's subject
  read = [...]
  write = [...]
  deny = [...]                        neither read nor written
  deny_read = [...]
  deny_write = [...]";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::known_settings;
    use std::collections::BTreeSet;

    /// The keys that the page has, those of the tables below their tables' names.
    fn described() -> BTreeSet<String> {
        let mut prefix = String::new();
        let mut keys = BTreeSet::new();
        for line in SETTINGS.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
            let word = line.split_whitespace().next().unwrap();
            match word.trim_matches(|c| c == '[' || c == ']') {
                table if table != word => prefix = format!("{table}."),
                key => _ = keys.insert(format!("{prefix}{key}")),
            }
        }
        keys
    }

    #[test]
    fn the_page_has_every_setting_and_no_other() {
        let mut known = known_settings();
        assert!(known.remove("auth.key"), "it is described with auth.key_file");
        assert_eq!(described(), known);
    }
}
