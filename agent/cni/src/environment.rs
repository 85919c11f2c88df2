//! The parameters of a call, which come as environment variables (CNI specification, section 2, "Parameters").

use std::collections::BTreeMap;

use crate::error::{CniError, code};

/// What all variables of the protocol begin with.
const PREFIX: &str = "CNI_";
/// Bytes of the longest link name.
const MAX_LINK_NAME: usize = 15;

/// The variables of the protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// What the runtime wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Give a container a network interface.
    Add,
    /// Take it away.
    Del,
    /// Say whether it is as it should be.
    Check,
    /// Take away all that are not listed.
    Gc,
    /// Say whether ADD would work.
    Status,
    /// Say which versions there are.
    Version,
}

/// Which interface of which container a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`; empty where DEL has none.
    pub netns: String,
    /// `CNI_IFNAME`.
    pub link_name: String,
    /// `CNI_ARGS`, what there are key-value pairs in it.
    pub args: BTreeMap<String, String>,
}

impl Environment {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    /// The value of a variable; empty if it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// `CNI_COMMAND`.
    ///
    /// # Errors
    /// Code 4.
    pub fn command(&self) -> Result<Command, CniError> {
        match self.get("CNI_COMMAND") {
            "ADD" => Ok(Command::Add),
            "DEL" => Ok(Command::Del),
            "CHECK" => Ok(Command::Check),
            "GC" => Ok(Command::Gc),
            "STATUS" => Ok(Command::Status),
            "VERSION" => Ok(Command::Version),
            other => Err(invalid(&[format!(
                "CNI_COMMAND: {other:?} is no command; a container runtime sets ADD, DEL, CHECK, GC, STATUS or VERSION"
            )])),
        }
    }

    /// What ADD, CHECK and DEL are about; only DEL may do without `CNI_NETNS`.
    ///
    /// # Errors
    /// Code 4, with every variable that is wrong.
    pub fn attachment(&self, command: Command) -> Result<Attachment, CniError> {
        let [container_id, netns, link_name] =
            ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map(|name| self.get(name));
        let mut wrong = Vec::new();
        if !is_name(container_id) {
            wrong.push(format!(
                "CNI_CONTAINERID: {container_id:?} is no container id; set letters, digits, _, . or -, beginning with a letter or digit"
            ));
        }
        if command != Command::Del && !netns.starts_with('/') {
            wrong.push(format!(
                "CNI_NETNS: {netns:?} is no absolute path; set the path of the container's network namespace"
            ));
        }
        if !is_link_name(link_name) {
            wrong.push(format!(
                "CNI_IFNAME: {link_name:?} is no link name; set 1 to {MAX_LINK_NAME} visible characters without / and :"
            ));
        }
        if !wrong.is_empty() {
            return Err(invalid(&wrong));
        }
        Ok(Attachment {
            container_id: container_id.to_owned(),
            netns: netns.to_owned(),
            link_name: link_name.to_owned(),
            args: pairs(self.get("CNI_ARGS")),
        })
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        let ours = variables
            .into_iter()
            .filter(|(name, _)| name.starts_with(PREFIX));
        Self(ours.collect())
    }
}

/// Whether `name` is a name as the specification has them for containers and networks.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(allowed)
}

/// The agent knows more that no link is called; this much tells a runtime's mistake from a configuration's.
fn is_link_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    (1..=MAX_LINK_NAME).contains(&name.len()) && name.bytes().all(allowed)
}

/// `A=B;C=D`. What has no `=` says nothing and is passed over.
fn pairs(args: &str) -> BTreeMap<String, String> {
    let pairs = args.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn invalid(wrong: &[String]) -> CniError {
    CniError::new(
        code::ENVIRONMENT,
        "invalid environment variables",
        wrong.join("; "),
    )
}
