//! Where files go: a bucket of an S3 server, or a folder. Replaces no object.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, Error as StoreError, GetOptions, ObjectStore, PutMode, PutPayload, RetryConfig,
};
use tokio::time::timeout;

use super::config::{Url, check_endpoint};
use super::connector::Connector;
use super::error::store_error;
use super::{UploadConfig, UploadError};

/// Longest time for one request with its repetitions. A part of 8 MiB gets through at 0.6 Mbit/s.
const REQUEST: Duration = Duration::from_secs(120);
/// Repetitions of a request at once; the uploader has a longer breath.
const RETRIES: usize = 2;

/// The `AWS_*` variables that the agent was started with: names and values.
#[derive(Clone, Default)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(variables: T) -> Self {
        let is_aws = |(name, _): &(String, String)| name.starts_with("AWS_");
        Self(variables.into_iter().filter(is_aws).collect())
    }
}

impl fmt::Debug for Environment {
    /// Names only: values may be secrets.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// What is read of an object.
pub(super) type Pieces = BoxStream<'static, object_store::Result<Bytes>>;

/// An open destination.
#[derive(Clone)]
pub(super) struct Destination {
    url: String,
    prefix: Key,
    store: Arc<dyn ObjectStore>,
    multipart: Option<Arc<dyn MultipartStore>>,
}

impl Destination {
    /// Opens what `config` names. Sends nothing yet; makes the folder of a `file:` URL.
    ///
    /// # Errors
    /// `Field` if a field or variable is wrong; `Open` if the folder cannot be made.
    pub(super) fn open(
        config: &UploadConfig,
        environment: &Environment,
    ) -> Result<Self, UploadError> {
        let url = config.url.trim_end_matches('/').to_owned();
        let failed = |source| UploadError::Open {
            url: url.clone(),
            source,
        };
        match config.parsed("upload")? {
            Url::S3 { bucket, prefix } => {
                let store = Arc::new(s3(config, &bucket, environment, failed)?);
                Ok(Self {
                    prefix: Key::from(prefix),
                    store: Arc::clone(&store) as Arc<dyn ObjectStore>,
                    multipart: Some(store),
                    url,
                })
            }
            Url::File(folder) => {
                fs::create_dir_all(&folder).map_err(|source| failed(source.into()))?;
                let store = LocalFileSystem::new_with_prefix(&folder)
                    .map_err(|source| failed(source.into()))?
                    .with_fsync(true);
                Ok(Self {
                    prefix: Key::default(),
                    store: Arc::new(store),
                    multipart: None,
                    url,
                })
            }
        }
    }

    /// Its URL; there are no credentials in it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Its multipart interface, if it has one whose uploads outlive a process.
    pub(super) fn multipart(&self) -> Option<&dyn MultipartStore> {
        self.multipart.as_deref()
    }

    /// The object of a file.
    pub(super) fn key(&self, relative: &str) -> Key {
        let parts = self.prefix.parts();
        parts.chain(Key::from(relative).parts()).collect()
    }

    /// The whole URL of a file's object.
    pub(super) fn object_url(&self, relative: &str) -> String {
        format!("{}/{relative}", self.url)
    }

    /// Creates the object of a file; false if there is one already.
    ///
    /// # Errors
    /// It may or may not be there.
    pub(super) async fn create(
        &self,
        relative: &str,
        content: PutPayload,
    ) -> Result<bool, UploadError> {
        let key = self.key(relative);
        let put = self.store.put_opts(&key, content, PutMode::Create.into());
        match self.bounded("upload to", relative, put).await? {
            Ok(_) => Ok(true),
            Err(StoreError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.error("upload to", relative, &error)),
        }
    }

    /// The size of the object of a file, if there is one.
    ///
    /// # Errors
    /// It may or may not be there.
    pub(super) async fn size(&self, relative: &str) -> Result<Option<u64>, UploadError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let key = self.key(relative);
        let head = self.store.get_opts(&key, options);
        match self.bounded("look for", relative, head).await? {
            Ok(found) => Ok(Some(found.meta.size)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("look for", relative, &error)),
        }
    }

    /// The object of a file in pieces, to be read by [`Self::piece`].
    ///
    /// # Errors
    /// It is not there, or cannot be read.
    pub(super) async fn read(&self, relative: &str) -> Result<Pieces, UploadError> {
        let key = self.key(relative);
        let get = self.store.get_opts(&key, GetOptions::default());
        let found = self.bounded("read", relative, get).await?;
        let found = found.map_err(|error| self.error("read", relative, &error))?;
        Ok(found.into_stream())
    }

