//! The commands `publish` and `subscribe` as a user has them: the real program, its output and its exit codes.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Long enough for anything that is expected to happen on a machine with other work to do.
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_anabranch"));
    command.args(args).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `anabranch serve --dev` with a memory log; drains when it is dropped, as its standard input ends then.
struct Gateway {
    url: String,
    token: String,
    /// What it told its user to type.
    commands: Vec<String>,
    _stdin: ChildStdin,
    _child: Child,
}

impl Gateway {
    async fn start(more: &[&str]) -> Gateway {
        let args = ["serve", "--dev", "--listen", "127.0.0.1:0", "--stop-with-stdin"];
        let mut command = program(&[&args, more].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut text = Vec::new();
        while text.last().is_none_or(|line: &String| !line.contains("anabranch publish")) {
            text.push(within("what to do next", lines.next_line()).await.unwrap().expect("a gateway"));
        }
        let export = text.iter().find_map(|line| line.trim().strip_prefix("export ")).unwrap();
        let value =
            |name: &str| export.split(' ').find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
        let commands = text.iter().filter_map(|line| Some(line.split_once(":  ")?.1.trim().to_owned()));
        Gateway {
            url: value("ANABRANCH_URL="),
            token: value("ANABRANCH_TOKEN="),
            commands: commands.collect(),
            _stdin: child.stdin.take().unwrap(),
            _child: child,
        }
    }

    /// A command with this gateway's address and token in its environment.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = program(args);
        command.env("ANABRANCH_URL", &self.url).env("ANABRANCH_TOKEN", &self.token);
        command
    }

    async fn run(&self, args: &[&str]) -> Output {
        within(&args.join(" "), self.command(args).output()).await.unwrap()
    }

    async fn publish(&self, topic: &str, payload: &str) -> String {
        let output = self.run(&["publish", topic, payload]).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    }

    /// Publishes lines; returns the positions.
    async fn publish_lines(&self, topic: &str, lines: &str) -> Output {
        let mut command = self.command(&["publish", "--lines", topic]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(lines.as_bytes()).await.unwrap();
        drop(stdin);
        within("publish --lines", child.wait_with_output()).await.unwrap()
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json_lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
}

/// The cursor that a run of `subscribe` has told its user.
fn cursor(output: &Output) -> String {
    let text = stderr(output);
    let (_, cursor) =
        text.trim_end().rsplit_once("resume with --cursor ").unwrap_or_else(|| panic!("{text}"));
    cursor.to_owned()
}

/// `subscribe` while it runs.
struct Subscriber {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Subscriber {
    fn start(mut command: Command) -> Subscriber {
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Subscriber { child, lines }
    }

    async fn line(&mut self) -> String {
        within("a line", self.lines.next_line()).await.unwrap().expect("more output")
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(id as i32)).expect("it runs");
        kill_process(id, signal).unwrap();
    }

    async fn end(mut self) -> Output {
        drop(self.lines);
        let mut output = Output { status: Default::default(), stdout: Vec::new(), stderr: Vec::new() };
        let mut errors = self.child.stderr.take().unwrap();
        within("its last words", errors.read_to_end(&mut output.stderr)).await.unwrap();
        output.status = within("its end", self.child.wait()).await.unwrap();
        output
    }
}

#[tokio::test]
async fn the_commands_that_serve_prints_work_as_printed() {
    let gateway = Gateway::start(&[]).await;
    let [subscribe, publish] = &gateway.commands[..] else { panic!("{:?}", gateway.commands) };
    assert_eq!(subscribe, "anabranch subscribe 'hello/#'");
    assert_eq!(publish, "anabranch publish hello/world '{\"n\": 1}'");
    // Through a shell, as people type them.
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_anabranch")).parent().unwrap();
    let typed = |text: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("exec {text}")]).env_clear().env("PATH", folder).kill_on_drop(true);
        command.env("ANABRANCH_URL", &gateway.url).env("ANABRANCH_TOKEN", &gateway.token);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let mut subscriber = typed(subscribe).spawn().unwrap();
    let mut told = BufReader::new(subscriber.stderr.take().unwrap()).lines();
    let live = within("live", told.next_line()).await.unwrap().unwrap();
    assert!(live.ends_with(": live"), "{live}");
    let output = within("publish", typed(publish).output()).await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("0:"), "{}", stdout(&output));
    let mut lines = BufReader::new(subscriber.stdout.take().unwrap()).lines();
    let line = within("the message", lines.next_line()).await.unwrap().unwrap();
    assert!(line.ends_with("Z  hello/world  {\"n\":1}"), "{line}");
}

