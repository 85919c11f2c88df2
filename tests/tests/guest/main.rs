//! Tier guest: what changes the whole machine. `cargo xtask vm` runs it, in guests only.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod clock;

/// Nothing here may run on a machine that somebody uses.
fn require_guest() {
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap();
    assert!(
        command_line
            .split_whitespace()
            .any(|word| word == "branchline.guest"),
        "tier guest steps the machine's clock: run `cargo xtask vm`"
    );
}
