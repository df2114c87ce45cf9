//! The configuration as an operator meets it: from the command line to a `Config` or to a list of mistakes.

use anabranch_gateway::auth::{Algorithm, Authenticator};
use anabranch_gateway::cli::{Cli, Command, Minted};
use anabranch_gateway::config::{Config, FileLogConfig, Fsync, LogConfig};
use clap::{CommandFactory, Parser};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_800_000_000;

/// A folder of its own for each test, with a key in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("dev.key", &format!("{SECRET}\n"));
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name).to_str().unwrap().to_owned()
    }

    fn key(&self) -> String {
        self.path("dev.key").to_str().unwrap().to_owned()
    }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn serve(args: &[&str], env: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let args = [&["anabranch", "serve"], args].concat();
    let Command::Serve(args) = Cli::try_parse_from(args).unwrap().command else { panic!("not serve") };
    Config::load(args.sources(variables(env))).map_err(|all| all.0.iter().map(ToString::to_string).collect())
}

fn token(args: &[&str], env: &[(&str, &str)]) -> Result<Minted, String> {
    let args = [&["anabranch", "token"], args].concat();
    let Command::Token(args) = Cli::try_parse_from(args).unwrap().command else { panic!("not token") };
    args.mint_with(variables(env), NOW)
}

/// Requires exactly these mistakes; of each, its place and some of its words.
#[track_caller]
fn assert_mistakes(result: Result<Config, Vec<String>>, expected: &[(&str, &str)]) {
    let mistakes = result.expect_err("this configuration has mistakes");
    for (place, words) in expected {
        let fits = |mistake: &String| mistake.starts_with(&format!("{place}: ")) && mistake.contains(words);
        assert!(mistakes.iter().any(fits), "no mistake at {place} with {words:?} in {mistakes:#?}");
    }
    assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
}

#[test]
fn defaults_need_a_key_and_nothing_else() {
    let folder = Folder::new();
    let config = serve(&["--auth-key-file", &folder.key()], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.log, LogConfig::File(FileLogConfig::new("anabranch-log")));
    assert_eq!((config.auth.audience.as_str(), config.auth.issuer.as_str()), ("anabranch", "anabranch"));
    assert_eq!(config.auth.keys[0].algorithm, Algorithm::Hs256);
    assert_eq!(config.auth.keys[0].material.reveal(), SECRET.as_bytes(), "the line break is not part of it");
    assert_eq!(config.heartbeat.interval, Duration::from_secs(25));
    assert!(config.topics.state.iter().any(|filter| filter.matches("iotsphere/devices/d1/shadow/delta")));
    assert!(config.dev.is_none() && config.tls.is_none() && config.dev_token(NOW).is_none());
}

