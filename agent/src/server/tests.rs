//! Tests of `server` over real sockets, with the command line's client and a `Control` of their own.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::api::tests::describe;
use crate::cli::client::{Client, ClientError};
use crate::live::follow::tests::{Tables, identities};
use crate::live::{FlowRates, Live, LiveEvent, Query};
use crate::progress::Events;
use crate::security_groups::file::SecurityGroupFile;
use crate::task_record::TaskRecord;
use crate::task_record::tests::record;
use crate::test_dir::TestDir;

/// Keeps tasks in memory; `slow` waits for `go`, and notes that it went on.
#[derive(Default)]
struct Memory {
    tasks: Mutex<BTreeMap<TaskId, TaskSpec>>,
    started: Notify,
    go: Notify,
    finished: AtomicBool,
    tables: Arc<Tables>,
    live: OnceLock<Live>,
    events: Events,
}

impl Memory {
    fn live(&self) -> &Live {
        self.live.get_or_init(|| {
            let tables = Arc::clone(&self.tables);
            Live::over(tables, identities(), Duration::from_millis(10))
        })
    }
}

fn description(spec: &TaskSpec) -> TaskDescription {
    describe(&TaskRecord {
        spec: spec.clone(),
        ..record("any")
    })
}

impl Control for Memory {
    async fn add_task(&self, spec: TaskSpec) -> Result<Added, ControlError> {
        match spec.task_id.as_str() {
            "slow" => {
                self.started.notify_one();
                self.go.notified().await;
                self.finished.store(true, Ordering::SeqCst);
            }
            "full" => {
                return Err(ControlError::Exhausted(
                    "no free address in subnet-a".into(),
                ));
            }
            "broken" => {
                return Err(ControlError::Failed {
                    source: "create veth".into(),
                });
            }
            "panic" => panic!("a step panicked"),
            _ => {}
        }
        let task = description(&spec);
        let mut tasks = self.tasks.lock().unwrap();
        match tasks.insert(spec.task_id.clone(), spec.clone()) {
            None => Ok(Added::Created(task)),
            Some(before) if before == spec => Ok(Added::Existing(task)),
            Some(_) => Err(ControlError::Conflict(format!(
                "task {} has another specification",
                spec.task_id
            ))),
        }
    }

    async fn remove_task(&self, id: TaskId) -> Result<(), ControlError> {
        self.tasks
            .lock()
            .unwrap()
            .remove(&id)
            .map(drop)
            .ok_or(ControlError::Unknown(id))
    }

    async fn tasks(&self) -> Result<Vec<TaskDescription>, ControlError> {
        Ok(self
            .tasks
            .lock()
            .unwrap()
            .values()
            .map(description)
            .collect())
    }

    async fn task(&self, id: TaskId) -> Result<TaskDescription, ControlError> {
        self.tasks
            .lock()
            .unwrap()
            .get(&id)
            .map(description)
            .ok_or(ControlError::Unknown(id))
    }

    async fn set_task_groups(
        &self,
        id: TaskId,
        groups: TaskGroups,
    ) -> Result<TaskDescription, ControlError> {
        let mut task = self.task(id).await?;
        task.security_groups = groups.security_groups;
        Ok(task)
    }

    async fn check_task(&self, id: TaskId) -> Result<TaskCheck, ControlError> {
        Ok(TaskCheck {
            task: self.task(id).await?,
            differences: Vec::new(),
        })
    }

    async fn try_task(&self, spec: TaskSpec) -> Result<(), ControlError> {
        match spec.task_id.as_str() {
            "full" => Err(ControlError::Exhausted(
                "no free address in subnet-a".into(),
            )),
            _ => Ok(()),
        }
    }

    async fn collect_cni_garbage(
        &self,
        request: CniGarbageCollection,
    ) -> Result<CniGarbageCollected, ControlError> {
        Ok(CniGarbageCollected {
            removed: vec![request.network],
        })
    }

    fn network_interfaces(&self) -> EniList {
        EniList::default()
    }

    fn subnets(&self) -> SubnetList {
        SubnetList::default()
    }

    fn capacity(&self) -> Capacity {
        Capacity::default()
    }

    fn attributes(&self) -> AttributeList {
        AttributeList::default()
    }

    fn events(&self) -> broadcast::Receiver<Arc<TaskEvent>> {
        self.events.listen()
    }

    async fn security_groups(&self) -> Result<SecurityGroupList, ControlError> {
        Ok(SecurityGroupList::default())
    }

