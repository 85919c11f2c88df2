//! What is due with the files of one log. Pure: never touches a file, a store or a clock.

/// A file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// Its path below the log's folder, which is its key below the destination's prefix.
    pub(super) relative: String,
    /// Its size.
    pub(super) bytes: u64,
    /// The time in its name, in seconds since 1970.
    pub(super) time: u64,
    /// Whether it has to be uploaded.
    pub(super) state: State,
}

/// Whether a file has to be uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is not in the destination yet.
    Waiting,
    /// The destination has another object of its name; as `Waiting`, but not tried again.
    Refused,
    /// It is in the destination, or there is none.
    Settled,
}

/// What may stay on disk; `None` is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of files that are not uploaded.
    pub(super) backlog_max_bytes: Option<u64>,
    /// Seconds after the time in a settled file's name.
    pub(super) max_age: Option<u64>,
    /// Bytes of all files.
    pub(super) max_bytes: Option<u64>,
}

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action<'a> {
    /// Remove a file that was not uploaded.
    GiveUp(&'a File),
    /// Remove a settled file.
    Expire(&'a File),
    /// Upload a file.
    Upload(&'a File),
}

/// What is due at `now` (seconds since 1970), removals first; `files` are sorted from old to new.
///
/// The backlog's bound takes the oldest files that are not uploaded. Retention takes settled files only:
/// those that are too old, then the oldest while all files together are over `max_bytes`.
pub(super) fn plan<'a>(files: &'a [File], now: u64, limits: &Limits) -> Vec<Action<'a>> {
    let mut backlog: u64 = sum(files.iter().filter(|file| file.state != State::Settled));
    let mut kept: u64 = sum(files.iter());
    let mut removals = Vec::new();
    let mut uploads = Vec::new();
    for file in files.iter().filter(|file| file.state != State::Settled) {
        if limits.backlog_max_bytes.is_some_and(|max| backlog > max) {
            backlog -= file.bytes;
            kept -= file.bytes;
            removals.push(Action::GiveUp(file));
        } else if file.state == State::Waiting {
            uploads.push(Action::Upload(file));
        }
    }
    for file in files.iter().filter(|file| file.state == State::Settled) {
        let age = now.saturating_sub(file.time);
        let is_old = limits.max_age.is_some_and(|max| age > max);
        if is_old || limits.max_bytes.is_some_and(|max| kept > max) {
            kept -= file.bytes;
            removals.push(Action::Expire(file));
        }
    }
    removals.extend(uploads);
    removals
}

fn sum<'a>(files: impl Iterator<Item = &'a File>) -> u64 {
    files.map(|file| file.bytes).sum()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
