//! A stream of server-sent events from the agent, message by message.

use std::path::PathBuf;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::client::{Client, ClientError, Connection, parse};

/// A stream that is open until it is dropped.
#[derive(Debug)]
pub struct EventStream {
    socket: PathBuf,
    request: String,
    body: Incoming,
    connection: Connection,
    messages: Messages,
}

impl EventStream {
    pub(super) fn new(
        client: &Client,
        body: Incoming,
        connection: Connection,
        request: String,
    ) -> Self {
        Self {
            socket: client.socket().to_owned(),
            request,
            body,
            connection,
            messages: Messages::default(),
        }
    }

    /// The next message. A call that is dropped loses nothing.
    ///
    /// # Errors
    /// `Ended` when the agent stops; `Talk` or `Answer`.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        loop {
            if let Some(json) = self.messages.next() {
                return parse(&self.request, &json);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.messages.add(frame.into_data().unwrap_or_default()),
                Some(Err(source)) => {
                    return Err(ClientError::Talk {
                        socket: self.socket.clone(),
                        source,
                    });
                }
                None => {
                    return Err(ClientError::Ended {
                        socket: self.socket.clone(),
                    });
                }
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// The bytes of a stream to the data of its messages: the lines `data: ...` up to an empty one.
#[derive(Debug, Default)]
struct Messages {
    bytes: Vec<u8>,
    /// Bytes before it are done with.
    start: usize,
}

impl Messages {
    fn add(&mut self, bytes: Bytes) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(&bytes);
    }

    /// The next whole message that has data.
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let rest = &self.bytes[self.start..];
            let end = rest.windows(2).position(|pair| pair == b"\n\n")?;
            let (message, length) = (&rest[..end], end + 2);
            let mut lines = message.split(|byte| *byte == b'\n');
            let data = lines.find_map(|line| line.strip_prefix(b"data: ").map(<[u8]>::to_vec));
            self.start += length;
            if data.is_some() {
                return data;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let text = b"data: {\"a\":1}\n\n:\n\nevent: x\ndata: {}\n\ndata: 7";
        for size in [1, 2, 3, 7, text.len()] {
            let (mut messages, mut found) = (Messages::default(), Vec::new());
            for part in text.chunks(size) {
                messages.add(Bytes::copy_from_slice(part));
                while let Some(message) = messages.next() {
                    found.push(message);
                }
            }
            assert_eq!(found, [b"{\"a\":1}".to_vec(), b"{}".to_vec()], "{size}");
        }
    }
}
