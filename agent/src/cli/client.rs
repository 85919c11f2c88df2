//! The API's client: one HTTP/1 connection over the agent's Unix socket per request.
//!
//! Never decides what an answer means to a person; that is the command's.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::stream::EventStream;

use crate::api::{
    ApiError, ApplyRequest, AttributeList, Capacity, EniList, ErrorBody, FlowLogFile, FlowLogList,
    SecurityGroupDescription, SecurityGroupList, SecurityGroupsApplied, SecurityGroupsDiff, Status,
    SubnetList, TaskCheck, TaskDescription, TaskGroups, TaskList,
};
use crate::explain::{ExplainRequest, Explanation};
use crate::live::Query;
use crate::spec::TaskId;

/// The task that moves a connection's bytes.
pub(super) type Connection = JoinHandle<hyper::Result<()>>;

/// Talks to the agent at one socket.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Why the agent's answer is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket, or it may not be used.
    #[error("connect to the agent at {} (run as root; is `branchline agent` running, with this socket?)", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke off.
    #[error("talk to the agent at {}", socket.display())]
    Talk {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// What came back is not the API's.
    #[error(
        "the agent's answer to {request} cannot be read; are agent and command of one version?"
    )]
    Answer {
        /// What was asked.
        request: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The agent ended a stream.
    #[error("the agent at {} stopped", socket.display())]
    Ended {
        /// The socket.
        socket: PathBuf,
    },
    /// The agent refused.
    #[error("{}", .0.message)]
    Refused(ApiError),
}

