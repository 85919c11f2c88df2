//! Who may do what on the socket: its owner everything, members of the readers' group what changes
//! nothing, nobody else anything.
//!
//! Judges by the kernel's word (`SO_PEERCRED`, unix(7)). The socket's mode keeps others out as well;
//! this holds when someone changes it.

use std::ffi::CString;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use axum::serve::IncomingStream;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::UnixListener;

use super::error;
use crate::api::ErrorCode;

/// Who may use the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// The user who may do everything.
    pub owner: u32,
    /// The group whose members may read.
    pub readers: Option<u32>,
    /// The agent's own user, who asks whether it answers; may read.
    pub agent: Option<u32>,
}

impl Access {
    /// Root alone, and readers of the group `readers`, if there is one.
    #[must_use]
    pub const fn root(readers: Option<u32>) -> Self {
        Self {
            owner: 0,
            readers,
            agent: None,
        }
    }

    /// As before, and the user `agent` may read.
    #[must_use]
    pub const fn with_agent(self, agent: u32) -> Self {
        Self {
            agent: Some(agent),
            ..self
        }
    }
}

/// Who is at the other end of a connection; `None` if the kernel did not say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(Option<(u32, u32)>);

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let credentials = stream.io().peer_cred().ok();
        Self(credentials.map(|found| (found.uid(), found.gid())))
    }
}

/// Lets a request pass if who sent it may make it.
pub(super) async fn check(
    State(access): State<Access>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let verdict = judge(access, peer, request.method(), is_member);
    match verdict {
        Ok(()) => next.run(request).await,
        Err(message) => error(StatusCode::FORBIDDEN, ErrorCode::Forbidden, message),
    }
}

/// Whether a peer of user and primary group may send `method`; `is_member` knows the other groups.
fn judge(
    access: Access,
    peer: Option<(u32, u32)>,
    method: &Method,
    is_member: impl Fn(u32, u32, u32) -> bool,
) -> Result<(), &'static str> {
    const ROOT: &str = "only root may use the agent; run this with sudo";
    let (user, group) = peer.ok_or(ROOT)?;
    if user == access.owner {
        return Ok(());
    }
    let is_read = matches!(*method, Method::GET | Method::HEAD);
    if is_read && access.agent == Some(user) {
        return Ok(());
    }
    let readers = access.readers.ok_or(ROOT)?;
    if group != readers && !is_member(user, group, readers) {
        return Err("only root and the agent's readers (api.read_only_group) may use the agent");
    }
    if is_read {
        return Ok(());
    }
    Err("readers may not change anything; run this with sudo")
}

/// Whether the user, whose primary group is `group`, is a member of `readers` by the host's own lists.
fn is_member(user: u32, group: u32, readers: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(user)) else {
        return false;
    };
    let Ok(name) = CString::new(user.name) else {
        return false;
    };
    let groups = getgrouplist(&name, Gid::from_raw(group));
    groups.is_ok_and(|groups| groups.contains(&Gid::from_raw(readers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_changes_readers_read_and_nobody_else_does_anything() {
        let open = Access::root(Some(50));
        let closed = Access::root(None);
        let own = closed.with_agent(300);
        let rows = [
            (closed, Some((0, 0)), Method::DELETE, true),
            (closed, Some((1000, 50)), Method::GET, false),
            (closed, None, Method::GET, false),
            (open, Some((0, 7)), Method::POST, true),
            (own, Some((300, 300)), Method::GET, true),
            (own, Some((300, 300)), Method::POST, false),
            (own, Some((301, 300)), Method::GET, false),
            (open, Some((1000, 50)), Method::GET, true),
            (open, Some((1000, 50)), Method::HEAD, true),
            (open, Some((1000, 50)), Method::POST, false),
            (open, Some((1000, 50)), Method::DELETE, false),
            (open, Some((1001, 7)), Method::GET, true),
            (open, Some((1002, 7)), Method::GET, false),
            (open, None, Method::GET, false),
        ];
        // 1001 has the readers' group besides its own.
        let is_member = |user, _, readers| (user, readers) == (1001, 50);
        for (access, peer, method, expected) in rows {
            let verdict = judge(access, peer, &method, is_member);
            assert_eq!(verdict.is_ok(), expected, "{access:?} {peer:?} {method}");
        }
    }

    #[test]
    fn root_is_in_its_own_group_and_in_no_unknown_one() {
        assert!(is_member(0, 0, 0));
        assert!(!is_member(0, 0, 4_294_967_290));
        assert!(!is_member(4_294_967_290, 0, 0));
    }
}
