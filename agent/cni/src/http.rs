//! One HTTP/1.1 exchange over the agent's Unix socket. Knows nothing of what is said.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::api::{Answer, Request};

/// How long the agent may take: longer than the kernel may make it wait, shorter than runtimes do.
const PATIENCE: Duration = Duration::from_secs(100);
/// Headers that the agent's answers have at most.
const MAX_HEADERS: usize = 32;

/// How the agent is asked.
pub trait Agent {
    /// Asks the agent at `socket`.
    ///
    /// # Errors
    /// No answer, whatever it would have been.
    fn ask(&self, socket: &Path, request: &Request) -> Result<Answer, TalkError>;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TalkError {
    /// Nobody listens there, or may.
    #[error("connect to the agent: {0}")]
    Connect(std::io::Error),
    /// The connection broke off or nothing came in time.
    #[error("talk to the agent: {0}")]
    Broken(std::io::Error),
    /// What came is no answer.
    #[error("the agent's answer is no HTTP: {0}")]
    NotHttp(String),
}

/// The agent behind a real socket.
#[derive(Debug, Clone, Copy)]
pub struct Socket;

impl Agent for Socket {
    fn ask(&self, socket: &Path, request: &Request) -> Result<Answer, TalkError> {
        let stream = UnixStream::connect(socket).map_err(TalkError::Connect)?;
        let answer = exchange(stream, &encode(request)).map_err(TalkError::Broken)?;
        decode(&answer)
    }
}

fn exchange(mut stream: UnixStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A request as bytes; the agent closes the connection after its answer.
fn encode(request: &Request) -> Vec<u8> {
    let Request { method, path, body } = request;
    let body = body.as_ref().map_or(String::new(), ToString::to_string);
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: branchline\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// An answer of bytes until the connection's end, whose length must be as it says.
fn decode(bytes: &[u8]) -> Result<Answer, TalkError> {
    let not_http = |problem: &str| TalkError::NotHttp(problem.to_owned());
    let cut = || TalkError::Broken(std::io::ErrorKind::UnexpectedEof.into());
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Err(cut()),
        Err(error) => return Err(not_http(&error.to_string())),
    };
    let status = head.code.ok_or_else(|| not_http("it has no status"))?;
    let length = head
        .headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = match length.map(|header| std::str::from_utf8(header.value).map(str::parse)) {
        Some(Ok(Ok(length))) => length,
        Some(_) => return Err(not_http("its length is no number")),
        // Such as 204; an answer of unknown length would be cut off unnoticed.
        None if bytes.len() == start => 0,
        None => return Err(not_http("it has no length")),
    };
    let body: &[u8] = bytes.get(start..).unwrap_or_default();
    let body = body.get(..length).ok_or_else(cut)?;
    Ok(Answer {
        status,
        body: body.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn requests_say_how_long_they_are() {
        let remove = String::from_utf8(encode(&Request::remove("a"))).unwrap();
        assert!(
            remove.starts_with("DELETE /v1/tasks/a HTTP/1.1\r\n"),
            "{remove}"
        );
        assert!(remove.ends_with("content-length: 0\r\n\r\n"), "{remove}");
        let add = Request::add(serde_json::json!({"taskId": "\u{e4}"}));
        let add = String::from_utf8(encode(&add)).unwrap();
        assert!(
            add.ends_with("content-length: 15\r\n\r\n{\"taskId\":\"\u{e4}\"}"),
            "{add}"
        );
    }

    #[test]
    fn whole_answers_are_read_and_others_are_none() {
        let read = |text: &str| decode(text.as_bytes());
        let body = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((body.status, body.body.as_slice()), (200, &b"{}"[..]));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
        for cut in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}",
        ] {
            assert!(matches!(read(cut), Err(TalkError::Broken(_))), "{cut}");
        }
        for other in [
            "SSH-2.0-OpenSSH\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        ] {
            assert!(matches!(read(other), Err(TalkError::NotHttp(_))), "{other}");
        }
    }
}
