//! The HTTP client under `object_store`: hyper over rustls with the system's certificates, HTTP/1.1 only.
//!
//! Its own would be reqwest, with HTTP/2, cookies and redirects that S3 has no use for. Speaks http only
//! where the caller allows it. Knows no proxy.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector as StoreConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

/// Longest time until a connection is there.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a connection is kept for the next request.
const IDLE: Duration = Duration::from_secs(30);

/// Makes the clients that `object_store` asks for.
#[derive(Debug)]
pub(super) struct Connector;

#[derive(Debug)]
struct Service(Client<HttpsConnector<HttpConnector>, HttpRequestBody>);

impl StoreConnector for Connector {
    /// A client that speaks http if `options` allow it.
    ///
    /// # Errors
    /// The system has no certificates.
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT));
        let tls = HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|source| object_store::Error::Generic {
                store: "TLS",
                source: Box::new(source),
            })?;
        let may_be_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let tls = if may_be_http.as_deref() == Some("true") {
            tls.https_or_http()
        } else {
            tls.https_only()
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(tls.enable_http1().wrap_connector(http));
        Ok(HttpClient::new(Service(client)))
    }
}

impl HttpService for Service {
    fn call<'this, 'answer>(
        &'this self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'answer>>
    where
        'this: 'answer,
        Self: 'answer,
    {
        Box::pin(async move {
            let response = self.0.request(request).await.map_err(failed)?;
            Ok(response.map(|body| {
                HttpResponseBody::new(
                    body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error)),
                )
            }))
        })
    }
}

fn failed(error: Error) -> HttpError {
    let kind = if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Interrupted
    };
    HttpError::new(kind, error)
}
