//! What goes wrong with a broker, sorted by what to do about it.

use crate::log::source::SourceError;
use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

/// Why the broker has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// No connection, or none any more, or not now. Worth another attempt.
    Unreachable(String),
    /// The stream does not exist.
    Gone,
    /// What was read there broke the connection.
    Killed(String),
    /// Another attempt would end as this one, until somebody changes a setting or the broker.
    Refused(String),
}

impl From<lapin::Error> for Fault {
    fn from(error: lapin::Error) -> Fault {
        let amqp = match error.kind() {
            ErrorKind::ProtocolError(amqp) => amqp,
            // A routing key that is not UTF-8, for instance: no attempt gets past it.
            ErrorKind::ParsingError(_) => return Fault::Killed(error.to_string()),
            ErrorKind::AuthProviderError(_) | ErrorKind::InvalidProtocolVersion(_) => {
                return Fault::Refused(error.to_string());
            }
            ErrorKind::IOError(io) => return Fault::Unreachable(io.to_string()),
            _ => return Fault::Unreachable(error.to_string()),
        };
        let text = amqp.get_message().to_string();
        let says = |words: &str| text.contains(words);
        match amqp.kind() {
            // While a node starts, its streams are not found in this way.
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if says("inaccessible") => Fault::Unreachable(text),
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if says("no queue") => Fault::Gone,
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if says("replica") => {
                Fault::Unreachable(text)
            }
            AMQPErrorKind::Soft(
                AMQPSoftError::NOTFOUND | AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::ACCESSREFUSED,
            ) => Fault::Refused(text),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if says("is down") => Fault::Unreachable(text),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::COMMANDINVALID) => {
                Fault::Refused(text)
            }
            AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR) => Fault::Killed(text),
            _ => Fault::Unreachable(text),
        }
    }
}

impl From<Fault> for SourceError {
    fn from(fault: Fault) -> SourceError {
        match fault {
            Fault::Unreachable(text) | Fault::Refused(text) => SourceError::Unreachable(text),
            Fault::Gone => SourceError::Gone,
            Fault::Killed(text) => SourceError::Killed(text),
        }
    }
}
