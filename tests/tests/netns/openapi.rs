//! The API against a fuzzer of others (schemathesis), which makes requests of the API's own description.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use branchline_tests::{host::Host, settings::Settings};

/// Streams never end, so no answer of theirs is ever whole.
const STREAMS: &str = "/v1/(events|flows/.*)";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";

#[test]
fn a_fuzzer_finds_no_failure_and_no_answer_that_is_not_described() {
    let host = Host::new("openapi", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let port = host.run(forward);
    let url = format!("http://127.0.0.1:{port}");
    let venv = std::env::var_os("BRANCHLINE_VENV").map(PathBuf::from);
    let venv = venv.expect("BRANCHLINE_VENV is not set: run `cargo xtask test`");
    let mut fuzzer = Command::new(venv.join("bin/schemathesis"));
    fuzzer
        .args(["run", &format!("{url}/v1/openapi.json"), "--url", &url])
        .args(["--checks", CHECKS, "--exclude-path-regex", STREAMS])
        .args(["--max-examples", "30", "--seed", "1", "--no-shrink"])
        .args(["--warnings", "off", "--request-timeout", "20"])
        .current_dir("/run")
        .env("HYPOTHESIS_STORAGE_DIRECTORY", "/run/hypothesis")
        .stdin(Stdio::null());
    let output = host.run(|| fuzzer.output()).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    // It has really asked: the one task that the description has as an example was made.
    assert!(host.log().contains("added task=web"), "{text}");
}

/// A port of the host's loopback whose connections lead to the agent's socket; the fuzzer knows no
/// other way. Its threads end with this process.
fn forward() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        // This thread is in the host's namespaces, as those that it starts.
        for client in listener.incoming() {
            let client = client.unwrap();
            thread::spawn(move || {
                let agent = UnixStream::connect("/run/branchline/agent.sock").unwrap();
                let (from, to) = (client.try_clone().unwrap(), agent.try_clone().unwrap());
                let up = thread::spawn(move || {
                    copy(from, &to);
                    drop(to.shutdown(Shutdown::Write));
                });
                copy(agent, &client);
                drop(TcpStream::shutdown(&client, Shutdown::Both));
                drop(up.join());
            });
        }
    });
    port
}

/// Until one of the two ends; how does not matter here.
fn copy<R: io::Read, W>(mut from: R, to: &W)
where
    for<'a> &'a W: io::Write,
{
    let mut to = to;
    drop(io::copy(&mut from, &mut to));
}
