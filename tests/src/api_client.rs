//! One connection to the agent's API, request after request, without a runtime: what it takes is the
//! agent's. Knows no more of HTTP than the agent's answers have.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A connection that is kept open.
#[derive(Debug)]
pub struct ApiClient {
    stream: BufReader<UnixStream>,
}

impl ApiClient {
    /// Over a stream to the agent's socket.
    ///
    /// # Errors
    /// None yet; a stream that is no good fails the first request.
    pub fn over(stream: UnixStream) -> Result<Self> {
        let stream = BufReader::new(stream);
        Ok(Self { stream })
    }

    /// One request; the answer's status and body.
    ///
    /// # Errors
    /// The connection broke, or the answer has no length.
    pub fn request(&mut self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: agent\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).context("no status line")?;
        let status = status.parse()?;
        let mut length = None;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = Some(value.trim().parse()?);
            }
        }
        let bodiless = status == 204;
        let length: usize = length
            .or(bodiless.then_some(0))
            .context("an answer without length")?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body)?))
    }

    /// As [`ApiClient::request`], of an answer that is JSON and no error.
    ///
    /// # Errors
    /// As [`ApiClient::request`], or the agent refused.
    pub fn json(&mut self, method: &str, path: &str, body: &str) -> Result<Value> {
        let (status, text) = self.request(method, path, body)?;
        ensure!(
            (200..300).contains(&status),
            "{method} {path}: {status}: {text}"
        );
        if text.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&text)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line)? > 0,
            "the agent closed the connection"
        );
        Ok(line.trim_end().to_owned())
    }
}