impl Client {
    /// A client of the agent at `socket`.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Adds a task by its specification as JSON; `true` if it was made now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn add_task(&self, spec: Vec<u8>) -> Result<(bool, TaskDescription), ClientError> {
        let (status, body) = self.send(Method::POST, "/v1/tasks", spec).await?;
        Ok((
            status == StatusCode::CREATED,
            parse("POST /v1/tasks", &body)?,
        ))
    }

    /// Removes a task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn remove_task(&self, id: &TaskId) -> Result<(), ClientError> {
        self.send(Method::DELETE, &format!("/v1/tasks/{id}"), Vec::new())
            .await?;
        Ok(())
    }

    /// Every task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn tasks(&self) -> Result<TaskList, ClientError> {
        self.get("/v1/tasks").await
    }

    /// One task.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task(&self, id: &TaskId) -> Result<TaskDescription, ClientError> {
        self.get(&format!("/v1/tasks/{id}")).await
    }

    /// A task's network compared with what it should be.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn check_task(&self, id: &TaskId) -> Result<TaskCheck, ClientError> {
        self.get(&format!("/v1/tasks/{id}/check")).await
    }

    /// Gives a task's ENI other groups.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn set_task_groups(
        &self,
        id: &TaskId,
        groups: &TaskGroups,
    ) -> Result<TaskDescription, ClientError> {
        let path = format!("/v1/tasks/{id}/security-groups");
        let body = serde_json::to_vec(groups).expect("requests are JSON");
        let (_, body) = self.send(Method::PUT, &path, body).await?;
        parse(&format!("PUT {path}"), &body)
    }

    /// Every group and prefix list in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn security_groups(&self) -> Result<SecurityGroupList, ClientError> {
        self.get("/v1/security-groups").await
    }

    /// One group; `id` is `sg-` and letters, digits and dashes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn security_group(&self, id: &str) -> Result<SecurityGroupDescription, ClientError> {
        self.get(&format!("/v1/security-groups/{id}")).await
    }

    /// Puts groups and prefix lists in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn apply_security_groups(
        &self,
        request: &ApplyRequest,
    ) -> Result<SecurityGroupsApplied, ClientError> {
        self.post("/v1/security-groups", request).await
    }

    /// What an apply would do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn diff_security_groups(
        &self,
        request: &ApplyRequest,
    ) -> Result<SecurityGroupsDiff, ClientError> {
        self.post("/v1/security-groups/diff", request).await
    }

    /// Every flow log.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flow_logs(&self) -> Result<FlowLogList, ClientError> {
        self.get("/v1/flow-logs").await
    }

    /// Puts flow logs in force.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn apply_flow_logs(&self, file: &FlowLogFile) -> Result<FlowLogList, ClientError> {
        self.post("/v1/flow-logs", file).await
    }

    /// What becomes of a packet.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, ClientError> {
        self.post("/v1/explain", request).await
    }

    /// The agent as it runs.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// What happens to flows from now on: each message is a
    /// [`LiveEvent`](crate::live::LiveEvent).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flow_events(&self, query: &Query) -> Result<EventStream, ClientError> {
        self.stream(&format!("/v1/flows/events?{query}")).await
    }

    /// What flows carry from now on: each message is [`FlowRates`](crate::live::FlowRates).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flow_rates(&self, query: &Query) -> Result<EventStream, ClientError> {
        self.stream(&format!("/v1/flows/rates?{query}")).await
    }

    /// Every task's ENI.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn network_interfaces(&self) -> Result<EniList, ClientError> {
        self.get("/v1/network-interfaces").await
    }

    /// The VPC's subnets.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn subnets(&self) -> Result<SubnetList, ClientError> {
        self.get("/v1/subnets").await
    }

    /// How many more tasks fit.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn capacity(&self) -> Result<Capacity, ClientError> {
        self.get("/v1/capacity").await
    }

    /// What the host can do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn attributes(&self) -> Result<AttributeList, ClientError> {
        self.get("/v1/attributes").await
    }

    /// A call in ECS's own shape, as `run-task`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ecs(
        &self,
        call: &str,
        request: &serde_json::Value,
    ) -> Result<serde_json::Value, ClientError> {
        self.post(&format!("/v1/ecs/{call}"), request).await
    }

    /// What happens to tasks from now on, or to one: each message is a [`TaskEvent`](crate::api::TaskEvent).
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn task_events(&self, task: Option<&TaskId>) -> Result<EventStream, ClientError> {
        let query = task.map_or_else(String::new, |id| format!("?taskId={id}"));
        self.stream(&format!("/v1/events{query}")).await
    }

    /// That the agent answers.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn answers(&self) -> Result<(), ClientError> {
        self.send(Method::GET, "/healthz", Vec::new()).await?;
        Ok(())
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET` of any path, for tests.
    #[cfg(test)]
    pub(crate) async fn raw<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get(path).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (_, body) = self.send(Method::GET, path, Vec::new()).await?;
        parse(&format!("GET {path}"), &body)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("requests are JSON");
        let (_, body) = self.send(Method::POST, path, body).await?;
        parse(&format!("POST {path}"), &body)
    }

    /// Sends one request; an answer that is not success becomes `Refused`.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let request = format!("{method} {path}");
        let (answer, connection) = self.open(method, path, body).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await;
        let body = body.map_err(|source| self.broken(source))?.to_bytes();
        connection.abort();
        if status.is_success() {
            return Ok((status, body));
        }
        Err(ClientError::Refused(
            parse::<ErrorBody>(&request, &body)?.error,
        ))
    }

    /// Begins a stream of server-sent events.
    async fn stream(&self, path: &str) -> Result<EventStream, ClientError> {
        let (answer, connection) = self.open(Method::GET, path, Vec::new()).await?;
        let request = format!("GET {path}");
        if answer.status().is_success() {
            return Ok(EventStream::new(
                self,
                answer.into_body(),
                connection,
                request,
            ));
        }
        let body = answer.into_body().collect().await;
        let body = body.map_err(|source| self.broken(source))?.to_bytes();
        Err(ClientError::Refused(
            parse::<ErrorBody>(&request, &body)?.error,
        ))
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Talk {
            socket: self.socket.clone(),
            source,
        }
    }

    /// Sends one request; the connection lives until its task is aborted.
    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(Response<Incoming>, Connection), ClientError> {
        let talk = |source| self.broken(source);
        let stream =
            UnixStream::connect(&self.socket)
                .await
                .map_err(|source| ClientError::Connect {
                    socket: self.socket.clone(),
                    source,
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(talk)?;
        let connection = tokio::spawn(connection);
        let mut message = Request::new(Full::new(Bytes::from(body)));
        *message.method_mut() = method;
        *message.uri_mut() = path.parse().expect("API paths are URIs");
        message.headers_mut().insert(
            "host",
            hyper::header::HeaderValue::from_static("branchline"),
        );
        let answer = sender.send_request(message).await.map_err(talk)?;
        Ok((answer, connection))
    }
}

pub(super) fn parse<T: DeserializeOwned>(request: &str, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Answer {
        request: request.to_owned(),
        source,
    })
}
