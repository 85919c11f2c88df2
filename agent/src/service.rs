//! What the service manager is told (sd_notify(3)): that the agent is ready, alive, stopping.
//!
//! Without `NOTIFY_SOCKET` nobody is told. Never decides whether the agent goes on.

use std::path::Path;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::cli::client::Client;
use crate::server::causes;

/// What shows that a part of the agent makes progress.
pub trait Parts: Send + Sync {
    /// How long ago the clock of the flow counts was last looked at.
    fn silence(&self) -> Duration;

    /// A line for the service manager's status.
    fn summary(&self) -> String;
}

/// The agent is ready.
pub fn ready(summary: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(summary)]);
}

/// The agent stops.
pub fn stopping() {
    let status = "stopping; programs stay in force";
    tell(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Says that the agent is alive, as long as it is: its clock goes on, and a request at `socket` is
/// answered. Returns at once if the service manager has no watchdog.
pub async fn keep_alive(socket: &Path, parts: &dyn Parts) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let client = Client::new(socket);
    let mut clock = tokio::time::interval(limit / 4);
    loop {
        clock.tick().await;
        match problem(&client, parts, limit / 2).await {
            None => tell(&[NotifyState::Watchdog, NotifyState::Status(&parts.summary())]),
            Some(problem) => tracing::error!(problem, "the watchdog is not told"),
        }
    }
}

/// What makes no progress, if anything.
async fn problem(client: &Client, parts: &dyn Parts, limit: Duration) -> Option<String> {
    let silence = parts.silence();
    if silence > limit {
        let seconds = silence.as_secs();
        return Some(format!("flow counts: no sign of life for {seconds} s"));
    }
    match tokio::time::timeout(limit / 2, client.answers()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(causes(&error)),
        Err(_) => Some("the API does not answer".to_owned()),
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::test_dir::TestDir;

    struct Silent(Duration);

    impl Parts for Silent {
        fn silence(&self) -> Duration {
            self.0
        }

        fn summary(&self) -> String {
            String::new()
        }
    }

    /// Answers its first request, and no other.
    async fn answer_once(listener: UnixListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
        stream.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    }

    #[tokio::test]
    async fn the_watchdog_hears_only_of_an_agent_that_ticks_and_answers() {
        let dir = TestDir::new();
        let socket = dir.path().join("agent.sock");
        let client = Client::new(&socket);
        let limit = Duration::from_millis(200);
        let nobody = problem(&client, &Silent(Duration::ZERO), limit).await;
        assert!(nobody.unwrap().starts_with("connect to the agent at"));
        let server = tokio::spawn(answer_once(UnixListener::bind(&socket).unwrap()));
        let stuck = problem(&client, &Silent(Duration::from_secs(9)), limit).await;
        let expected = "flow counts: no sign of life for 9 s";
        assert_eq!(stuck.as_deref(), Some(expected));
        let well = problem(&client, &Silent(Duration::ZERO), limit).await;
        assert_eq!(well, None);
        let mute = problem(&client, &Silent(Duration::ZERO), limit).await;
        assert_eq!(mute.as_deref(), Some("the API does not answer"));
        server.abort();
    }
}
