//! The head of a request that a guest sends: what of it is the guest's to say.

use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::allow::Url;
use super::operation::{CallError, HttpRequest};
use crate::base::limits::{HTTP_CALL_HEAD_BYTES_MAX, HTTP_CALL_HEADERS_MAX};

/// Headers that say how a request is sent, which is the host's business: with them a guest could
/// put a second request into the first, or ask somebody else than the URL says.
const HOSTS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header says how a request is sent.
#[must_use]
pub fn is_hosts(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    HOSTS.contains(&name.as_str()) || name.starts_with("proxy-")
}

/// The head with which a request is sent to its URL.
///
/// # Errors
///
/// [`CallError::Denied`] with what is wrong, [`CallError::TooLarge`].
pub fn head(request: &HttpRequest, url: &Url) -> Result<Request<()>, CallError> {
    let denied = |what: &str| CallError::Denied(what.to_owned());
    let sizes = request.headers.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    let bytes = sizes.fold(request.url.len(), usize::saturating_add);
    let most = HTTP_CALL_HEAD_BYTES_MAX;
    if bytes.saturating_add(request.method.len()) > most {
        return Err(CallError::TooLarge(u64::try_from(most).unwrap_or(u64::MAX)));
    }
    if request.headers.len() > HTTP_CALL_HEADERS_MAX {
        return Err(CallError::Denied(format!("more than {HTTP_CALL_HEADERS_MAX} headers")));
    }
    let method = Method::from_bytes(request.method.as_bytes());
    let method = method.map_err(|_| denied("the method is no word"))?;
    if method.as_str().eq_ignore_ascii_case("CONNECT") {
        return Err(denied("`CONNECT` makes a tunnel, not a request"));
    }
    let authority = HeaderValue::try_from(url.authority());
    let authority = authority.map_err(|_| denied("the URL's host is no name and no address"))?;
    let mut headers = HeaderMap::with_capacity(request.headers.len().saturating_add(2));
    headers.insert(HOST, authority);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let name = name.map_err(|_| denied("a header's name is no word"))?;
        if is_hosts(name.as_str()) {
            return Err(CallError::Denied(format!("the header `{name}` is the host's")));
        }
        let value = HeaderValue::from_bytes(value);
        let value = value.map_err(|_| {
            CallError::Denied(format!("the header `{name}` has bytes that no header has"))
        })?;
        headers.append(name, value);
    }
    let built = Request::builder().method(method).uri(url.target()).body(());
    let mut built = built.map_err(|_| denied("the URL has no path that can be sent"))?;
    *built.headers_mut() = headers;
    Ok(built)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &[u8])]) -> HttpRequest {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        HttpRequest {
            method: "GET".to_owned(),
            url: "http://h.example:81/a?b".to_owned(),
            headers: headers.collect(),
            body: Vec::new(),
        }
    }

    fn try_head(request: &HttpRequest) -> Result<Request<()>, CallError> {
        head(request, &Url::parse(&request.url).unwrap())
    }

    #[test]
    fn host_and_connection_are_the_hosts() {
        let built = try_head(&request(&[("X-A", b"1"), ("x-a", b"\xe4 2")])).unwrap();
        assert_eq!((built.method().as_str(), built.uri().to_string().as_str()), ("GET", "/a?b"));
        let headers: Vec<(&str, &[u8])> =
            built.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 4] = [
            ("host", b"h.example:81"),
            ("connection", b"close"),
            ("x-a", b"1"),
            ("x-a", b"\xe4 2"),
        ];
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_header_that_says_how_to_send_is_denied() {
        for name in HOSTS.into_iter().chain(["Host", "PROXY-authorization", "Transfer-Encoding"]) {
            let denied = try_head(&request(&[(name, b"x")])).unwrap_err();
            let CallError::Denied(message) = denied else { panic!("{name}: {denied:?}") };
            assert!(message.ends_with("is the host's"), "{name}: {message}");
        }
    }

    #[test]
    fn what_would_be_more_than_one_header_or_one_line_is_denied() {
        let values: [&[u8]; 4] = [b"1\r\nx: 2", b"1\n", b"1\r", b"1\0"];
        for value in values {
            assert!(matches!(try_head(&request(&[("x", value)])), Err(CallError::Denied(_))));
        }
        for name in ["", "a b", "a:b", "a\r\nb", "a\0", "\u{e4}"] {
            assert!(matches!(try_head(&request(&[(name, b"1")])), Err(CallError::Denied(_))));
        }
        for method in ["", "GET / HTTP/1.1\r\nx: ", "G T", "CONNECT", "connect", "G\u{e4}T"] {
            let request = HttpRequest { method: method.to_owned(), ..request(&[]) };
            assert!(matches!(try_head(&request), Err(CallError::Denied(_))), "{method}");
        }
    }

    #[test]
    fn a_head_has_an_end() {
        let large = vec![b'x'; HTTP_CALL_HEAD_BYTES_MAX];
        let large = try_head(&request(&[("x", &large)]));
        assert_eq!(large.unwrap_err(), CallError::TooLarge(64 << 10));
        let header: (&str, &[u8]) = ("x", b"1");
        assert!(try_head(&request(&[header; HTTP_CALL_HEADERS_MAX])).is_ok());
        let denied = try_head(&request(&[header; HTTP_CALL_HEADERS_MAX + 1])).unwrap_err();
        assert_eq!(denied, CallError::Denied("more than 100 headers".to_owned()));
    }
}
