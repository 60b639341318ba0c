//! A guest of the tests that sends requests by `wasi:http`, with bindings from crates.io, as
//! components do that know nothing of this host.

use guest_sdk::prelude::*;

/// Keeps nothing of its own.
#[derive(Clone, Debug, Default)]
pub struct Fetcher {
    calls: u64,
}

#[guest]
impl Fetcher {
    /// Sends a request, and answers status, headers and body, or why there are none.
    pub fn fetch(
        &mut self,
        method: String,
        url: String,
        headers: Option<Vec<(String, String)>>,
        body: Option<String>,
    ) -> String {
        self.calls += 1;
        wasi::fetch(&method, &url, &headers.unwrap_or_default(), body.as_deref())
    }

    /// Sends one request to each of these at once, and answers whose answers came in which order;
    /// it may wait for some of them alone.
    pub fn race(&mut self, urls: Vec<String>, answers: Option<usize>) -> String {
        self.calls += 1;
        wasi::race(&urls, answers.unwrap_or(urls.len()))
    }

    /// Begins requests, and waits for none: what is left of each is dropped, or kept.
    pub fn begin(&mut self, url: String, count: u32, keeps: bool) -> String {
        self.calls += 1;
        wasi::begin(&url, count, keeps)
    }

    /// Writes a body of so many mebibytes, and sends it if it can.
    pub fn flood(&mut self, url: String, mebibytes: u32) -> String {
        self.calls += 1;
        wasi::flood(&url, mebibytes)
    }

    /// Gives a body up before it is whole.
    pub fn give_up(&mut self, url: String) -> String {
        self.calls += 1;
        wasi::give_up(&url)
    }

    /// Waits so many milliseconds for an answer.
    pub fn wait(&mut self, url: String, milliseconds: u64) -> String {
        self.calls += 1;
        wasi::wait(&url, milliseconds)
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.calls
    }
}

#[cfg(not(target_family = "wasm"))]
mod wasi {
    type Headers = [(String, String)];

    pub(crate) fn fetch(_: &str, _: &str, _: &Headers, _: Option<&str>) -> String {
        String::new()
    }

    pub(crate) fn race(_urls: &[String], _answers: usize) -> String {
        String::new()
    }

    pub(crate) fn begin(_url: &str, _count: u32, _keeps: bool) -> String {
        String::new()
    }

    pub(crate) fn flood(_url: &str, _mebibytes: u32) -> String {
        String::new()
    }

    pub(crate) fn give_up(_url: &str) -> String {
        String::new()
    }

    pub(crate) fn wait(_url: &str, _milliseconds: u64) -> String {
        String::new()
    }
}

#[cfg(target_family = "wasm")]
mod wasi {
    use wasip2::http::outgoing_handler::handle;
    use wasip2::http::types::{
        ErrorCode, Fields, FutureIncomingResponse, IncomingBody, Method, OutgoingBody,
        OutgoingRequest, RequestOptions, Scheme,
    };
    use wasip2::io::poll::poll;
    use wasip2::io::streams::StreamError;

    type Headers = [(String, String)];

    /// Short for tests: the name of an error.
    fn shown(code: &ErrorCode) -> String {
        let text = format!("{code:?}");
        let name = text.trim_start_matches("ErrorCode::");
        let end = name.find(|c: char| !c.is_alphanumeric());
        format!("error: {}", name.get(..end.unwrap_or(name.len())).unwrap_or(name))
    }

    fn request(method: &str, url: &str, headers: &Headers) -> Result<OutgoingRequest, String> {
        let fields = Fields::new();
        for (name, value) in headers {
            let appended = fields.append(name, value.as_bytes());
            appended.map_err(|error| format!("error: {error:?} {name}"))?;
        }
        let request = OutgoingRequest::new(fields);
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let set = || {
            request.set_method(&match method {
                "GET" => Method::Get,
                "POST" => Method::Post,
                other => Method::Other(other.to_owned()),
            })?;
            request.set_scheme(Some(&match scheme {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                other => Scheme::Other(other.to_owned()),
            }))?;
            request.set_authority(Some(authority))?;
            request.set_path_with_query(Some(path))
        };
        set().map_err(|()| "error: not set".to_owned())?;
        Ok(request)
    }

