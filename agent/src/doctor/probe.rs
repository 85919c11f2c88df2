//! Tries what the agent does to links, in a network namespace that ends with the thread it is made for.

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkVeth, new_connection};

/// Whether links and their hooks can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkProbe {
    /// A veth pair and its TC hook were made.
    Works,
    /// There is no right to try, and why.
    NotTried(String),
    /// The kernel refused.
    Failed {
        /// What was attempted.
        step: &'static str,
        /// What the kernel said.
        error: String,
    },
}

/// The end that gets the hook.
const HOST_END: &str = "bl-probe";

impl LinkProbe {
    /// Makes a veth pair and a TC hook where nobody sees them; nothing remains.
    pub(super) fn run() -> Self {
        // A thread of its own: the namespace is the thread's and ends with it.
        std::thread::spawn(try_links)
            .join()
            .unwrap_or(Self::NotTried("the probe broke off".to_owned()))
    }
}

fn try_links() -> LinkProbe {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        return LinkProbe::NotTried(format!("no namespace: {}", error.desc()));
    }
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return LinkProbe::NotTried(error.to_string()),
    };
    runtime.block_on(async {
        let handle = match new_connection() {
            Ok((connection, handle, _)) => {
                tokio::spawn(connection);
                handle
            }
            Err(error) => {
                return LinkProbe::Failed {
                    step: "open netlink",
                    error: error.to_string(),
                };
            }
        };
        make_links(&handle).await.map_or_else(
            |(step, error)| LinkProbe::Failed { step, error },
            |()| LinkProbe::Works,
        )
    })
}

async fn make_links(handle: &Handle) -> Result<(), (&'static str, String)> {
    let step = |name: &'static str| move |error: rtnetlink::Error| (name, error.to_string());
    let veth = LinkVeth::new(HOST_END, "bl-probe-task").build();
    handle
        .link()
        .add(veth)
        .execute()
        .await
        .map_err(step("make a veth pair"))?;
    let index = nix::net::if_::if_nametoindex(HOST_END)
        .map_err(|error| ("find the veth pair", error.to_string()))?;
    let index = i32::try_from(index).map_err(|error| ("find the veth pair", error.to_string()))?;
    handle
        .qdisc()
        .add(index)
        .ingress()
        .execute()
        .await
        .map_err(step("make a TC ingress hook"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_leaves_nothing_here() {
        let probe = LinkProbe::run();
        // Without the right to make a namespace nothing is tried; with it, every step has to work here.
        assert!(
            matches!(probe, LinkProbe::Works | LinkProbe::NotTried(_)),
            "{probe:?}"
        );
        assert!(nix::net::if_::if_nametoindex(HOST_END).is_err());
    }
}
