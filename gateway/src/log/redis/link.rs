//! Connections: one that many questions share, and how each is made.

use super::options::Options;
use super::route::{Place, Router};
use super::trouble::breaks_connection;
use anabranch_protocol::cursor::Partition;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    RedisResult, TlsCertificates, Value,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long connecting may take, with TLS and password. A frozen server accepts and then says nothing.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a question that does not block may take.
pub(super) const ANSWER: Duration = Duration::from_secs(4);

/// A connection to the server that holds one partition.
#[derive(Clone)]
pub(super) struct Connection {
    inner: MultiplexedConnection,
    /// The partition is on its way to this server, which answers only if asked so.
    asking: bool,
}

impl Connection {
    /// Sends commands in one go. Each has its own answer; an error of the whole means that none is known.
    pub(super) async fn send(
        &mut self,
        commands: impl IntoIterator<Item = Cmd>,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut pipe = redis::pipe();
        for command in commands {
            if self.asking {
                pipe.cmd("ASKING").ignore();
            }
            pipe.add_command(command);
        }
        pipe.ignore_errors().query_async(&mut self.inner).await
    }

    /// Sends one command.
    pub(super) async fn ask(&mut self, command: Cmd) -> RedisResult<Value> {
        let mut answers = self.send([command]).await?;
        answers.pop().unwrap_or(Ok(Value::Nil))
    }
}

/// What connects to a place.
pub(super) async fn client(options: &Options, place: &Place) -> RedisResult<Client> {
    let mut settings =
        RedisConnectionInfo::default().set_db(i64::from(options.database)).set_skip_set_lib_name();
    if let Some(user) = &options.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &options.password {
        settings = settings.set_password(String::from_utf8_lossy(password.reveal()));
    }
    let (host, port) = (place.host.clone(), place.port);
    let address = match options.tls {
        false => ConnectionAddr::Tcp(host, port),
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    let info = address.into_connection_info()?.set_redis_settings(settings);
    match &options.ca {
        Some(path) => {
            let ca = tokio::fs::read(path)
                .await
                .map_err(|error| unreadable(&path.display().to_string(), &error))?;
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca) })
        }
        None => Client::open(info),
    }
}

/// Connects to a place. `answer` is how long a question on this connection may take.
pub(super) async fn connect(options: &Options, place: &Place, answer: Duration) -> RedisResult<Connection> {
    let client = client(options, place).await?;
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(answer));
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let inner = timeout(CONNECT, connecting).await.unwrap_or_else(|_| Err(silent()))?;
    let mut connection = Connection { inner, asking: false };
    // Without a password nothing was asked so far, and a frozen server would go unnoticed until records are on their way.
    let greeting = timeout(CONNECT, connection.ask(redis::cmd("PING"))).await;
    greeting.unwrap_or_else(|_| Err(silent()))?;
    Ok(Connection { asking: place.asking, ..connection })
}

/// No answer in time.
pub(super) fn silent() -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer").into()
}

fn unreadable(path: &str, error: &std::io::Error) -> RedisError {
    let text = format!("{path}: {error}");
    (redis::ErrorKind::InvalidClientConfig, "the file of option ca cannot be read", text).into()
}

/// The connection that all short questions about one partition share. Connects when asked, and anew after an error.
pub(super) struct Link {
    router: Arc<Router>,
    partition: Partition,
    /// The connection, and how many there were before it.
    current: Mutex<(u64, Option<Connection>)>,
}

impl Link {
    pub(super) fn new(router: Arc<Router>, partition: Partition) -> Link {
        Link { router, partition, current: Mutex::new((0, None)) }
    }

    /// Asks one question, which must be one that can be asked twice. Follows a partition that has moved, and does without
    /// a connection that had broken before, once each.
    pub(super) async fn ask(&self, command: Cmd) -> RedisResult<Value> {
        match self.try_ask(command.clone()).await {
            Err(error) if error.redirect_node().is_some() || error.is_connection_dropped() => {
                self.try_ask(command).await
            }
            answer => answer,
        }
    }

    async fn try_ask(&self, command: Cmd) -> RedisResult<Value> {
        let (number, mut connection) = {
            // Held while connecting: whoever asks meanwhile wants the same connection.
            let mut current = self.current.lock().await;
            let connection = match &current.1 {
                Some(connection) => connection.clone(),
                None => {
                    let connection = self.router.connect(self.partition, ANSWER).await?;
                    *current = (current.0 + 1, Some(connection.clone()));
                    connection
                }
            };
            (current.0, connection)
        };
        let answer = connection.ask(command).await;
        if let Err(error) = &answer
            && breaks_connection(error)
        {
            self.router.note(self.partition, error);
            let mut current = self.current.lock().await;
            if current.0 == number {
                current.1 = None;
            }
        }
        answer
    }
}
