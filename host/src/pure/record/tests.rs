use super::*;
use crate::pure::delta::Delta;

fn head(sequence: u64) -> Head {
    Head {
        kind: Kind::Commit,
        whole: false,
        daemon: 7,
        fence: 0,
        sequence: Sequence(sequence),
        previous: blake3::hash(b"before"),
        code: [3; HASH_BYTES],
        request: RequestId(9),
        contract: Some(3),
        unix_nanos: 1_700_000_000_000_000_000,
        generation: Generation(2),
        memory_bytes: 1 << 20,
        attempts: 1,
        part: Part::Only,
    }
}

/// What is not a commit by itself has another format, which an earlier host refuses.
#[test]
fn parts_are_read_as_what_they_are() {
    let delta = Delta::default();
    for part in [Part::Only, Part::More(0), Part::More(7), Part::Last] {
        for whole in [false, true] {
            let head = Head { part, whole, request: RequestId(4), ..head(5) };
            let draft = Draft { head, keyed: None, controls: &[], delta: &delta };
            let mut bytes = Vec::new();
            Encoder::new().encode(&draft, &mut bytes).unwrap();
            assert_eq!(is_more(&bytes), matches!(part, Part::More(_)));
            assert_eq!(bytes[4], if part == Part::Only { 1 } else { 2 });
            let mut scratch = Vec::new();
            let record = Record::decode(&bytes, &mut scratch);
            if !whole && part != Part::Only {
                assert_eq!(record.unwrap_err().what, "a part of a change");
                continue;
            }
            let found = record.unwrap().head;
            let request = if head.is_more() { RequestId(0) } else { RequestId(4) };
            assert_eq!(found, Head { request, ..head });
            assert_eq!(found.clears(), whole && !matches!(part, Part::More(7) | Part::Last));
        }
    }
}

fn encoded(changed: usize, keyed: bool) -> Vec<u8> {
    let mut delta = Delta::default();
    let bytes: Vec<u8> = (0..changed).map(|n| u8::try_from(n % 7).unwrap()).collect();
    delta.push(64, &bytes);
    delta.push(100_000, b"tail");
    let keyed =
        keyed.then(|| Keyed { key: "key", request: blake3::hash(b"request"), reply: b"\x2a" });
    let draft = Draft { head: head(5), keyed, controls: &[b"state", b""], delta: &delta };
    let mut out = Vec::new();
    let hash = Encoder::new().encode(&draft, &mut out).unwrap();
    assert_eq!(Frame::of(&out).unwrap().hash, hash);
    out
}

#[test]
fn what_is_written_is_read() {
    for (changed, keyed) in [(0, false), (10, true), (5000, true), (200_000 - 100_064, false)] {
        let bytes = encoded(changed.min(99_000), keyed);
        let mut scratch = Vec::new();
        let record = Record::decode(&bytes, &mut scratch).unwrap();
        assert_eq!(record.head, head(5));
        assert_eq!(record.keyed.map(|keyed| keyed.key), keyed.then_some("key"));
        assert_eq!(record.keyed.map(|keyed| keyed.reply), keyed.then_some(&b"\x2a"[..]));
        assert_eq!(record.controls().collect::<Vec<_>>(), [&b"state"[..], b""]);
        assert_eq!(record.ranges().last(), Some((100_000, &b"tail"[..])));
        assert_eq!(record.changed_bytes(), changed.min(99_000) + 4);
    }
    assert!(encoded(50_000, false).len() < 5000, "compressed");
}

#[test]
fn every_flipped_bit_and_every_truncation_is_found() {
    for bytes in [encoded(10, true), encoded(600, false)] {
        let mut scratch = Vec::new();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut rotten = bytes.clone();
                rotten[at] ^= 1 << bit;
                let error = Record::decode(&rotten, &mut scratch).unwrap_err();
                assert!(error.offset <= rotten.len(), "{error}");
            }
            assert!(Record::decode(&bytes[..at], &mut scratch).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(Record::decode(&longer, &mut scratch).is_err());
    }
}

/// With a valid checksum over nonsense the decoder has to rely on its own bounds.
#[test]
fn forged_records_never_panic_and_never_allocate_by_announced_lengths() {
    let bytes = encoded(600, true);
    let mut scratch = Vec::new();
    let mut refused = 0;
    for at in 0..bytes.len() - HASH_BYTES {
        for value in [0, 1, 0x7f, 0xff] {
            let mut forged = bytes.clone();
            forged[at] = value;
            let body = forged.len() - HASH_BYTES;
            let hash = blake3::hash(&forged[..body]);
            forged[body..].copy_from_slice(hash.as_bytes());
            match Record::decode(&forged, &mut scratch) {
                Ok(record) => {
                    let total: usize = record.ranges().map(|(_, bytes)| bytes.len()).sum();
                    assert_eq!(total, record.changed_bytes());
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100);
    assert!(scratch.capacity() <= 2 * LZ4_RATIO_MAX * bytes.len());
}

#[test]
fn a_commit_that_is_too_large_is_refused_before_anything_is_written() {
    let controls = vec![&b""[..]; CONTROLS_MAX + 1];
    let delta = Delta::default();
    let draft = Draft { head: head(1), keyed: None, controls: &controls, delta: &delta };
    let mut out = vec![1];
    let error = Encoder::new().encode(&draft, &mut out).unwrap_err();
    assert_eq!(error, EncodeError::Controls { count: CONTROLS_MAX + 1 });
    assert_eq!(out, [1]);
}

#[test]
fn buffers_are_used_again() {
    let mut delta = Delta::default();
    let bytes: Vec<u8> = (0..9000).map(|n| u8::try_from(n % 251).unwrap()).collect();
    delta.push(0, &bytes);
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    let draft = Draft { head: head(1), keyed: None, controls: &[], delta: &delta };
    encoder.encode(&draft, &mut out).unwrap();
    let capacities = (encoder.payload.capacity(), encoder.packed.capacity(), out.capacity());
    let first = out.clone();
    out.clear();
    encoder.encode(&draft, &mut out).unwrap();
    assert_eq!(out, first);
    let after = (encoder.payload.capacity(), encoder.packed.capacity(), out.capacity());
    assert_eq!(after, capacities);
}

/// Changes only together with the format version. Small enough not to be compressed, because a
/// compressor may choose other bytes for the same content.
#[test]
fn the_bytes_of_a_record_stay_what_they_are() {
    let bytes = encoded(10, true);
    assert_eq!(bytes.len(), 295);
    let expected = "f1c26c5b3993afc798354dc6216ee1ae4aca25baea63e28550246d9abd1c9cdd";
    assert_eq!(blake3::hash(&bytes).to_hex().as_str(), expected);
}
