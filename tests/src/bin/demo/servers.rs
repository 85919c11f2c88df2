//! The servers of the story: web's and the outside's HTTP, db's line protocol.
//!
//! They listen inside their places' namespaces and serve whoever gets through; they deny nobody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use branchline::netns::Netns;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The header in which the HTTP server tells a client where it came from.
pub(crate) const SEEN_AS: &str = "x-seen-as";
/// Longer than one segment, so that packets of several segments are counted too.
pub(crate) const PAGE_LEN: usize = 100_000;

/// The page that the HTTP server serves.
pub(crate) fn page() -> String {
    "branchline ".chars().cycle().take(PAGE_LEN).collect()
}

/// Serves [`page`] at `/` until the process ends.
///
/// # Errors
/// The address cannot be listened at.
pub(crate) fn serve_http(netns: &Netns, address: IpAddr, port: u16) -> Result<()> {
    let listener = listen(netns, SocketAddr::new(address, port))?;
    let index = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
        ([(SEEN_AS, peer.ip().to_string())], page())
    };
    let service = Router::new()
        .route("/", get(index))
        .into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Ok(())
}

/// Values by name, shared by all connections.
type Values = Arc<Mutex<HashMap<String, String>>>;

/// Serves `PUT name value` and `GET name`, a line each, until the process ends.
///
/// # Errors
/// The address cannot be listened at.
pub(crate) fn serve_store(netns: &Netns, address: IpAddr, port: u16) -> Result<()> {
    let listener = listen(netns, SocketAddr::new(address, port))?;
    let values = Values::default();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_lines(stream, Arc::clone(&values)));
        }
    });
    Ok(())
}

async fn answer_lines(mut stream: TcpStream, values: Values) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        writer.write_all(answer(&line, &values).as_bytes()).await?;
    }
    Ok(())
}

fn answer(line: &str, values: &Values) -> String {
    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = line.splitn(3, ' ').collect();
    match words[..] {
        ["PUT", name, value] => {
            values.insert(name.to_owned(), value.to_owned());
            "OK\n".to_owned()
        }
        ["GET", name] => values
            .get(name)
            .map_or("NONE\n".to_owned(), |value| format!("VALUE {value}\n")),
        _ => "ERROR write PUT name value, or GET name\n".to_owned(),
    }
}

fn listen(netns: &Netns, address: SocketAddr) -> Result<TcpListener> {
    let failed = || format!("listen at {address} in {}", netns.name());
    let listener = netns
        .run(|| std::net::TcpListener::bind(address))?
        .with_context(failed)?;
    listener.set_nonblocking(true).with_context(failed)?;
    TcpListener::from_std(listener).with_context(failed)
}
