//! Security groups are changed, compared and explained while tasks run.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Output,
};

use branchline_tests::{
    host::Host,
    settings::{OPEN_PORT, Settings},
    talk::{self, PATIENCE, SHORT},
    task::Task,
};
use serde_json::Value;

/// A port that `sg-server` opens only when it is applied.
const APPLIED_PORT: u16 = 8;

/// `sg-server` with one port for the members of `sg-client`, out everything.
fn server_group(port: u16) -> String {
    format!(
        "[[security_groups]]\ngroup_id = 'sg-server'\ngroup_name = 'server'\n\
         ip_permissions = [{{ip_protocol = 'tcp', from_port = {port}, to_port = {port}, \
         user_id_group_pairs = [{{group_id = 'sg-client'}}]}}]\n"
    )
}

/// A file that goes with the test.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("branchline-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn json(host: &Host, arguments: &[&str]) -> Value {
    serde_json::from_str(&host.branchline_ok(arguments).unwrap()).unwrap()
}

fn explain(host: &Host, to: &str, port: u16) -> Output {
    let port = port.to_string();
    let arguments = [
        "explain", "--from", "client", "--to", to, "--proto", "tcp", "--port", &port,
    ];
    host.branchline(&arguments).unwrap()
}

#[test]
fn an_apply_is_in_force_at_once_and_after_a_restart() {
    let host = Host::new("sgapply", Settings::default()).unwrap();
    host.start_agent().unwrap();
    let server = host
        .add_task("server", &["subnet-a"], &["sg-server"])
        .unwrap();
    let client = host
        .add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let at = |port| SocketAddr::new(IpAddr::V4(server.ipv4), port);
    let passes = |client: &Task, port| {
        let wait = if port == OPEN_PORT { PATIENCE } else { SHORT };
        talk::tcp(&client.netns, &server.netns, at(port), wait).is_ok()
    };
    assert_eq!(
        [OPEN_PORT, APPLIED_PORT].map(|port| passes(&client, port)),
        [true, false]
    );
    assert_eq!(
        explain(&host, "server", APPLIED_PORT).status.code(),
        Some(1)
    );

    // For members only, so that flows are tracked.
    let narrow = File::new("sgnarrow", &server_group(OPEN_PORT));
    host.branchline_ok(&["sg", "apply", narrow.path()]).unwrap();

    // The other port instead: a connection that is open goes on.
    let (mut asking, mut answering) =
        talk::connection(&client.netns, &server.netns, at(OPEN_PORT)).unwrap();
    let file = File::new("sgapply", &server_group(APPLIED_PORT));
    let diff = json(&host, &["sg", "diff", file.path(), "--json"]);
    assert_eq!(diff["network_interfaces"], 1, "{diff}");
    let flows = diff["flows"].as_array().unwrap();
    let goes_on = |flow: &&Value| flow["effect"] == "goes_on" && flow["local_port"] == OPEN_PORT;
    assert!(flows.iter().any(|flow| goes_on(&flow)), "{diff}");
    let applied = json(&host, &["sg", "apply", file.path(), "--json"]);
    assert_eq!(applied["network_interfaces"], 1, "{applied}");
    let mut byte = [0];
    asking.write_all(&[7]).unwrap();
    answering.read_exact(&mut byte).unwrap();
    answering.write_all(&byte).unwrap();
    asking.read_exact(&mut byte).unwrap();
    let allowed = |client: &Task| {
        let wait = SHORT;
        [OPEN_PORT, APPLIED_PORT]
            .map(|port| talk::tcp(&client.netns, &server.netns, at(port), wait).is_ok())
    };
    assert_eq!(allowed(&client), [false, true]);

    // Explain agrees with what packets meet, at both ends.
    let explained = explain(&host, "server", APPLIED_PORT);
    let text = String::from_utf8(explained.stdout).unwrap();
    assert_eq!(explained.status.code(), Some(0), "{text}");
    assert_eq!(
        text.matches("the loaded policy agrees").count(),
        2,
        "{text}"
    );
    assert!(text.contains("ingress tcp 8 from sg-client"), "{text}");
    assert_eq!(explain(&host, "server", OPEN_PORT).status.code(), Some(1));
    assert_eq!(explain(&host, "nobody", OPEN_PORT).status.code(), Some(2));

    // What was applied wins over the VPC file, and the rest of the file is still there.
    host.kill_agent().unwrap();
    host.start_agent().unwrap();
    assert_eq!(allowed(&client), [false, true]);
    let shown = json(&host, &["sg", "show", "sg-server", "--json"]);
    let peer = format!("{}/32", client.ipv4);
    let networks = &shown["security_group_rules"][0]["networks"];
    assert!(
        networks.as_array().unwrap().contains(&Value::from(peer)),
        "{shown}"
    );
    let text = host.branchline_ok(&["sg", "ls"]).unwrap();
    assert!(text.contains("\nsg-client "), "{text}");
}

#[test]
fn an_apply_that_is_refused_changes_nothing() {
    let host = Host::new("sgrefused", Settings::default()).unwrap();
    host.start_agent().unwrap();
    host.add_task("client", &["subnet-b"], &["sg-client"])
        .unwrap();
    let before = json(&host, &["sg", "ls", "--json"]);
    let file = File::new("sgrefused", &server_group(APPLIED_PORT));
    let pruned = host
        .branchline(&["sg", "apply", file.path(), "--prune"])
        .unwrap();
    let error = String::from_utf8(pruned.stderr).unwrap();
    assert_eq!(pruned.status.code(), Some(1), "{error}");
    assert!(error.contains("sg-client"), "{error}");
    let unknown = server_group(APPLIED_PORT).replace("sg-client", "sg-nobody");
    let unknown = File::new("sgunknown", &unknown);
    let refused = host.branchline(&["sg", "apply", unknown.path()]).unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("security_groups[0].ip_permissions[0]"),
        "{error}"
    );
    assert_eq!(json(&host, &["sg", "ls", "--json"]), before);
    // A new group can be given to a task that comes after it, and to none before.
    let new = server_group(1)
        .replace("sg-server", "sg-new")
        .replace("'server'", "'new'");
    assert!(host.add_task("early", &["subnet-a"], &["sg-new"]).is_err());
    let new = File::new("sgnew", &new);
    host.branchline_ok(&["sg", "apply", new.path()]).unwrap();
    host.add_task("late", &["subnet-a"], &["sg-new"]).unwrap();
}
