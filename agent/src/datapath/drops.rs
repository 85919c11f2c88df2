//! What the programs say of dropped packets, led into the agent's log when the configuration asks.

use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;

/// How often the programs' ring is emptied.
const PERIOD: Duration = Duration::from_millis(100);

/// Forwards the programs' log until the agent ends. Without `log_drops` the programs say nothing.
/// The log is a ring in the kernel: what comes faster than it is read is lost, counters are not.
///
/// # Errors
/// The object has no log.
pub(super) fn start(ebpf: &mut Ebpf) -> Result<(), aya_log::Error> {
    let mut logger = EbpfLogger::init(ebpf)?;
    tokio::spawn(async move {
        let mut timer = tokio::time::interval(PERIOD);
        loop {
            timer.tick().await;
            logger.flush();
        }
    });
    Ok(())
}
