//! Random bytes, for ids that nobody guesses or has had.

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};

/// The kernel's random numbers, which come whole (getrandom(2): up to 256 bytes are never cut).
///
/// # Errors
/// The kernel gives none.
pub(crate) fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let len = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if len < bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}
