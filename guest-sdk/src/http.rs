//! HTTP: requests to others, through a resource of kind `http`.
//!
//! HTTP/1.1 without TLS, to those whom the service's manifest allows. Whatever a server answers is
//! an answer: a redirect is not followed, and an error of the server is no [`CallError`].
//!
//! ```
//! use guest_sdk::prelude::*;
//! use guest_sdk::http;
//! use guest_sdk::test::{Harness, json};
//!
//! #[derive(Clone, Default)]
//! struct Rates;
//!
//! #[guest]
//! impl Rates {
//!     /// What a currency is worth, as somebody else says.
//!     pub fn ask(&mut self, currency: String) -> Result<String, Rejection> {
//!         let url = format!("http://rates.example.com/v1/{currency}");
//!         let response = http::get("rates", &url)?;
//!         ensure!(response.status == 200, "no_rate", "they said {}", response.status);
//!         Ok(response.text().unwrap_or_default().to_owned())
//!     }
//! }
//!
//! let mut rates = Harness::<Rates>::new(json!({}));
//! rates.set_http("rates", |request| {
//!     assert_eq!(request.url, "http://rates.example.com/v1/EUR");
//!     Ok(http::Response { status: 200, headers: vec![], body: b"1.25".to_vec() })
//! });
//! assert_eq!(rates.call("ask", json!(["EUR"])).committed(), json!("1.25"));
//! ```

use crate::host;
use crate::resource::CallError;

/// A request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Request {
    /// `GET`, `POST` and so on; not `CONNECT`.
    pub method: String,
    /// `http://` and where to.
    pub url: String,
    /// Names and values. Those that say how a request is sent are the host's: `host`,
    /// `connection`, `content-length`, `transfer-encoding` and their like.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; often empty.
    pub body: Vec<u8>,
}

impl Request {
    /// One without headers and body.
    #[must_use]
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// With one header more.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn with_body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }
}

/// An answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names, in small letters, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header, whose name is in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers.iter().find(|(its, _)| its == name);
        found.map(|(_, value)| value.as_slice())
    }

    /// The body, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }
}

/// Sends a request and waits for the answer. Live: what it did at the server stays when the
/// transaction is rolled back.
///
/// # Errors
///
/// [`CallError`]. Refused has the code `lookup` when the URL's name leads nowhere, `connect` when
/// nobody listens there; `closed` when the connection ended before the answer was whole, and
/// `no-http` when the answer is none: it may have been done then.
pub fn send(resource: &str, request: Request) -> Result<Response, CallError> {
    host::http(resource, request)
}

/// Sends a `GET`.
///
/// # Errors
///
/// As [`send`].
pub fn get(resource: &str, url: &str) -> Result<Response, CallError> {
    send(resource, Request::new("GET", url))
}