    async fn security_group(&self, id: String) -> Result<SecurityGroupDescription, ControlError> {
        Err(ControlError::UnknownGroup(id))
    }

    /// Refuses a file without groups; says as a note whether it is to prune.
    async fn apply_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsApplied, ControlError> {
        if request.file.security_groups.is_empty() {
            return Err(ControlError::Invalid(FieldError::new(
                "security_groups",
                "is empty",
                "add one",
            )));
        }
        Ok(SecurityGroupsApplied {
            notes: vec![format!("prune {}", request.prune)],
            network_interfaces: request.file.security_groups.len(),
            ..SecurityGroupsApplied::default()
        })
    }

    async fn diff_security_groups(
        &self,
        request: ApplyRequest,
    ) -> Result<SecurityGroupsDiff, ControlError> {
        let applied = self.apply_security_groups(request).await?;
        Ok(SecurityGroupsDiff {
            notes: applied.notes,
            flow_count: 7,
            ..SecurityGroupsDiff::default()
        })
    }

    async fn flow_logs(&self) -> Result<FlowLogList, ControlError> {
        Ok(FlowLogList::default())
    }

    async fn apply_flow_logs(&self, file: FlowLogFile) -> Result<FlowLogList, ControlError> {
        crate::delivery::check_all(&file.flow_logs).map_err(ControlError::Invalid)?;
        Ok(FlowLogList::default())
    }

    async fn explain(&self, request: ExplainRequest) -> Result<Explanation, ControlError> {
        let source = "10.0.0.1".parse().unwrap();
        let to = request.to.parse();
        let to = to.map_err(|_| ControlError::Conflict(format!("{} is no address", request.to)))?;
        let packet = request.opening(source, to).map_err(ControlError::Invalid)?;
        Ok(Explanation {
            allowed: packet.destination_port == 443,
            packet,
            judgements: Vec::new(),
        })
    }

    async fn follow(&self, is_measuring: bool) -> Result<Follower, ControlError> {
        Ok(self.live().follow(is_measuring).await.unwrap())
    }

    async fn health(&self) -> Health {
        Health::of([("trunk".to_owned(), None)])
    }

    async fn scrape(&self) -> Result<String, ControlError> {
        Ok("# EOF\n".to_owned())
    }

    fn requests(&self) -> ApiRequests {
        ApiRequests::default()
    }

    async fn status(&self) -> Result<Status, ControlError> {
        Ok(Status {
            vpc_id: "vpc-1".into(),
            ..Status::default()
        })
    }
}