#[tokio::test]
async fn json_lines_are_the_messages_and_nothing_else() {
    let gateway = Gateway::start(&[]).await;
    let position = gateway.publish("a/b", "{ \"x\" :\n [1, 2.50] }").await;
    gateway.publish("other", "0").await;
    let last = gateway.publish("a/c", "\"text\"").await;
    // Covered and overlapping filters make no copies.
    let output = gateway
        .run(&["subscribe", "--json", "--from", "earliest", "--count", "2", "+/b", "a/#", "a/c"])
        .await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let lines = json_lines(&output);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0]["type"], "message");
    assert_eq!(lines[0]["position"], position.as_str());
    assert_eq!(lines[0]["envelope"]["metadata"]["topic"], "a/b");
    assert!(
        stdout(&output).contains(r#""payload":{"x":[1,2.50]}}}"#),
        "as it was published: {}",
        stdout(&output)
    );
    assert_eq!(lines[1]["position"], last.as_str());
    assert_eq!(lines[1]["envelope"]["payload"], "text");
}

#[tokio::test]
async fn a_later_run_goes_on_where_the_first_stopped() {
    let gateway = Gateway::start(&[]).await;
    let numbers: String = (0..300).map(|n| format!("{n}\n")).collect();
    let output = gateway.publish_lines("n/x", &numbers).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output).lines().count(), 300);
    let first = gateway.run(&["subscribe", "--json", "--since", "1h", "--count", "100", "n/+"]).await;
    let cursor = cursor(&first);
    let second = gateway.run(&["subscribe", "--json", "--cursor", &cursor, "--count", "200", "n/+"]).await;
    let payloads: Vec<u64> = [json_lines(&first), json_lines(&second)]
        .concat()
        .iter()
        .filter(|line| line["type"] == "message")
        .map(|line| line["envelope"]["payload"].as_u64().unwrap())
        .collect();
    assert_eq!(payloads, (0..300).collect::<Vec<u64>>(), "once and in order");
}

/// Some filters have much, one has nothing: it does not hold the others' cursor back.
#[tokio::test]
async fn a_later_run_of_several_filters_goes_on_where_the_first_stopped() {
    let gateway = Gateway::start(&[]).await;
    for round in 0..3 {
        for topic in ["n/x", "n/y", "m/z"] {
            let numbers: String = (0..20).map(|n| format!("{}\n", 20 * round + n)).collect();
            let output = gateway.publish_lines(topic, &numbers).await;
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        }
    }
    let mut start = vec!["--from".to_owned(), "earliest".to_owned()];
    let mut seen: Vec<(String, u64)> = Vec::new();
    for count in [1, 7, 50, 30, 1, 2, 60, 29] {
        let count = count.to_string();
        let mut args = vec!["subscribe", "--json", "--count", &count];
        args.extend(start.iter().map(String::as_str));
        args.extend(["quiet/x", "n/+", "m/z"]);
        let output = gateway.run(&args).await;
        for line in json_lines(&output).iter().filter(|line| line["type"] == "message") {
            let topic = line["envelope"]["metadata"]["topic"].as_str().unwrap().to_owned();
            seen.push((topic, line["envelope"]["payload"].as_u64().unwrap()));
        }
        start = vec!["--cursor".to_owned(), cursor(&output)];
    }
    let published = (0..3).flat_map(|round| {
        ["n/x", "n/y", "m/z"]
            .into_iter()
            .flat_map(move |topic| (0..20).map(move |n| (topic.to_owned(), 20 * round + n)))
    });
    assert_eq!(seen, published.collect::<Vec<_>>(), "once and in order");
}

