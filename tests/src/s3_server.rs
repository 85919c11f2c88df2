//! A server of others (moto) on loopback that speaks S3, and other services of AWS, and its bare HTTP interface.
//!
//! Needs the Python environment that `cargo xtask setup interop` makes. What fails panics.
#![expect(clippy::unwrap_used, reason = "a part of tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take until it answers.
const START: Duration = Duration::from_secs(60);

/// moto shows an object to nobody who says not who they are, and knows by this which service is meant.
fn authorization(service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20261128/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    )
}

/// A running server; killed when dropped. It keeps objects in memory.
#[derive(Debug)]
pub struct S3Server {
    process: Child,
    port: u16,
}

impl S3Server {
    /// Starts on `port` of this thread's loopback.
    #[must_use]
    pub fn start(port: u16) -> Self {
        Self::start_with(port, &[])
    }

    /// As [`S3Server::start`], with environment variables of moto's own.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    pub fn start_with(port: u16, variables: &[(&str, &str)]) -> Self {
        let venv = std::env::var_os("BRANCHLINE_VENV").map(PathBuf::from);
        let venv = venv.expect("BRANCHLINE_VENV is not set: run `cargo xtask test`");
        let process = Command::new(venv.join("bin/moto_server"))
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, port };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(began.elapsed() < START, "moto_server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        endpoint(self.port)
    }

    /// Sends a request with a signature that nobody checks; returns status and body.
    pub fn request(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.send(&authorization("s3"), method, path, body)
    }

    /// Sends a form to a service with a query protocol, as `ec2`; returns status and body.
    pub fn ask_of(&self, service: &str, form: &str) -> (u16, String) {
        let headers = format!(
            "{}\r\nContent-Type: application/x-www-form-urlencoded",
            authorization(service)
        );
        let (status, body) = self.send(&headers, "POST", "/", form.as_bytes());
        (status, String::from_utf8(body).unwrap())
    }

    fn send(&self, headers: &str, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(!head.contains("chunked"), "{head}");
        (status, answer[end + 4..].to_vec())
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        assert_eq!(self.request("PUT", &format!("/{bucket}"), b"").0, 200);
    }

    /// Makes an object.
    pub fn put(&self, bucket: &str, key: &str, content: &[u8]) {
        assert_eq!(
            self.request("PUT", &format!("/{bucket}/{key}"), content).0,
            200
        );
    }

    /// Every object of a bucket.
    pub fn objects(&self, bucket: &str) -> BTreeMap<String, Vec<u8>> {
        let (status, list) = self.request("GET", &format!("/{bucket}?list-type=2"), b"");
        assert_eq!(status, 200);
        let keys = elements(&list, "Key");
        let object = |key: String| {
            let (status, content) = self.request("GET", &format!("/{bucket}/{key}"), b"");
            assert_eq!(status, 200, "{key}");
            (key, content)
        };
        keys.into_iter().map(object).collect()
    }

    /// Ids of the multipart uploads that are neither completed nor aborted.
    pub fn open_uploads(&self, bucket: &str) -> Vec<String> {
        let (status, list) = self.request("GET", &format!("/{bucket}?uploads"), b"");
        assert_eq!(status, 200);
        elements(&list, "UploadId")
    }

    /// Numbers of the parts that a multipart upload has.
    pub fn parts(&self, bucket: &str, key: &str, upload_id: &str) -> Vec<String> {
        let path = format!("/{bucket}/{key}?uploadId={upload_id}");
        elements(&self.request("GET", &path, b"").1, "PartNumber")
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // A process that has ended already is as good.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The URL of a server at a port of loopback.
#[must_use]
pub fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// The texts of all elements `name` of an XML answer.
fn elements(xml: &[u8], name: &str) -> Vec<String> {
    let xml = String::from_utf8_lossy(xml);
    let start = format!("<{name}>");
    let texts = xml.split(start.as_str()).skip(1);
    texts
        .map(|rest| rest.split('<').next().unwrap().to_owned())
        .collect()
}