    /// The next piece; `None` at the object's end.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) async fn piece(
        &self,
        relative: &str,
        pieces: &mut Pieces,
    ) -> Result<Option<Bytes>, UploadError> {
        let piece = self.bounded("read", relative, pieces.next()).await?;
        piece
            .transpose()
            .map_err(|error| self.error("read", relative, &error))
    }

    /// `request`, or that it took too long.
    pub(super) async fn bounded<T>(
        &self,
        attempt: &'static str,
        relative: &str,
        request: impl Future<Output = T>,
    ) -> Result<T, UploadError> {
        timeout(REQUEST, request)
            .await
            .map_err(|_| UploadError::Failed {
                attempt,
                key: self.object_url(relative),
                answer: format!("no answer in {} s", REQUEST.as_secs()),
            })
    }

    /// Our error for what the destination said about a file.
    pub(super) fn error(
        &self,
        attempt: &'static str,
        relative: &str,
        error: &StoreError,
    ) -> UploadError {
        store_error(attempt, &self.url, relative, error)
    }
}

/// An S3 client for `bucket`. The configuration's fields win over the environment's.
fn s3(
    config: &UploadConfig,
    bucket: &str,
    environment: &Environment,
    failed: impl Fn(Box<dyn std::error::Error + Send + Sync>) -> UploadError,
) -> Result<object_store::aws::AmazonS3, UploadError> {
    let mut builder = AmazonS3Builder::new();
    for (name, value) in &environment.0 {
        if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
            builder = builder.with_config(key, value);
        }
    }
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    let named = [
        (AmazonS3ConfigKey::S3Endpoint, "AWS_ENDPOINT_URL_S3"),
        (AmazonS3ConfigKey::Endpoint, "AWS_ENDPOINT_URL"),
    ];
    // The first is the one that is used.
    let endpoint = named
        .iter()
        .find_map(|(key, name)| Some((builder.get_config_value(key)?, *name)));
    let mut is_http = false;
    if let Some((endpoint, variable)) = endpoint {
        let field = match config.endpoint {
            Some(_) => "upload.endpoint",
            None => variable,
        };
        check_endpoint(field, &endpoint, config.allow_http)?;
        is_http = endpoint.starts_with("http:");
    }
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: RETRIES,
        retry_timeout: REQUEST / 2,
    };
    builder
        .with_bucket_name(bucket)
        .with_allow_http(is_http)
        .with_retry(retry)
        .with_http_connector(Connector)
        .build()
        .map_err(|source| failed(source.into()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn config(url: &str) -> UploadConfig {
        UploadConfig {
            url: url.to_owned(),
            endpoint: None,
            region: None,
            allow_http: true,
            backlog_max_bytes: 1 << 30,
        }
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        variables.iter().map(owned).collect()
    }

    #[test]
    fn a_key_is_the_prefix_and_the_path() {
        let destination =
            Destination::open(&config("s3://logs/a/b=c/"), &environment(&[])).unwrap();
        assert_eq!(
            destination.key("AWSLogs/day=1/x_y.log.gz").as_ref(),
            "a/b=c/AWSLogs/day=1/x_y.log.gz"
        );
        assert_eq!(destination.object_url("x"), "s3://logs/a/b=c/x");
        let whole = Destination::open(&config("s3://logs"), &environment(&[])).unwrap();
        assert_eq!(whole.key("AWSLogs/x").as_ref(), "AWSLogs/x");
    }

    #[test]
    fn an_endpoint_of_the_environment_is_held_to_the_same_rules() {
        let open = |variables: &[(&str, &str)]| {
            Destination::open(&config("s3://logs"), &environment(variables))
                .map_err(|error| error.to_string())
                .err()
        };
        assert_eq!(open(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:9")]), None);
        let refused =
            "AWS_ENDPOINT_URL: \"http://10.0.0.1\" is http to another host; write https://";
        assert_eq!(
            open(&[("AWS_ENDPOINT_URL", "http://10.0.0.1")]).as_deref(),
            Some(refused)
        );
    }

    #[tokio::test]
    async fn a_host_without_credentials_is_told_so() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metadata = format!("http://{}", nobody.local_addr().unwrap());
        drop(nobody);
        let variables = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_METADATA_ENDPOINT", metadata.as_str()),
        ];
        let destination =
            Destination::open(&config("s3://logs"), &environment(&variables)).unwrap();
        let error = destination.create("x", "content".into()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "no credentials for s3://logs (none in the environment, and no instance role answers); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the host a role"
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let environment = environment(&[("AWS_SECRET_ACCESS_KEY", "hunter2"), ("HOME", "/root")]);
        assert_eq!(format!("{environment:?}"), "[\"AWS_SECRET_ACCESS_KEY\"]");
    }
}
