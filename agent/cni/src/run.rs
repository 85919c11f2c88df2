//! A call from its beginning to its end: what was said, what the agent is asked, what is answered.

use serde_json::{Value, json};

use crate::api::{Answer, Request, Status, Task, TaskCheck};
use crate::check;
use crate::configuration::{Document, Network, Wish};
use crate::environment::{Attachment, Command, Environment};
use crate::error::{CniError, code};
use crate::http::{Agent, TalkError};
use crate::result::result;
use crate::task;
use crate::version::Version;

/// What the program prints and how it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// A result, an error, or nothing.
    pub output: String,
    /// Whether the exit code is 0.
    pub is_success: bool,
}

/// The id in questions about no task in particular.
const ANY_TASK: &str = "any";

/// Does what the environment says with the configuration `input`.
pub fn run(environment: &Environment, input: &[u8], agent: &impl Agent) -> Outcome {
    let document = Document::parse(input);
    // What has no version of ours is answered in the newest.
    let version = document
        .as_ref()
        .ok()
        .and_then(|document| document.version().ok());
    match answer(environment, document, agent) {
        Ok(answer) => Outcome {
            output: answer.map_or(String::new(), |answer| format!("{answer}\n")),
            is_success: true,
        },
        Err(error) => failure(&error, version.unwrap_or(Version::NEWEST)),
    }
}

/// The end of a call whose configuration could not be read.
#[must_use]
pub fn unread(error: &std::io::Error) -> Outcome {
    let details = format!("network configuration: {error}; hand it over on standard input");
    let error = CniError::new(code::IO, "cannot read the network configuration", details);
    failure(&error, Version::NEWEST)
}

fn failure(error: &CniError, version: Version) -> Outcome {
    Outcome {
        output: format!("{}\n", error.json(version)),
        is_success: false,
    }
}

fn answer(
    environment: &Environment,
    document: Result<Document, CniError>,
    agent: &impl Agent,
) -> Result<Option<Value>, CniError> {
    let command = environment.command()?;
    if command == Command::Version {
        return versions(document).map(Some);
    }
    let document = document?;
    let version = document.version()?;
    version.check_has(command)?;
    let call = Call {
        document: &document,
        network: document.network()?,
        version,
        agent,
    };
    match command {
        Command::Add => call.add(&environment.attachment(command)?).map(Some),
        Command::Check => call.check(&environment.attachment(command)?).map(|()| None),
        Command::Del => call.del(&environment.attachment(command)?).map(|()| None),
        Command::Gc => call.gc().map(|()| None),
        Command::Status => call.status().map(|()| None),
        Command::Version => Ok(None),
    }
}

/// Whoever asks for versions may speak one that we do not, or say none.
fn versions(document: Result<Document, CniError>) -> Result<Value, CniError> {
    let asked = document.map(|document| document.version());
    let version = match asked {
        Ok(Ok(version)) => version,
        Ok(Err(_)) | Err(_) => Version::NEWEST,
    };
    Ok(json!({
        "cniVersion": version.text(),
        "supportedVersions": Version::ALL.map(Version::text),
    }))
}

struct Call<'a, A> {
    document: &'a Document,
    network: Network,
    version: Version,
    agent: &'a A,
}