#[tokio::test]
async fn what_the_log_has_forgotten_is_told_before_the_next_message() {
    // Both must forget: a ring that still has a message delivers it.
    let gateway = Gateway::start(&["--log", "memory:?records=20", "--set", "limits.ring=1MiB"]).await;
    gateway.publish("g/x", "0").await;
    let first = gateway.run(&["subscribe", "--from", "earliest", "--count", "1", "g/#"]).await;
    let cursor = cursor(&first);
    let long: String = (1..=40).map(|_| format!("\"{}\"\n", "x".repeat(100_000))).collect();
    let output = gateway.publish_lines("g/x", &long).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let args = ["subscribe", "--json", "--cursor", &cursor, "--count", "1", "g/#"];
    let lines = json_lines(&gateway.run(&args).await);
    // The log may forget some more while it is read: then there is a gap more.
    let [gaps @ .., message] = &lines[..] else { panic!("nothing printed") };
    assert!(!gaps.is_empty(), "no gap");
    for gap in gaps {
        assert_eq!((&gap["type"], &gap["reason"]), (&"gap".into(), &"retention".into()), "{gap}");
    }
    let gap = &gaps[gaps.len() - 1];
    let offset = |value: &Value| value.as_str().unwrap().parse::<u64>().unwrap();
    let position = message["position"].as_str().unwrap();
    assert!(
        offset(&gap["before"]) <= offset(&position.split(':').nth(1).unwrap().into()),
        "{gap} {position}"
    );

    let text = stdout(&gateway.run(&["subscribe", "--cursor", &cursor, "--count", "1", "g/#"]).await);
    assert!(text.starts_with("!!! GAP: messages after offset"), "{text}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_has_its_exit_code() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let key = key.to_str().unwrap();
    let mut gateway = Gateway::start(&["--auth-key-file", key]).await;
    let token = async |more: &[&str]| {
        let args = ["token", "--key-file", key, "--sub", "alice"];
        let output = within("a token", program(&[&args, more].concat()).output()).await.unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).trim().to_owned()
    };

    gateway.token = token(&["--read", "mine/#", "--write", "mine/#"]).await;
    let output = gateway.run(&["subscribe", "--json", "mine/#", "yours/#"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(text.contains("yours/#") && text.contains("4400 not_allowed"), "{text}");
    let output = gateway.run(&["publish", "yours/x", "1"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("4400 not_allowed"), "{}", stderr(&output));

    // The good line is published all the same.
    let output = gateway.publish_lines("mine/x", "1\nnot JSON\n\n3\n").await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output).lines().count(), 2);
    assert!(stderr(&output).contains("line 2: the payload is not one JSON value"), "{}", stderr(&output));

    gateway.token = "eyJub3QiOiJhIHRva2VuIn0.e30.".to_owned();
    for args in [&["subscribe", "mine/#"][..], &["publish", "mine/x", "1"][..]] {
        let output = gateway.run(args).await;
        assert_eq!(output.status.code(), Some(1));
        let text = stderr(&output);
        assert!(text.contains("does not accept the token: 4201 token_invalid"), "{text}");
        assert!(text.contains("the variable ANABRANCH_TOKEN"), "{text}");
        assert!(!text.contains("eyJ"), "a secret: {text}");
    }
}

#[tokio::test]
async fn wrong_usage_is_2_and_says_what_is_right() {
    let run = async |args: &[&str]| within("usage", program(args).output()).await.unwrap();
    for (args, words) in [
        (&["subscribe", "a/#/b"][..], "must fill a whole level"),
        (&["subscribe", "a", "--cursor", "x"], "not a cursor"),
        (&["subscribe", "a"], "ANABRANCH_TOKEN"),
        (&["publish", "a/+", "1"], "a topic must be concrete"),
        (&["publish", "a", "1", "--token-file", "/no/such/file"], "cannot read the token in /no/such/file"),
    ] {
        let output = run(args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(words), "{args:?}: {}", stderr(&output));
    }
    let mut command = program(&["publish", "a", "{half"]);
    let output = within("usage", command.env("ANABRANCH_TOKEN", "x").output()).await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("not one JSON value"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named() {
    // Bound and not listening: nobody answers there, and nobody else takes the port.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("ws://{}", held.local_addr().unwrap());
    let mut command = program(&["publish", "a", "1", "--timeout", "1s", "--url", &url]);
    let output = within("publish", command.env("ANABRANCH_TOKEN", "x").output()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.contains(&url) && text.contains("cannot connect") && text.contains("serve --dev"), "{text}");
}

#[tokio::test]
async fn signals_and_closed_pipes_end_it_in_order() {
    let gateway = Gateway::start(&[]).await;
    for signal in [Signal::INT, Signal::TERM] {
        let mut subscriber = Subscriber::start(gateway.command(&["subscribe", "--json", "s/#"]));
        let live: Value = serde_json::from_str(&subscriber.line().await).unwrap();
        assert_eq!(live["type"], "live");
        subscriber.signal(signal);
        let output = subscriber.end().await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(cursor(&output), live["cursor"].as_str().unwrap());
    }

    gateway.publish("p/x", "1").await;
    let mut subscriber =
        Subscriber::start(gateway.command(&["subscribe", "--json", "--from", "earliest", "p/#"]));
    let mut first = subscriber.line().await;
    if first.contains("\"type\":\"live\"") {
        // What is confirmed, the node may have yet to read.
        first = subscriber.line().await;
    }
    assert!(first.contains("\"payload\":1"), "{first}");
    // Closes the pipe, as `| head -1` does. The next write finds out.
    let end = subscriber.end();
    let publishing = async {
        loop {
            gateway.publish("p/x", "2").await;
        }
    };
    let output = tokio::select! {
        output = end => output,
        () = publishing => unreachable!(),
    };
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}
