//! The story: who tries to reach whom, and what must come of it. Data only.

use std::fmt;

use Expected::{Allowed, DeniedAtSource, DeniedAtTarget, Unreachable};
use Place::{App, Db, Host, Outside, Web};
use Traffic::{Connect, Http, Ping, Store};

/// Where something is said or heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A task with an HTTP server.
    Web,
    /// A task that is only a client.
    App,
    /// A task with a server of a line protocol.
    Db,
    /// The host the tasks run on.
    Host,
    /// A machine beyond the host.
    Outside,
}

/// How it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// One HTTP/1.1 request.
    Http,
    /// Values put and got by a line protocol over TCP.
    Store,
    /// A TCP connection and nothing over it.
    Connect,
    /// One ICMP or ICMPv6 echo.
    Ping,
}

/// What must come of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is answered.
    Allowed,
    /// The source's groups do not let it out.
    DeniedAtSource,
    /// The target's groups do not let it in.
    DeniedAtTarget,
    /// It never gets to the VPC, which nothing enters unasked.
    Unreachable,
}

/// One attempt, over IPv4 and over IPv6.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) from: Place,
    pub(crate) to: Place,
    pub(crate) traffic: Traffic,
    /// 0 where there are no ports.
    pub(crate) port: u16,
    pub(crate) expected: Expected,
    /// Why that is expected, for the reader.
    pub(crate) because: &'static str,
}

pub(crate) const HTTP_PORT: u16 = 8080;
pub(crate) const STORE_PORT: u16 = 5432;
pub(crate) const SSH_PORT: u16 = 22;

const fn attempt(
    from: Place,
    to: Place,
    traffic: Traffic,
    port: u16,
    expected: Expected,
    because: &'static str,
) -> Attempt {
    Attempt {
        from,
        to,
        traffic,
        port,
        expected,
        because,
    }
}

/// In the order they are shown; they run all at once.
#[rustfmt::skip]
pub(crate) const ATTEMPTS: [Attempt; 10] = [
    attempt(App, Web, Http, HTTP_PORT, Allowed, "sg-web admits app to 8080"),
    attempt(App, Web, Connect, SSH_PORT, DeniedAtTarget, "sg-web admits nobody to 22"),
    attempt(App, Web, Ping, 0, DeniedAtTarget, "sg-web admits no echo request"),
    attempt(App, Db, Store, STORE_PORT, Allowed, "sg-db admits app to 5432"),
    attempt(Web, Db, Store, STORE_PORT, DeniedAtTarget, "sg-db does not admit web"),
    attempt(Db, App, Connect, HTTP_PORT, DeniedAtSource, "sg-db lets out only replies"),
    attempt(App, Outside, Http, HTTP_PORT, Allowed, "through the NAT gateway"),
    attempt(App, Outside, Ping, 0, Allowed, "through the NAT gateway"),
    attempt(Host, Web, Http, HTTP_PORT, Allowed, "sg-web admits the host to 8080"),
    attempt(Outside, Web, Http, HTTP_PORT, Unreachable, "the NAT gateway admits nobody"),
];

impl Place {
    pub(crate) const TASKS: [Self; 3] = [Web, App, Db];

    /// The task's id, or the place's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Web => "web",
            App => "app",
            Db => "db",
            Host => "host",
            Outside => "outside",
        }
    }
}

impl Expected {
    pub(crate) fn is_allowed(self) -> bool {
        self == Allowed
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from.name(), self.to.name());
        let how = match self.traffic {
            Http => "HTTP",
            Store | Connect => "TCP",
            Ping => "ping",
        };
        match self.port {
            0 => write!(f, "{from} → {to} {how}"),
            port => write!(f, "{from} → {to}:{port} {how}"),
        }
    }
}