#[test]
fn all_mistakes_are_reported_at_once_each_with_its_place() {
    let folder = Folder::new();
    let file = folder.write(
        "anabranch.toml",
        r#"listen = "everywhere"
shards = 0
lisen = "127.0.0.1:1"
origins = [
  "https://good.example",
  "https://bad.example/path",
]
log = "file:?fsync=sometimes&colour=red"

[limits]
connections = "many"
hello = 10
conections_per_address = 7

[auth]
audience = ""
default_roles = ["nobody"]
key = "in the open"

[[auth.keys]]
algorithm = "HS257"
file = "dev.key"

[[auth.keys]]
algorithm = "HS256"
env = "NO_SUCH_VARIABLE"

[[auth.keys]]
algorithm = "RS256"
file = "dev.key"

[[auth.keys]]
kid = "../x"
algorithm = "HS256"
file = "dev.key"

[[auth.keys]]
algorithm = "ES256"
file = "missing.pem"

[auth.roles.viewer]
read = ["a/#", "a/#/b"]
raed = ["a"]

[drain]
spread = "30s"
patience = "10s"
"#,
    );
    let at = |line: usize| format!("{file}:{line}");
    let result = serve(
        &["--config", &file, "--static-files", "/no/such/folder", "--set", "limits.envelope=1GiB"],
        &[("ANABRANCH_HEARTBEAT_INTERVAL", "25"), ("ANABRANCH_LIMITS_CONECTIONS", "5"), ("PATH", "/bin")],
    );
    assert_mistakes(
        result,
        &[
            (&at(1), r#""everywhere" is not an address"#),
            (&at(2), "expected a whole number from 1 to 256"),
            (&at(3), r#"there is no setting "lisen"; did you mean "listen"?"#),
            (&at(6), r#""https://bad.example/path" is not an origin"#),
            (&at(8), "needs a path"),
            (&at(8), "option fsync: expected always, none or a time"),
            (&at(8), r#"there is no option "colour"; there are segment, fsync, retention, age"#),
            (&at(11), "limits.connections: expected a whole number"),
            (&at(12), "limits.hello: expected a time from 100ms to 600s with its unit"),
            (&at(13), r#"did you mean "limits.connections_per_address"?"#),
            (&at(16), "auth.audience: it must not be empty"),
            (&at(17), r#"there is no role "nobody""#),
            (&at(18), "others can read it here"),
            (&at(21), r#""HS257" is not an algorithm"#),
            (&at(24), "the variable NO_SUCH_VARIABLE is not set"),
            (&at(28), "not a PEM public key for RS256"),
            (&at(32), "the key id must have"),
            (&at(39), "cannot read"),
            (&at(42), r#""a/#/b""#),
            (&at(43), r#"did you mean "auth.roles.viewer.read"?"#),
            (&at(47), "at least drain.spread, which is 30s"),
            ("--static-files", "/no/such/folder is not a folder"),
            ("--set", "limits.envelope: expected a size from 1KiB to 256KiB"),
            ("ANABRANCH_HEARTBEAT_INTERVAL", "with its unit"),
            ("ANABRANCH_LIMITS_CONECTIONS", r#"did you mean "ANABRANCH_LIMITS_CONNECTIONS"?"#),
        ],
    );
}

#[test]
fn mistakes_of_syntax_do_not_hide_others() {
    let folder = Folder::new();
    let file = folder.write("a.toml", "shards = 2\nlisten = \nshards = 3\n\n[limits]\nring = 5\n");
    let mistakes = serve(&["--config", &file, "--auth-key-file", &folder.key()], &[]).unwrap_err();
    for line in [2, 3, 6] {
        assert!(
            mistakes.iter().any(|m| m.starts_with(&format!("{file}:{line}: "))),
            "line {line}: {mistakes:#?}"
        );
    }
}

#[test]
fn a_file_that_is_not_there_is_a_mistake_where_it_is_named() {
    let folder = Folder::new();
    let key = ["--auth-key-file", &folder.key()].map(String::from);
    let key = key.each_ref().map(String::as_str);
    let missing = |place| vec![(place, "cannot read /no/such/file")];
    assert_mistakes(serve(&[&key[..], &["--config", "/no/such/file"]].concat(), &[]), &missing("--config"));
    assert_mistakes(serve(&key, &[("ANABRANCH_CONFIG", "/no/such/file")]), &missing("ANABRANCH_CONFIG"));
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let folder = Folder::new();
    let file = folder.write(
        "a.toml",
        "shards = 2\norigins = [\"any\"]\n[auth]\nkey_file = \"dev.key\"\n[limits]\nconnections = 2\nsubscriptions = 2\nring = \"2MiB\"",
    );
    let env = [
        ("ANABRANCH_CONFIG", file.as_str()),
        ("ANABRANCH_LIMITS_CONNECTIONS", "3"),
        ("ANABRANCH_LIMITS_RING", "3MiB"),
        ("ANABRANCH_SHARDS", ""),
    ];
    let config = serve(&["--set", "limits.connections=4", "--set", "limits.connections=5"], &env).unwrap();
    assert_eq!(config.limits.connections, 5, "the later of two flags");
    assert_eq!(config.limits.ring, 3 << 20, "the variable");
    assert_eq!(config.limits.subscriptions, 2, "the file");
    assert_eq!(config.shards, 2, "an empty variable is none");
    assert_eq!(config.limits.publishes_in_flight, 256, "the default");
    let config = serve(&["--origin", "https://a.example", "--origin", "same"], &env).unwrap();
    assert!(config.origins.allow(Some("https://a.example"), None));
    assert!(!config.origins.allow(Some("https://b.example"), None), "flags replace the file's list");
}

#[test]
fn relative_paths_start_from_the_file_that_has_them() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("site")).unwrap();
    let text = "static_files = \"site\"\nlog = \"file:data?fsync=200ms&segment=1MiB&retention=2MiB&age=7d\"\n[auth]\nkey_file = \"dev.key\"\n";
    let file = folder.write("a.toml", text);
    let config = serve(&["--config", &file], &[]).unwrap();
    assert_eq!(config.static_files, Some(folder.path("site")));
    let LogConfig::File(log) = &config.log else { panic!("{:?}", config.log) };
    assert_eq!(log.path, folder.path("data"));
    assert_eq!(log.fsync, Fsync::Interval(Duration::from_millis(200)));
    assert_eq!((log.segment_bytes, log.retention_bytes), (1 << 20, 2 << 20));
    assert_eq!(log.retention_age, Some(Duration::from_secs(7 * 24 * 3600)));
    let config = serve(&["--config", &file, "--log", "file:elsewhere"], &[]).unwrap();
    assert_eq!(config.log, LogConfig::File(FileLogConfig::new("elsewhere")));
}

#[test]
fn logs_by_url() {
    let folder = Folder::new();
    let log =
        |url: &str| serve(&["--auth-key-file", &folder.key(), "--log", url], &[]).map(|config| config.log);
    assert!(matches!(log("memory:?records=7").unwrap(), LogConfig::Memory(m) if m.records == 7));
    for url in ["file:/var/x", "file:///var/x"] {
        assert!(matches!(log(url).unwrap(), LogConfig::File(f) if f.path == Path::new("/var/x")), "{url}");
    }
    for (url, words) in [
        ("amqp://guest:hunter2@:5672/%2f", "it has no host"),
        ("redis://:hunter2@", "a host is needed"),
        ("kafka://hunter2", "expected file:PATH, memory:, amqp://HOST or redis://HOST"),
        ("hunter2", "expected file:PATH, memory:"),
        ("file:", "needs a path"),
        ("memory:x", "has no path"),
        ("file:x?segment=64MiB&retention=100MiB", "option retention: expected a size from 128MiB"),
        ("file:x?fsync=none&fsync=always", "option fsync is given twice"),
    ] {
        let mistakes = log(url).unwrap_err();
        assert!(
            mistakes.len() == 1 && mistakes[0].starts_with("--log: log: ") && mistakes[0].contains(words),
            "{mistakes:?}"
        );
        assert!(!mistakes[0].contains("hunter2"), "a password is shown: {mistakes:?}");
    }
}

#[test]
fn without_a_key_it_does_not_start() {
    assert_mistakes(serve(&[], &[]), &[("missing", "no key is configured")]);
    let folder = Folder::new();
    folder.write("short.key", "hunter2");
    let short = folder.path("short.key");
    assert_mistakes(
        serve(&["--auth-key-file", short.to_str().unwrap()], &[]),
        &[("--auth-key-file", "the secret has fewer than 32 bytes")],
    );
}

#[test]
fn a_key_comes_from_a_file_or_a_variable_and_from_nowhere_else() {
    let folder = Folder::new();
    let key = folder.key();
    let config = serve(&[], &[("ANABRANCH_AUTH_KEY", SECRET), ("ANABRANCH_AUTH_KID", "k1")]).unwrap();
    assert_eq!(config.auth.keys[0].kid.as_deref(), Some("k1"));
    let set = format!("auth.key={SECRET}");
    assert_mistakes(
        serve(&["--auth-key-file", &key, "--set", &set], &[]),
        &[("--set", "others can read it here")],
    );
    assert_mistakes(
        serve(&[], &[("ANABRANCH_AUTH_KEY", SECRET), ("ANABRANCH_AUTH_KEY_FILE", &key)]),
        &[("ANABRANCH_AUTH_KEY", "only one of them may be")],
    );
    let other = folder.write("other.key", &SECRET.replace('0', "x"));
    let config = serve(&["--auth-key-file", &other], &[("ANABRANCH_AUTH_KEY", SECRET)]).unwrap();
    assert!(config.auth.keys[0].material.reveal().starts_with(b"x"), "a flag beats a variable");

    let file = folder.write("a.toml", "[[auth.keys]]\nalgorithm = \"HS256\"\nenv = \"ISSUER_SECRET\"\n");
    let config = serve(&["--config", &file], &[("ISSUER_SECRET", SECRET)]).unwrap();
    assert_eq!(config.auth.keys[0].material.reveal(), SECRET.as_bytes());
}

#[test]
fn dev_makes_a_key_and_a_token_for_everything() {
    let config = serve(&["--dev"], &[]).unwrap();
    let token = config.dev_token(NOW).unwrap();
    let principal = Authenticator::new(&config.auth).unwrap().verify(&token, NOW * 1000).unwrap();
    assert!(principal.grants.may_read("a/b") && principal.grants.may_write("a/b"));
    assert!(matches!(config.log, LogConfig::Memory(_)), "nothing is left behind");
    assert!(config.origins.allow(Some("http://localhost:5173"), None));
    let other = serve(&["--dev"], &[]).unwrap();
    assert!(
        Authenticator::new(&other.auth).unwrap().verify(&token, NOW * 1000).is_err(),
        "the key is random"
    );
}

#[test]
fn dev_stays_on_this_machine() {
    for address in ["127.0.0.1:0", "localhost:9000", "[::1]:8080", "127.1.2.3:1"] {
        assert!(serve(&["--dev", "--listen", address], &[]).is_ok(), "{address}");
    }
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:8080", "[::ffff:10.0.0.1]:1"] {
        assert_mistakes(serve(&["--dev", "--listen", address], &[]), &[("--listen", "would let others in")]);
    }
    assert_mistakes(
        serve(&["--dev"], &[("ANABRANCH_LISTEN", "0.0.0.0:1")]),
        &[("ANABRANCH_LISTEN", "would let others in")],
    );
    assert_mistakes(
        serve(&["--set", "dev=true"], &[("ANABRANCH_AUTH_KEY", SECRET)]),
        &[("--set", "no setting \"dev\"")],
    );
}

#[test]
fn variables_of_kubernetes_and_of_other_programs_are_not_ours() {
    let env = [
        ("ANABRANCH_AUTH_KEY", SECRET),
        ("ANABRANCH_SERVICE_HOST", "10.0.0.1"),
        ("ANABRANCH_SERVICE_PORT_HTTP", "80"),
        ("ANABRANCH_PORT", "tcp://10.0.0.1:80"),
        ("ANABRANCH_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("ANABRANCH_BACKUP_SERVICE_HOST", "10.0.0.2"),
        ("ANABRANCH_TOKEN_FILE", "the device agent's"),
    ];
    serve(&[], &env).unwrap();
}

#[test]
fn tls_needs_both_files() {
    let folder = Folder::new();
    let pem = folder.write("x.pem", "");
    let base = ["--auth-key-file".to_owned(), folder.key()];
    let base: Vec<&str> = base.iter().map(String::as_str).collect();
    let with = |more: &[&str]| serve(&[&base, more].concat(), &[]);
    assert!(with(&["--tls-certificate", &pem, "--tls-key", &pem]).unwrap().tls.is_some());
    assert_mistakes(with(&["--tls-certificate", &pem]), &[("--tls-certificate", "tls.key is missing")]);
    assert_mistakes(with(&["--tls-key", &pem]), &[("--tls-key", "tls.certificate is missing")]);
}

#[test]
fn secrets_are_not_shown() {
    let config = serve(&["--dev"], &[("ANABRANCH_AUTH_KEY", SECRET)]).unwrap();
    let shown = format!("{config:?} {config:#?}");
    assert!(!shown.contains(SECRET) && !shown.contains("48, 49, 50"), "{shown}");
    assert!(shown.contains("[redacted]"));
}

#[test]
fn a_token_is_made_with_the_gateways_own_key() {
    let folder = Folder::new();
    let file = folder.write(
        "a.toml",
        "[auth]\nkey_file = \"dev.key\"\nkid = \"k\"\nissuer = \"me\"\naudience = \"you\"\n[auth.roles.viewer]\nread = [\"u/{sub}/#\"]\n",
    );
    let gateway = Authenticator::new(&serve(&["--config", &file], &[]).unwrap().auth).unwrap();
    let made =
        token(&["--config", &file, "--sub", "bob", "--role", "viewer", "--write", "w", "--ttl", "5m"], &[])
            .unwrap();
    assert_eq!(made.warning, None);
    let bob = gateway.verify(&made.token, NOW * 1000).unwrap();
    assert!(bob.grants.may_read("u/bob/x") && bob.grants.may_write("w") && !bob.grants.may_read("w"));
    assert_eq!(bob.expires_unix_ms, (NOW + 300) * 1000);

    let simple = Authenticator::new(&serve(&["--auth-key-file", &folder.key()], &[]).unwrap().auth).unwrap();
    let made =
        token(&["--key-file", &folder.key(), "--sub", "a", "--read", "#", "--deny", "x"], &[]).unwrap();
    let alice = simple.verify(&made.token, NOW * 1000).unwrap();
    assert!(alice.grants.may_read("y") && !alice.grants.may_read("x"));
}

#[test]
fn a_token_that_no_gateway_would_take_is_not_made() {
    let folder = Folder::new();
    let key = folder.key();
    let fails = |args: &[&str], words: &str| {
        let error = token(args, &[]).unwrap_err();
        assert!(error.contains(words), "{args:?}: {error}");
    };
    fails(&["--sub", "a", "--read", "#"], "there is no HS256 key");
    fails(&["--sub", "a", "--key-file", "/no/such/key"], "cannot read /no/such/key");
    fails(&["--sub", "a", "--key-file", &key, "--read", "a/#/b"], "a granted filter is not valid");
    fails(&["--sub", "", "--key-file", &key, "--read", "a"], "sub");
    let warning = |args: &[&str]| token(args, &[]).unwrap().warning;
    assert!(warning(&["--sub", "a", "--key-file", &key]).is_some_and(|text| text.contains("grants nothing")));
    assert!(
        warning(&["--sub", "a", "--key-file", &key, "--role", "r"])
            .is_some_and(|text| text.contains("--config"))
    );
}

#[test]
fn help_teaches_by_examples() {
    Cli::command().debug_assert();
    for (command, words) in [
        ("serve", ["anabranch serve --dev", "[auth.roles.viewer]", "--set <KEY=VALUE>"]),
        ("token", ["TOKEN=$(anabranch token", "openssl rand -hex 32", "--ttl <TIME>"]),
    ] {
        let help = Cli::command().find_subcommand_mut(command).unwrap().render_long_help().to_string();
        for words in words {
            assert!(help.contains(words), "{command}: no {words:?} in\n{help}");
        }
    }
    let help = Cli::command().render_long_help().to_string();
    assert!(help.contains("Run a gateway") && help.contains("anabranch help serve"), "{help}");
}

#[test]
fn the_example_file_in_the_help_is_good() {
    let help = Cli::command().find_subcommand_mut("serve").unwrap().render_long_help().to_string();
    let (_, example) = help.split_once("A file:\n").unwrap();
    let (example, _) = example.split_once("Settings (").unwrap();
    let folder = Folder::new();
    let file = folder.write("a.toml", &example.replace("RS256", "HS256").replace("issuer.pem", "dev.key"));
    let config =
        serve(&["--config", &file], &[]).unwrap_or_else(|mistakes| panic!("{mistakes:#?}\n{example}"));
    assert_eq!(config.auth.default_roles, ["viewer"]);
}

#[test]
fn topics_that_contradict_each_other_are_named() {
    let folder = Folder::new();
    let file = folder.write(
        "anabranch.toml",
        r#"[topics]
root = "plant"
state = ["plant/+/status"]
command = ["plant/hall/+"]
"#,
    );
    let words = "plant/+/status (state) and plant/hall/+ (command) mean some of the same topics";
    let result = serve(&["--config", &file, "--auth-key-file", &folder.key()], &[]);
    assert_mistakes(result, &[(&format!("{file}:3"), words)]);
}

#[test]
fn the_narrower_row_of_the_topics_wins() {
    let folder = Folder::new();
    let flags = ["--auth-key-file", &folder.key()].map(String::from);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let config = serve(&flags, &[("ANABRANCH_TOPICS_EVENT", "iotsphere/devices/+/shadow/delta")]).unwrap();
    let classes = config.topics.classes();
    let names = ["shadow/delta", "shadow/reported", "commands/request", "telemetry/pressure"]
        .map(|rest| classes.class_of(&format!("iotsphere/devices/d1/{rest}")).name());
    assert_eq!(names, ["event", "state", "command", "event"]);
}

#[test]
fn a_topic_may_have_a_smaller_limit_than_all() {
    let folder = Folder::new();
    let file = folder.write(
        "anabranch.toml",
        "[topics]\nsizes = [\"iotsphere/devices/+/telemetry/# 16KiB\", \"a b 2KiB\"]\n",
    );
    let config = serve(&["--config", &file, "--auth-key-file", &folder.key()], &[]).unwrap();
    let sizes: Vec<(&str, usize)> =
        config.topics.sizes.iter().map(|(row, bytes)| (row.as_str(), *bytes)).collect();
    assert_eq!(sizes, [("iotsphere/devices/+/telemetry/#", 16_384), ("a b", 2_048)]);

    let file = folder.write("anabranch.toml", "[topics]\nsizes = [\"16KiB\", \"a/# 1B\", \"#/a 1KiB\"]\n");
    let result = serve(&["--config", &file, "--auth-key-file", &folder.key()], &[]);
    let place = format!("{file}:2");
    let words = [
        "topics.sizes: expected \"FILTER SIZE\"",
        "topics.sizes: expected a size",
        "topics.sizes: \"#/a\" is not a filter",
    ];
    assert_mistakes(result, &words.map(|words| (&*place, words)));
}

#[test]
fn the_shadow_services_topics_mean_what_it_says() {
    let folder = Folder::new();
    let key = folder.key();
    let config = |settings: &str| {
        let file = folder.write("anabranch.toml", settings);
        serve(&["--config", &file, "--auth-key-file", &key], &[])
    };
    let patched = "[topics]\npatch = [\"iotsphere/devices/d1/shadow/document\"]\n";
    assert!(config(patched).is_ok(), "without the service they are anybody's");
    let result = config(&format!("{patched}[shadows]\nenabled = true\n"));
    let words = "iotsphere/devices/d1/shadow/document (patch) is the shadow service's own (state)";
    assert!(result.expect_err("a mistake").iter().any(|mistake| mistake.contains(words)));
    let root = "a".repeat(245);
    let result = config(&format!("[topics]\nroot = \"{root}\"\n[shadows]\nenabled = true\n"));
    assert!(
        result
            .expect_err("a mistake")
            .iter()
            .any(|mistake| mistake.contains("the root is too long for shadows"))
    );
}