impl<A: Agent> Call<'_, A> {
    fn add(&self, attachment: &Attachment) -> Result<Value, CniError> {
        if self.document.previous_result().is_some() {
            return Err(invalid(
                "prevResult: the plugin makes an interface and changes no other's; put it first in plugins",
            ));
        }
        let wish = self.wish()?;
        let specification = task::specification(&self.network.name, attachment, &wish);
        let answer = self.ask(&Request::add(specification))?;
        match answer.status {
            201 => {
                let task: Task = answer.read()?;
                Ok(result(self.version, &task, &attachment.netns, &wish.dns))
            }
            // Twice the same: a second ADD must fail, and must not harm the first.
            200 => {
                let Attachment {
                    container_id,
                    link_name,
                    netns,
                    ..
                } = attachment;
                let details = format!(
                    "CNI_IFNAME: container {container_id} has {link_name} in {netns} already; run DEL first"
                );
                Err(CniError::new(code::EXISTS, "the interface exists", details))
            }
            _ => Err(answer.refusal(&self.network, Some(&wish))),
        }
    }

    /// Needs neither the namespace nor a configuration that is right in every detail, and succeeds if nothing is there.
    /// Without the agent nobody can tell, so that the runtime must come again: success would leak an ENI.
    fn del(&self, attachment: &Attachment) -> Result<(), CniError> {
        let answer = self.ask(&Request::remove(&self.task_id(attachment)))?;
        match answer.status {
            404 => Ok(()),
            _ if answer.is_success() => Ok(()),
            _ => Err(answer.refusal(&self.network, None)),
        }
    }

    fn check(&self, attachment: &Attachment) -> Result<(), CniError> {
        let Some(previous) = self.document.previous_result() else {
            return Err(invalid(
                "prevResult: is missing; the runtime hands over the result of the ADD",
            ));
        };
        let answer = self.ask(&Request::check(&self.task_id(attachment)))?;
        if !answer.is_success() {
            return Err(answer.refusal(&self.network, None));
        }
        let check: TaskCheck = answer.read()?;
        let problems = check::problems(&check, previous, attachment);
        if problems.is_empty() {
            return Ok(());
        }
        let summary = "the container's network is not as it should be";
        Err(CniError::new(code::DIFFERENT, summary, problems.join("; ")))
    }

    fn gc(&self) -> Result<(), CniError> {
        let valid = self.document.valid_attachments()?;
        let answer = self.ask(&Request::collect_garbage(&self.network.name, &valid))?;
        if answer.is_success() {
            return Ok(());
        }
        Err(answer.refusal(&self.network, None))
    }

    /// Code 51 where existing containers suffer as well: what the agent reports as a problem. A stopped agent is none,
    /// since the data plane goes on without it.
    fn status(&self) -> Result<(), CniError> {
        let unavailable = |error: CniError| {
            CniError::new(
                code::UNAVAILABLE,
                "the network is not available",
                error.to_string(),
            )
        };
        let wish = self.document.wish()?;
        let answer = self.ask(&Request::status()).map_err(unavailable)?;
        if !answer.is_success() {
            return Err(unavailable(answer.refusal(&self.network, None)));
        }
        let status: Status = answer.read().map_err(unavailable)?;
        if !status.problems.is_empty() {
            let summary = "the network is not available, and containers may have no connectivity";
            return Err(CniError::new(
                code::IMPAIRED,
                summary,
                status.problems.join("; "),
            ));
        }
        // Without subnets each pod brings its own.
        if wish.subnets.ids.is_empty() {
            return Ok(());
        }
        let answer = self.ask(&Request::try_add(task::wanted(ANY_TASK, &wish)));
        let answer = answer.map_err(unavailable)?;
        if answer.is_success() {
            return Ok(());
        }
        Err(unavailable(answer.refusal(&self.network, Some(&wish))))
    }

    fn wish(&self) -> Result<Wish, CniError> {
        let wish = self.document.wish()?;
        if wish.subnets.ids.is_empty() {
            return Err(invalid(
                "subnets: is empty; name 1 to 16 subnets here or in the pod annotation branchline/subnets",
            ));
        }
        Ok(wish)
    }

    fn task_id(&self, attachment: &Attachment) -> String {
        task::id(
            &self.network.name,
            &attachment.container_id,
            &attachment.link_name,
        )
    }

    fn ask(&self, request: &Request) -> Result<Answer, CniError> {
        let socket = &self.network.socket;
        self.agent.ask(socket, request).map_err(|error| {
            let at = socket.display();
            match &error {
                TalkError::Connect(source)
                    if source.kind() == std::io::ErrorKind::PermissionDenied =>
                {
                    let details =
                        format!("socket: {at}: {error}; run the container runtime as root");
                    CniError::new(code::IO, "the agent may not be asked", details)
                }
                TalkError::Connect(_) | TalkError::Broken(_) => {
                    let details = format!(
                        "socket: {at}: {error}; is `branchline agent` running, with this socket?"
                    );
                    CniError::new(
                        code::LATER,
                        "the agent does not answer, try again later",
                        details,
                    )
                }
                TalkError::NotHttp(_) => {
                    let details = format!("socket: {at}: {error}; name the agent's socket");
                    CniError::new(code::AGENT, "the agent does not answer", details)
                }
            }
        })
    }
}

fn invalid(details: &str) -> CniError {
    CniError::new(
        code::CONFIGURATION,
        "invalid network configuration",
        details,
    )
}
