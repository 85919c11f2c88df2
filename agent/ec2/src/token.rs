//! Client tokens: what makes a repeated call do its work once. Pure.
//!
//! AWS: "Ensuring idempotency in Amazon EC2 API requests".

use sha2::{Digest, Sha256};

/// The token of step `step` of an attachment: the same after a restart, so that what an earlier agent asked for and
/// got no answer to is found, not made again. 32 hex digits; EC2 takes 64 ASCII characters.
#[must_use]
pub fn client_token(attachment_id: &str, step: &str) -> String {
    let mut hash = Sha256::new();
    for part in [attachment_id, step] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_that_of_its_attachment_and_step_alone() {
        let token = client_token("a", "create");
        assert_eq!(token, client_token("a", "create"));
        assert_eq!(token.len(), 32);
        let others = [
            ("a", "associate"),
            ("b", "create"),
            ("ac", "reate"),
            ("", "acreate"),
        ];
        assert!(
            others
                .iter()
                .all(|(id, step)| client_token(id, step) != token)
        );
    }
}