/// A server on a socket of its own.
struct Running {
    _dir: TestDir,
    socket: PathBuf,
    memory: Arc<Memory>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Running {
    fn start(owner: u32) -> Self {
        Self::start_with(Limits {
            access: Access {
                owner,
                readers: None,
                agent: None,
            },
            grace: Duration::from_secs(60),
        })
    }

    fn start_with(limits: Limits) -> Self {
        let dir = TestDir::new();
        let socket = dir.path().join("run/agent.sock");
        let listener = bind(&socket, None).unwrap();
        let memory = Arc::new(Memory::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (control, path) = (Arc::clone(&memory), socket.clone());
        let shutdown = async move { drop(stopped.await) };
        let server =
            tokio::spawn(
                async move { serve_for(listener, &path, control, shutdown, limits).await },
            );
        Self {
            _dir: dir,
            socket,
            memory,
            stop,
            server,
        }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket)
    }
}

/// Whoever runs the tests.
fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn spec(id: &str, subnet: &str) -> Vec<u8> {
    format!(
        r#"{{"taskId": "{id}", "networkConfiguration": {{"awsvpcConfiguration": {{"subnets": ["{subnet}"]}}}}}}"#
    )
    .into_bytes()
}

fn refusal<T: std::fmt::Debug>(
    result: Result<T, ClientError>,
) -> (ErrorCode, String, Option<String>) {
    let error = result.unwrap_err();
    let ClientError::Refused(error) = error else {
        panic!("not refused by the agent: {error}")
    };
    (error.code, error.message, error.field)
}

#[tokio::test]
async fn a_task_is_added_shown_and_removed() {
    let server = Running::start(own_uid());
    let client = server.client();
    let web: TaskId = "web".parse().unwrap();
    let (created, task) = client.add_task(spec("web", "subnet-a")).await.unwrap();
    assert!(created);
    assert_eq!(
        client.add_task(spec("web", "subnet-a")).await.unwrap(),
        (false, task.clone())
    );
    assert_eq!(client.task(&web).await.unwrap(), task);
    assert_eq!(client.tasks().await.unwrap().tasks, [task]);
    assert_eq!(client.status().await.unwrap().vpc_id, "vpc-1");
    client.remove_task(&web).await.unwrap();
    let gone = (
        ErrorCode::NotFound,
        "there is no task web; `branchline task ls` lists them".to_owned(),
        None,
    );
    assert_eq!(refusal(client.remove_task(&web).await), gone);
    assert_eq!(refusal(client.task(&web).await), gone);
}

#[tokio::test]
async fn refusals_carry_code_message_and_field() {
    let server = Running::start(own_uid());
    let client = server.client();
    client.add_task(spec("web", "subnet-a")).await.unwrap();
    let rows = [
        (
            spec("web", "subnet-b"),
            ErrorCode::Conflict,
            "another specification",
            None,
        ),
        (
            spec("full", "subnet-a"),
            ErrorCode::Exhausted,
            "no free address in subnet-a",
            None,
        ),
        (
            spec("broken", "subnet-a"),
            ErrorCode::Internal,
            "create veth",
            None,
        ),
        (
            spec("panic", "subnet-a"),
            ErrorCode::Internal,
            "panicked",
            None,
        ),
        (
            spec("a b", "subnet-a"),
            ErrorCode::InvalidRequest,
            "1 to 64",
            Some("taskId"),
        ),
        (
            b"{}".to_vec(),
            ErrorCode::InvalidRequest,
            "is missing",
            Some("taskId"),
        ),
        (
            b"\xff".to_vec(),
            ErrorCode::InvalidRequest,
            "not JSON",
            Some("line 1"),
        ),
    ];
    for (body, code, says, field) in rows {
        let (got, message, got_field) = refusal(client.add_task(body).await);
        assert_eq!((got, got_field.as_deref()), (code, field), "{message}");
        assert!(message.contains(says), "{message}");
    }
}

/// What the server sends to `request`, until it closes the connection.
async fn raw(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream
        .write_all(format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_path_has_its_status_code() {
    let server = Running::start(own_uid());
    let client = server.client();
    client.add_task(spec("web", "subnet-a")).await.unwrap();
    let rows = [
        ("GET /healthz HTTP/1.1", "200", "ok"),
        ("GET /v1/status HTTP/1.1", "200", "\"vpcId\":\"vpc-1\""),
        ("GET /v1/tasks HTTP/1.1", "200", "\"taskId\":\"web\""),
        (
            "GET /v1/tasks/web HTTP/1.1",
            "200",
            "\"type\":\"ElasticNetworkInterface\"",
        ),
        (
            "GET /v1/tasks/none HTTP/1.1",
            "404",
            "\"code\":\"NotFound\"",
        ),
        (
            "GET /v1/tasks/a%2Fb HTTP/1.1",
            "400",
            "\"field\":\"taskId\"",
        ),
        (
            "GET /v1/security-groups HTTP/1.1",
            "200",
            "{\"security_groups\":[],\"prefix_lists\":[]}",
        ),
        (
            "GET /v1/security-groups/sg-x HTTP/1.1",
            "404",
            "there is no security group sg-x",
        ),
        (
            "DELETE /v1/security-groups HTTP/1.1",
            "405",
            "DELETE is not for",
        ),
        ("DELETE /v1/tasks/web HTTP/1.1", "204", ""),
        (
            "DELETE /v1/tasks/web HTTP/1.1",
            "404",
            "\"code\":\"NotFound\"",
        ),
        ("GET /v2 HTTP/1.1", "404", "there is no /v2"),
        ("PUT /v1/tasks HTTP/1.1", "405", "PUT is not for /v1/tasks"),
    ];
    for (request, status, says) in rows {
        let answer = raw(&server.socket, request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {answer}"
        );
        assert!(answer.contains(says), "{request}: {answer}");
    }
}

#[tokio::test]
async fn security_groups_are_applied_and_compared() {
    let server = Running::start(own_uid());
    let client = server.client();
    let text = "[[security_groups]]\ngroup_id = 'sg-a'\ngroup_name = 'a'";
    let mut request = ApplyRequest {
        prune: true,
        file: SecurityGroupFile::parse(text).unwrap(),
    };
    let applied = client.apply_security_groups(&request).await.unwrap();
    assert_eq!(applied.notes, ["prune true"]);
    let diff = client.diff_security_groups(&request).await.unwrap();
    assert_eq!((diff.flow_count, diff.notes), (7, applied.notes));
    // Larger than what a server takes unless it is told otherwise.
    let group = request.file.security_groups[0].clone();
    request.file.security_groups = vec![group; 100_000];
    let applied = client.apply_security_groups(&request).await.unwrap();
    assert_eq!(applied.network_interfaces, 100_000);
    request.file.security_groups.clear();
    let (code, _, field) = refusal(client.apply_security_groups(&request).await);
    assert_eq!(
        (code, field.as_deref()),
        (ErrorCode::InvalidRequest, Some("security_groups"))
    );
}

#[tokio::test]
async fn events_are_streamed_as_the_filter_says_while_the_client_is_there() {
    let server = Running::start(own_uid());
    let (client, tables) = (server.client(), &server.memory.tables);
    let query = |text| Query::parse(text).unwrap();
    let mut all = client.flow_events(&query("")).await.unwrap();
    let mut few = client
        .flow_events(&query("task=web&port=7&port=2"))
        .await
        .unwrap();
    tables.reject(9);
    for port in 0..9 {
        let event: LiveEvent = all.next().await.unwrap();
        let LiveEvent::Reject(event) = event else {
            panic!("{event:?}")
        };
        // The tables of the differ have no order.
        assert!((0..9).contains(&event.flow.srcport), "{port}: {event:?}");
        assert_eq!((event.packets, event.bytes), (1, 60));
    }
    let mut ports = Vec::new();
    for _ in 0..2 {
        let event: LiveEvent = few.next().await.unwrap();
        ports.push(event.flow().unwrap().srcport);
    }
    ports.sort_unstable();
    assert_eq!(ports, [2, 7]);
    drop((all, few));
    let live = server.memory.live();
    for _ in 0..200 {
        if !live.is_walking() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!live.is_walking());
}

#[tokio::test]
async fn rates_are_streamed() {
    let server = Running::start(own_uid());
    let query = Query::parse("limit=1&sort=packets").unwrap();
    let mut rates = server.client().flow_rates(&query).await.unwrap();
    server.memory.tables.reject(3);
    for _ in 0..200 {
        let rates: FlowRates = rates.next().await.unwrap();
        if rates.flow_count == 3 {
            assert_eq!(rates.flows.len(), 1);
            assert_eq!(rates.tasks[0].rejected_packets_per_second, 3.0);
            return;
        }
    }
    panic!("the rejects are not in the rates");
}

#[tokio::test]
async fn a_stream_that_cannot_be_is_refused_by_the_parameter() {
    let server = Running::start(own_uid());
    let rows = [
        ("events?port=x", "\"field\":\"port\""),
        ("events?colour=red", "\"field\":\"colour\""),
        ("rates?event=start", "\"field\":\"event\""),
    ];
    for (path, says) in rows {
        let answer = raw(&server.socket, &format!("GET /v1/flows/{path} HTTP/1.1")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
        assert!(answer.contains(says), "{path}: {answer}");
    }
    let other = Running::start(own_uid() + 1);
    let (code, ..) = refusal(other.client().flow_events(&Query::default()).await);
    assert_eq!(code, ErrorCode::Forbidden);
    assert!(!other.memory.live().is_walking());
}

#[tokio::test]
async fn shutdown_ends_streams_at_once() {
    let server = Running::start(own_uid());
    let mut events = server
        .client()
        .flow_events(&Query::default())
        .await
        .unwrap();
    server.stop.send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), events.next::<LiveEvent>()).await;
    assert!(
        matches!(ended, Ok(Err(ClientError::Ended { .. }))),
        "{ended:?}"
    );
    server.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_its_owner_may_use_the_socket() {
    let server = Running::start(own_uid() + 1);
    let (code, message, _) = refusal(server.client().tasks().await);
    assert_eq!(
        (code, message.as_str()),
        (
            ErrorCode::Forbidden,
            "only root may use the agent; run this with sudo"
        )
    );
    refusal(server.client().add_task(spec("web", "subnet-a")).await);
    assert!(server.memory.tasks.lock().unwrap().is_empty());
    assert!(
        raw(&server.socket, "GET /healthz HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 403 ")
    );
    let mode = std::fs::metadata(&server.socket)
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_task_is_finished_though_its_client_goes_away() {
    let server = Running::start(own_uid());
    let client = server.client();
    let request = tokio::spawn(async move { client.add_task(spec("slow", "subnet-a")).await });
    server.memory.started.notified().await;
    request.abort();
    assert!(request.await.unwrap_err().is_cancelled());
    // The server notices the closed connection before the task goes on.
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.memory.go.notify_one();
    let slow: TaskId = "slow".parse().unwrap();
    for _ in 0..100 {
        if server.client().task(&slow).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(server.memory.finished.load(Ordering::SeqCst));
    server.client().task(&slow).await.unwrap();
}

#[tokio::test]
async fn shutdown_answers_what_is_under_way_and_removes_the_socket() {
    let server = Running::start(own_uid());
    let client = server.client();
    let request = tokio::spawn(async move { client.add_task(spec("slow", "subnet-a")).await });
    server.memory.started.notified().await;
    server.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!server.server.is_finished());
    server.memory.go.notify_one();
    assert!(request.await.unwrap().unwrap().0);
    server.server.await.unwrap().unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_silent_client() {
    let server = Running::start_with(Limits {
        access: Access {
            owner: own_uid(),
            readers: None,
            agent: None,
        },
        grace: Duration::from_millis(100),
    });
    let mut silent = UnixStream::connect(&server.socket).await.unwrap();
    silent
        .write_all(b"GET /v1/tasks HTTP/1.1\r\n")
        .await
        .unwrap();
    server.stop.send(()).unwrap();
    server.server.await.unwrap().unwrap();
    assert!(!server.socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let server = Running::start(own_uid());
    assert!(matches!(
        bind(&server.socket, None),
        Err(SocketError::InUse { .. })
    ));
    server.client().tasks().await.unwrap();

    let dir = TestDir::new();
    let path = dir.path().join("agent.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket());
    let _listener = bind(&path, None).unwrap();
    UnixStream::connect(&path).await.unwrap();

    let file = dir.path().join("file.sock");
    std::fs::write(&file, "kept").unwrap();
    assert!(matches!(
        bind(&file, None),
        Err(SocketError::NoSocket { .. })
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}

#[test]
fn causes_stand_in_one_line_and_once() {
    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);
    #[derive(Debug, thiserror::Error)]
    #[error("outer: {0}")]
    struct Repeats(#[source] std::io::Error);
    let io = || std::io::Error::other("disk\nfull");
    assert_eq!(causes(&Outer(io())), "outer: disk full");
    assert_eq!(causes(&Repeats(io())), "outer: disk full");
}

#[tokio::test]
async fn events_of_a_task_are_followed_until_the_agent_stops() {
    let server = Running::start(own_uid());
    let client = server.client();
    let web: TaskId = "web".parse().unwrap();
    let mut events = client.task_events(Some(&web)).await.unwrap();
    let told = &server.memory.events;
    told.state(&record("other"));
    told.state(&record("web"));
    let event: TaskEvent = events.next().await.unwrap();
    assert_eq!((event.sequence, event.task_id.as_str()), (2, "web"));
    server.stop.send(()).unwrap();
    let ended = events.next::<TaskEvent>().await.unwrap_err();
    assert!(matches!(ended, ClientError::Ended { .. }), "{ended}");
}

#[tokio::test]
async fn a_wrong_parameter_of_events_is_named() {
    let server = Running::start(own_uid());
    for query in ["?taskId=-x", "?task=web"] {
        let path = format!("/v1/events{query}");
        let answer = server.client().raw::<()>(&path).await;
        let (code, message, field) = refusal(answer);
        assert_eq!(
            (code, field.as_deref()),
            (ErrorCode::InvalidRequest, Some("taskId"))
        );
        assert!(
            message.contains("the only parameter is taskId"),
            "{message}"
        );
    }
}

/// Every path that the description has is served, and it has every path that is served.
#[tokio::test]
async fn what_is_described_is_what_is_served() {
    let server = Running::start(own_uid());
    let document: serde_json::Value = server.client().raw("/v1/openapi.json").await.unwrap();
    let paths = document["paths"].as_object().unwrap();
    for path in paths
        .keys()
        .filter(|path| !path.contains("flows/") && *path != "/v1/events")
    {
        let path = path.replace("{id}", "sg-1");
        let answer = server.client().raw::<serde_json::Value>(&path).await;
        if let Err(ClientError::Refused(error)) = answer {
            assert!(
                !error.message.starts_with("there is no /"),
                "{path}: {}",
                error.message
            );
        }
    }
}