    fn answer(future: &FutureIncomingResponse) -> Result<String, String> {
        let answer = loop {
            match future.get() {
                Some(answer) => break answer,
                None => future.subscribe().block(),
            }
        };
        let answer = answer.map_err(|()| "error: taken".to_owned())?;
        let answer = answer.map_err(|code| shown(&code))?;
        if future.get().is_none_or(|again| again.is_ok()) {
            return Err("error: it came twice".to_owned());
        }
        let mut text = answer.status().to_string();
        for (name, value) in answer.headers().entries() {
            text = format!("{text} {name}={}", String::from_utf8_lossy(&value));
        }
        let none = |()| "error: no body".to_owned();
        let incoming = answer.consume().map_err(none)?;
        let stream = incoming.stream().map_err(none)?;
        let mut body = Vec::new();
        loop {
            match stream.blocking_read(1 << 16) {
                Ok(bytes) => body.extend(bytes),
                Err(StreamError::Closed) => break,
                Err(error) => return Err(format!("error: {error:?}")),
            }
        }
        drop(stream);
        let trailers = IncomingBody::finish(incoming);
        trailers.subscribe().block();
        if !matches!(trailers.get(), Some(Ok(Ok(None)))) {
            return Err("error: trailers".to_owned());
        }
        let body = match body.len() {
            0..1000 => String::from_utf8_lossy(&body).into_owned(),
            bytes => format!("{bytes} bytes"),
        };
        Ok(format!("{text}: {body}"))
    }

    fn either(result: Result<String, String>) -> String {
        result.unwrap_or_else(|error| error)
    }

    pub(crate) fn fetch(method: &str, url: &str, headers: &Headers, body: Option<&str>) -> String {
        let send = || {
            let request = request(method, url, headers)?;
            let future = match body {
                None => handle(request, None),
                Some(body) => {
                    let outgoing = request.body().map_err(|()| "error: no body".to_owned())?;
                    // As some clients do: what is sent is known only later.
                    let future = handle(request, None);
                    let stream = outgoing.write().map_err(|()| "error: no stream".to_owned())?;
                    for piece in body.as_bytes().chunks(7) {
                        let written = stream.blocking_write_and_flush(piece);
                        written.map_err(|error| format!("error: {error:?}"))?;
                    }
                    drop(stream);
                    OutgoingBody::finish(outgoing, None).map_err(|code| shown(&code))?;
                    future
                }
            };
            answer(&future.map_err(|code| shown(&code))?)
        };
        either(send())
    }

    pub(crate) fn race(urls: &[String], answers: usize) -> String {
        let send = || {
            let mut waiting = Vec::new();
            for url in urls {
                let future = handle(request("GET", url, &[])?, None);
                waiting.push((url, future.map_err(|code| shown(&code))?));
            }
            let mut order = Vec::new();
            while !waiting.is_empty() && order.len() < answers {
                let pollables: Vec<_> = waiting.iter().map(|(_, one)| one.subscribe()).collect();
                let ready = poll(&pollables.iter().collect::<Vec<_>>());
                drop(pollables);
                let first = ready.first().map_or(0, |first| *first as usize);
                let (url, future) = waiting.remove(first);
                let path = url.rsplit('/').next().unwrap_or_default();
                order.push(format!("{path} {}", either(answer(&future))));
            }
            Ok(order.join(", "))
        };
        either(send())
    }

    pub(crate) fn begin(url: &str, count: u32, keeps: bool) -> String {
        let send = || {
            let mut begun = Vec::new();
            for _ in 0..count {
                let future = handle(request("GET", url, &[])?, None);
                begun.push(future.map_err(|code| shown(&code))?);
            }
            if keeps {
                std::mem::forget(begun);
            }
            Ok("begun".to_owned())
        };
        either(send())
    }

    pub(crate) fn flood(url: &str, mebibytes: u32) -> String {
        let send = || {
            let request = request("POST", url, &[])?;
            let outgoing = request.body().map_err(|()| "error: no body".to_owned())?;
            let stream = outgoing.write().map_err(|()| "error: no stream".to_owned())?;
            let piece = [b'x'; 4096];
            for written in 0..mebibytes * 256 {
                if stream.blocking_write_and_flush(&piece).is_err() {
                    return Ok(format!("closed after {} MiB", written / 256));
                }
            }
            drop(stream);
            OutgoingBody::finish(outgoing, None).map_err(|code| shown(&code))?;
            answer(&handle(request, None).map_err(|code| shown(&code))?)
        };
        either(send())
    }

    pub(crate) fn give_up(url: &str) -> String {
        let send = || {
            let request = request("POST", url, &[])?;
            let outgoing = request.body().map_err(|()| "error: no body".to_owned())?;
            let stream = outgoing.write().map_err(|()| "error: no stream".to_owned())?;
            let future = handle(request, None).map_err(|code| shown(&code))?;
            let written = stream.blocking_write_and_flush(b"half of it");
            written.map_err(|error| format!("error: {error:?}"))?;
            drop(stream);
            drop(outgoing);
            answer(&future)
        };
        either(send())
    }

    pub(crate) fn wait(url: &str, milliseconds: u64) -> String {
        let send = || {
            let options = RequestOptions::new();
            let nanos = milliseconds * 1_000_000;
            let set = options.set_first_byte_timeout(Some(nanos));
            set.and_then(|()| options.set_connect_timeout(Some(0)))
                .map_err(|()| "error: not set".to_owned())?;
            let future = handle(request("GET", url, &[])?, Some(options));
            answer(&future.map_err(|code| shown(&code))?)
        };
        either(send())
    }
}
