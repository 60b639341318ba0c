//! One connection: requests, each answered before the next one is read.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Shared, is_true};
use crate::base::error::{Fault, plain_lines};
use crate::base::limits::{
    HTTP_ANSWER_TIME_MAX, HTTP_BODY_BYTES_MAX, HTTP_BODY_TIME_MAX, HTTP_BUFFER_BYTES_MAX,
    HTTP_HEAD_BYTES_MAX, HTTP_HEAD_TIME_MAX, HTTP_IDLE_TIME_MAX, HTTP_RETRY_AFTER_SECONDS,
};
use crate::base::room::{Room, Taken};
use crate::pure::contract::Args;
use crate::pure::ingress::{Ask, Refusal, arguments, ask, comes_back, status};
use crate::pure::request::{Line, Request as Call, fault_json};
use crate::pure::service_state;
use crate::shell::api::{Attending, Served, answered};
use crate::shell::clients::{Handing, Paced, Stage, Times};

pub(super) const USUAL: Times =
    Times { head: HTTP_HEAD_TIME_MAX, answer: HTTP_ANSWER_TIME_MAX, idle: HTTP_IDLE_TIME_MAX };

/// What one client is served with.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    served: Arc<Served>,
    shared: Shared,
    stage: Arc<Stage>,
}

/// An answer, on its way.
#[derive(Debug)]
struct Text {
    /// What of it is left; what is large goes in pieces.
    parts: VecDeque<Bytes>,
    /// Dropped with it.
    _handing: Handing,
}

impl Connection {
    pub(super) fn new(served: Arc<Served>, shared: Shared, stage: Arc<Stage>) -> Self {
        Self { served, shared, stage }
    }

    /// Serves until the client goes or is late, or the host stops.
    pub(super) async fn attend(self, stream: TcpStream) {
        // Without it an answer may wait for a timer of the kernel; it is whole when it is written.
        drop(stream.set_nodelay(true));
        let mut closing = self.served.closing.subscribe();
        let stream = TokioIo::new(Paced::new(stream, self.stage.clone()));
        let service = service_fn(move |request| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.serve(request).await) }
        });
        let mut http = http1::Builder::new();
        // The stream knows the time of a head, and that of an idle connection, which is another.
        http.header_read_timeout(None);
        // A client that will send no more may still read: what it asked for is done, and answered.
        // The stream knows when it was broken off.
        http.half_close(true);
        http.max_header_size(HTTP_HEAD_BYTES_MAX).max_buf_size(HTTP_BUFFER_BYTES_MAX);
        let mut connection = pin!(http.serve_connection(stream, service));
        let ended = tokio::select! {
            biased;
            () = is_true(&mut closing) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = connection.as_mut() => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "an HTTP client went away, or was let go of");
        }
    }

    async fn serve(self, request: Request<Incoming>) -> Response<Text> {
        self.stage.begin(Attending::one(&self.served.attending));
        let (head, body) = request.into_parts();
        let asked = match ask(&head, &self.shared.hosts) {
            Ok(Ask::Health) => {
                let (health, status) = self.served.look();
                let status = StatusCode::from_u16(status);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Ok((status, line_of(&health)))
            }
            Ok(Ask::Liveness) => {
                let (health, _) = self.served.look();
                let state = health.get("state").cloned().unwrap_or_default();
                let status = service_state::liveness(state.as_str().unwrap_or_default());
                let status = StatusCode::from_u16(status);
                let alive = json!({ "state": state });
                Ok((status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), line_of(&alive)))
            }
            Ok(Ask::Call(request)) => self.call(*request, body).await,
            Err(refusal) => Err(refusal),
        };
        match asked {
            Ok((status, line)) => self.response(status, line),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    async fn call(&self, mut request: Call, body: Incoming) -> Result<(StatusCode, Line), Refusal> {
        self.stage.reading();
        request.args = read(body, self.served.root.requests(), HTTP_BODY_TIME_MAX).await?;
        self.stage.read();
        let _under_way = self.shared.calls.try_acquire().map_err(|_| Refusal::busy())?;
        let answer = answered(request, &self.served.root).await;
        Ok((status(&answer), answer.into_line()))
    }

    fn refuse(self, refusal: &Refusal) -> Response<Text> {
        let mut response = self.response(refusal.status, line_of(&error(&refusal.fault)));
        let headers = response.headers_mut();
        headers.extend(refusal.allow());
        if refusal.is_last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn response(self, status: StatusCode, line: Line) -> Response<Text> {
        let text = Text { parts: parts(line), _handing: Handing(self.stage) };
        let mut response = Response::new(text);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if comes_back(status) {
            headers.insert(RETRY_AFTER, HeaderValue::from(HTTP_RETRY_AFTER_SECONDS));
        }
        response
    }
}

fn line_of(value: &Value) -> Line {
    Line { head: plain_lines(value.to_string()), shown: None, tail: "" }
}

fn parts(line: Line) -> VecDeque<Bytes> {
    let Line { mut head, shown, tail } = line;
    let mut parts = VecDeque::new();
    if let Some(shown) = shown {
        parts.push_back(Bytes::from(std::mem::take(&mut head)));
        parts.push_back(Bytes::from_owner(shown));
    }
    head.push_str(tail);
    head.push('\n');
    parts.push_back(Bytes::from(head));
    parts
}

fn error(fault: &Fault) -> Value {
    json!({ "error": fault_json(fault) })
}

/// Reads the arguments. What is announced as too large is refused before any of it is read.
async fn read<B>(body: B, room: &Room, time: Duration) -> Result<Args, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let most = u64::try_from(HTTP_BODY_BYTES_MAX).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(Refusal::too_large());
    }
    match tokio::time::timeout(time, collect(body, room)).await {
        Ok(collected) => collected.and_then(|(bytes, _taken)| arguments(bytes)),
        Err(_) => Err(Refusal::too_slow()),
    }
}

/// All bytes of a body, and their room among all bodies.
async fn collect<B>(body: B, room: &Room) -> Result<(Vec<u8>, Vec<Taken>), Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = pin!(body);
    let (mut bytes, mut taken) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::broken(&error.to_string()))?;
        // Trailers say nothing that is asked for.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > HTTP_BODY_BYTES_MAX {
            return Err(Refusal::too_large());
        }
        let more = room.take(data.len());
        taken.push(more.ok_or_else(|| Refusal::crowded(room.taken()))?);
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, taken))
}

impl Body for Text {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.parts.front_mut().map(|part| {
            let piece = part.len().min(HTTP_BUFFER_BYTES_MAX);
            part.split_to(piece)
        });
        if self.parts.front().is_some_and(Bytes::is_empty) {
            self.parts.pop_front();
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.parts.iter().map(|part| part.len() as u64).sum())
    }
}

#[cfg(test)]
mod tests;
