//! The pool of ENIs that wait for tasks is kept full, one ENI after the other and never at a task's cost.

use std::sync::Arc;
use std::time::Duration;

use super::Agent;
use crate::progress::now_ms;
use crate::provider::ProviderError;
use crate::server::causes;

/// Between two looks whether one is short.
const ROUND: Duration = Duration::from_secs(1);
/// After failures at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Agent {
    /// Fills the pool again and again, until the agent ends.
    pub(super) async fn keep_pool(self: Arc<Self>) {
        if self.host.provider.warm_pool().is_none() {
            return;
        }
        let mut pause = ROUND;
        loop {
            match self.fill_pool().await {
                // What was short may be short still.
                Ok(true) => {
                    pause = ROUND;
                    continue;
                }
                Ok(false) => pause = ROUND,
                Err(error) => {
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    let (error, seconds) = (causes(&error), pause.as_secs());
                    tracing::warn!(error, seconds, "no ENI for the pool; tried again");
                }
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Makes one ENI if one is short.
    async fn fill_pool(&self) -> Result<bool, ProviderError> {
        let is_planned = {
            // No task is given the place meanwhile.
            let _one_at_a_time = self.allocation.lock().await;
            let occupied = {
                let mut table = self.tasks.table();
                table.free_cooled(now_ms(), self.config.cool_down_ms());
                table.occupied()
            };
            self.host.provider.plan_pool(&occupied)?
        };
        if is_planned {
            self.host.provider.fill_pool().await?;
        }
        Ok(is_planned)
    }
}
