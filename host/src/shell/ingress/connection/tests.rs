use http_body_util::Full;

use super::*;
use crate::pure::request::Shown;

/// A body that sends its pieces and then ends, fails or stays silent.
struct Pieces {
    left: Vec<Bytes>,
    then: Then,
}

#[derive(Clone, Copy)]
enum Then {
    End,
    Fail,
    Silence,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        match (self.left.pop(), self.then) {
            (Some(piece), _) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            (None, Then::End) => Poll::Ready(None),
            (None, Then::Fail) => Poll::Ready(Some(Err("cut off".to_owned()))),
            (None, Then::Silence) => Poll::Pending,
        }
    }
}

fn read_pieces(left: Vec<Bytes>, then: Then, room: &Room) -> Result<Args, Refusal> {
    let time = match then {
        Then::Silence => Duration::from_millis(20),
        Then::End | Then::Fail => Duration::from_secs(3600),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(read(Pieces { left, then }, room, time))
}

fn spaces(count: usize) -> Bytes {
    vec![b' '; count].into()
}

#[test]
fn a_body_is_whole_small_and_in_time() {
    let room = Room::new(2 * HTTP_BODY_BYTES_MAX);
    let pieces = || vec![Bytes::from("1}"), Bytes::from("{\"a\":")];
    assert_eq!(read_pieces(pieces(), Then::End, &room), Ok(Args::json("{\"a\":1}")));
    let most = || vec![spaces(HTTP_BODY_BYTES_MAX - 2), Bytes::from("{}")];
    let all = read_pieces(most(), Then::End, &room).unwrap();
    assert_eq!(all.bytes(), HTTP_BODY_BYTES_MAX);
    let more = vec![spaces(HTTP_BODY_BYTES_MAX - 1), Bytes::from("{}")];
    assert_eq!(read_pieces(more, Then::End, &room), Err(Refusal::too_large()));
    assert_eq!(read_pieces(pieces(), Then::Fail, &room), Err(Refusal::broken("cut off")));
    assert_eq!(read_pieces(pieces(), Then::Silence, &room), Err(Refusal::too_slow()));
    // All of it was given back, each time.
    assert_eq!(room.taken(), 0);
}

#[test]
fn all_bodies_together_have_a_limit() {
    let room = Room::new(10);
    let others = room.take(8).unwrap();
    let pieces = || vec![Bytes::from("}"), Bytes::from("{ ")];
    let refusal = read_pieces(pieces(), Then::End, &room).unwrap_err();
    assert_eq!((refusal.status.as_u16(), refusal.fault.code.as_str()), (503, "E_QUEUE_FULL"));
    assert!(comes_back(refusal.status));
    drop(others);
    assert_eq!(read_pieces(pieces(), Then::End, &room), Ok(Args::json("{ }")));
    assert_eq!(room.taken(), 0);
}

#[test]
fn a_body_that_is_announced_as_too_large_is_not_read() {
    let room = Room::new(0);
    let body = Full::new(spaces(HTTP_BODY_BYTES_MAX + 1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refusal = runtime.block_on(read(body, &room, Duration::from_secs(3600)));
    assert_eq!(refusal, Err(Refusal::too_large()));
}

#[test]
fn a_large_answer_goes_in_pieces() {
    let shown = Shown::new("x".repeat(200_000), None);
    let line = Line { head: "{\"value\":".to_owned(), shown: Some(shown), tail: "}" };
    let expected = format!("{line}\n");
    let mut text = Text { parts: parts(line), _handing: Handing(Stage::new(USUAL)) };
    assert_eq!(text.size_hint().exact(), Some(expected.len() as u64));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut told = Vec::new();
    while let Some(Ok(frame)) = runtime.block_on(text.frame()) {
        let piece = frame.into_data().unwrap();
        assert!((1..=HTTP_BUFFER_BYTES_MAX).contains(&piece.len()));
        told.extend_from_slice(&piece);
        assert_eq!(text.is_end_stream(), told.len() == expected.len());
    }
    assert_eq!(told, expected.into_bytes());
}
