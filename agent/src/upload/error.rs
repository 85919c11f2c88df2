//! Why an upload failed, in one line that an operator can act on.

use object_store::Error as StoreError;

use crate::field_error::FieldError;
use crate::state::StateError;

/// Why a file is not uploaded, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The configuration or the environment does not name a destination.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The destination cannot be made ready.
    #[error("open {url} (upload.url)")]
    Open {
        /// The destination.
        url: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no such bucket.
    #[error(
        "{url} has no bucket of that name ({answer}); make it, or correct upload.url or upload.endpoint"
    )]
    NoBucket {
        /// The destination.
        url: String,
        /// What it said.
        answer: String,
    },
    /// The credentials are not accepted, or do not allow it.
    #[error(
        "{url} refuses the agent ({answer}); its AWS_ACCESS_KEY_ID or role needs s3:PutObject, s3:GetObject, s3:ListBucket and s3:AbortMultipartUpload"
    )]
    Refused {
        /// The destination.
        url: String,
        /// What it said.
        answer: String,
    },
    /// There are no credentials.
    #[error(
        "no credentials for {url} ({answer}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the host a role"
    )]
    NoCredentials {
        /// The destination.
        url: String,
        /// Where they were looked for.
        answer: String,
    },
    /// Another object has the key of a file.
    #[error(
        "{key} is there with other content ({found}); it is left as it is, and the file is not uploaded: move one of them away"
    )]
    Conflict {
        /// The whole URL of the object.
        key: String,
        /// How it differs.
        found: String,
    },
    /// The destination does not answer as it should.
    #[error("{attempt} {key}: {answer}")]
    Failed {
        /// What was attempted.
        attempt: &'static str,
        /// The whole URL of the object.
        key: String,
        /// What came back.
        answer: String,
    },
    /// A file or folder cannot be read or removed.
    #[error("{attempt} {path}")]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file or folder.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The agent is ending.
    #[error("the agent is ending")]
    Stopped,
}

/// Turns what `object_store` says of `attempt` on the object `path` of the destination `url` into ours.
pub(super) fn store_error(
    attempt: &'static str,
    url: &str,
    path: &str,
    error: &StoreError,
) -> UploadError {
    let text = chain(error);
    let answer = answer(&text);
    let url = url.to_owned();
    if is_missing_bucket(&text) {
        return UploadError::NoBucket { url, answer };
    }
    if text.contains("metadata/iam/security-credentials") || text.contains("latest/api/token") {
        let answer = "none in the environment, and no instance role answers".to_owned();
        return UploadError::NoCredentials { url, answer };
    }
    let is_refused = matches!(
        error,
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }
    );
    if is_refused || text.contains("403 Forbidden") || text.contains("401 Unauthorized") {
        return UploadError::Refused { url, answer };
    }
    UploadError::Failed {
        attempt,
        key: format!("{url}/{path}"),
        answer,
    }
}

/// True if the destination does not know the multipart upload any more.
pub(super) fn is_missing_upload(error: &StoreError) -> bool {
    chain(error).contains("NoSuchUpload")
}

fn is_missing_bucket(text: &str) -> bool {
    text.contains("<Code>NoSuchBucket</Code>")
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    crate::server::causes(error)
}

/// S3's code and message where there are some; else the last cause, which says most in fewest words.
fn answer(text: &str) -> String {
    let element = |name: &str| {
        let start = text.find(&format!("<{name}>"))? + name.len() + 2;
        let rest = text.get(start..)?;
        rest.split('<').next()
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => {
            let tail = text.rsplit(" - ").next().unwrap_or(text);
            tail.trim().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_short() {
        for (text, expected) in [
            (
                "Error performing PUT http://h/b/k in 3ms - Server returned non-2xx status code: 404: <Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>",
                "NoSuchBucket: The specified bucket does not exist",
            ),
            (
                "Generic S3 error: Error performing PUT http://h/b/k in 9ms, after 2 retries, max_retries: 2, retry_timeout: 20s  - HTTP error: Connection refused (os error 111)",
                "HTTP error: Connection refused (os error 111)",
            ),
            ("plain", "plain"),
        ] {
            assert_eq!(answer(text), expected);
        }
    }
}
