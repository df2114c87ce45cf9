//! Payloads from standard input.

use crate::cli::Failure;
use anabranch_protocol::limits::ENVELOPE_BYTES;
use futures_util::{Stream, stream};
use std::io::{BufRead, IsTerminal, Read};
use tokio::sync::{mpsc, oneshot};

/// All of standard input as one payload, without the newline at its end. More than an envelope may have is an error.
pub(super) async fn whole() -> Result<String, Failure> {
    say_what_is_expected("the payload");
    let (read, waiting) = oneshot::channel();
    // A thread of its own: tokio's would keep the process alive until the read returns.
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = std::io::stdin().lock().take(ENVELOPE_BYTES as u64 + 2).read_to_end(&mut bytes);
        let _ = read.send(result.map(|_| bytes));
    });
    match waiting.await {
        Ok(Ok(bytes)) => text(bytes),
        Ok(Err(error)) => Err(unreadable(&error)),
        Err(_) => Err(Failure::refused("cannot read standard input")),
    }
}

/// Each line of standard input, without its end. A line that is no payload is an error of its own.
pub(super) fn lines() -> impl Stream<Item = Result<String, Failure>> {
    say_what_is_expected("one payload a line");
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = next_line(&mut input) {
            let readable = !matches!(line, Err(LineError::Input(_)));
            let line = line.map_err(|error| match error {
                LineError::Line(failure) => failure,
                LineError::Input(error) => unreadable(&error),
            });
            if sender.blocking_send(line).is_err() || !readable {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await?, receiver)) })
}

enum LineError {
    /// This line is of no use; the next one may be.
    Line(Failure),
    Input(std::io::Error),
}

/// Reads a line, never more of it than an envelope may have; `None` at the end.
fn next_line(input: &mut impl BufRead) -> Option<Result<String, LineError>> {
    let mut bytes = Vec::new();
    match input.by_ref().take(ENVELOPE_BYTES as u64 + 2).read_until(b'\n', &mut bytes) {
        Ok(0) => return None,
        Ok(_) => {}
        Err(error) => return Some(Err(LineError::Input(error))),
    }
    if bytes.len() > ENVELOPE_BYTES + 1
        && bytes.last() != Some(&b'\n')
        && let Err(error) = skip_line(input)
    {
        return Some(Err(LineError::Input(error)));
    }
    Some(text(bytes).map_err(LineError::Line))
}

fn skip_line(input: &mut impl BufRead) -> std::io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (length, done) = (end.map_or(buffer.len(), |at| at + 1), end.is_some() || buffer.is_empty());
        input.consume(length);
        if done {
            return Ok(());
        }
    }
}

fn text(mut bytes: Vec<u8>) -> Result<String, Failure> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        bytes.pop_if(|byte| *byte == b'\r');
    }
    if bytes.len() > ENVELOPE_BYTES {
        return Err(Failure::refused(format!(
            "the payload is over {} KiB, the most for one message",
            ENVELOPE_BYTES >> 10
        )));
    }
    String::from_utf8(bytes).map_err(|_| Failure::refused("the payload is not UTF-8"))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::refused(format!("cannot read standard input: {error}"))
}

fn say_what_is_expected(what: &str) {
    if std::io::stdin().is_terminal() {
        eprintln!("anabranch: reading {what} from standard input; Ctrl-D ends it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_too_long_is_one_error_and_the_next_is_read() {
        let mut input = vec![b'x'; ENVELOPE_BYTES * 3];
        input.extend_from_slice(b"\n1\r\n\n\xff\n2");
        let mut input = std::io::BufReader::new(&input[..]);
        let lines: Vec<Result<String, String>> = std::iter::from_fn(|| next_line(&mut input))
            .map(|line| {
                line.map_err(|error| match error {
                    LineError::Line(failure) => failure.to_string(),
                    LineError::Input(error) => panic!("{error}"),
                })
            })
            .collect();
        assert!(lines[0].as_ref().is_err_and(|error| error.contains("256 KiB")), "{:?}", lines[0]);
        assert_eq!(lines[1..3], [Ok("1".to_owned()), Ok(String::new())]);
        assert!(lines[3].as_ref().is_err_and(|error| error.contains("UTF-8")), "{:?}", lines[3]);
        assert_eq!(lines[4..], [Ok("2".to_owned())]);
    }
}
