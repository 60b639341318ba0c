//! Requests and answers as large as they can be: whoever sends them pays for them, and the host is
//! there for everybody else meanwhile.

use std::process::Command;

use serde_json::json;

use super::hostile::{Hostile, RUN};
use super::rig::{HOST, Host, guest, post};

const MIB: u64 = 1 << 20;

/// A host with a guest of that kind, called `large`, and with `counter`.
fn host(large: &Hostile, options: &[&str]) -> Host {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("large.wasm"), large.build()).unwrap();
    let mut command = Command::new(HOST);
    command.args(["run", "large.wasm", "--budget", "large=48MiB", "--deadline", "large=10m"]);
    command.arg(guest("counter"));
    Host::spawn(dir, command, options)
}

/// Does something while `counter` is called again and again, and is answered meanwhile; answers how
/// often.
fn beside<T: Send>(host: &Host, work: impl FnOnce() -> T + Send) -> (T, u32) {
    std::thread::scope(|scope| {
        let working = scope.spawn(work);
        let mut client = host.connect();
        let mut answered = 0;
        loop {
            assert_eq!(client.post("/counter/increment", &[], "{\"by\":1}").status, 200);
            if working.is_finished() {
                return (working.join().unwrap(), answered);
            }
            answered += 1;
        }
    })
}

/// As wide a union as a schema has room for, and as many values that meet all of it as a body has.
#[test]
fn a_million_bytes_for_the_widest_schema_keep_nobody_waiting() {
    let nulls = vec![r#"{"type":"null"}"#; 3900].join(",");
    let argument = format!(r#"{{"anyOf":[{nulls},{{}}]}}"#);
    let memory = "(memory (export \"memory\") 16)".to_owned();
    let host = host(&Hostile { memory, argument, ..Hostile::default() }, &[]);
    let args = format!("{{\"x\":[{}]}}", vec!["1"; 500_000].join(","));
    let request =
        format!("{{\"call\":{{\"daemon\":\"large\",\"contract\":\"run\",\"args\":{args}}}}}");
    let (line, answered) = beside(&host, || host.said(&request));
    assert!(line.contains("\"committed\"") && line.contains("\"value\":1}"), "{line}");
    assert!(answered > 0);
    let (answer, answered) = beside(&host, || host.connect().post("/large/run", &[], &args));
    assert_eq!((answer.status, &answer.body["value"]), (200, &json!(2)), "{answer:?}");
    assert!(answered > 0);
    assert_eq!(host.get("/health").body["state"], "ok");
}

#[test]
fn a_guest_with_too_many_arguments_is_refused_and_the_host_stays() {
    let host = host(&Hostile::default(), &[]);
    let path = host.path("many.wasm");
    std::fs::write(&path, Hostile::arguments(200_000).build()).unwrap();
    for words in [&["inspect", "many.wasm"][..], &["upgrade", "large", "many.wasm"]] {
        let (output, _answered) = beside(&host, || host.host(words));
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}");
        assert!(words.contains("200000 arguments; 64 is the most"), "{words}");
    }
    assert_eq!(host.call("/large/run", &json!({})).body["value"], 1);
}

/// 3,600,000 maps in 36 MB of text.
#[test]
fn an_answer_of_36_mb_is_delivered_in_bounded_memory_while_others_are_served() {
    const COUNT: u32 = 3_600_000;
    let bytes = COUNT as usize * "{\"\":null},".len() + 1;
    let host = host(&Hostile::maps(COUNT), &["--memory", "600MiB", "--memory-only"]);
    let before = host.peak_bytes();
    let request = json!({ "call": { "daemon": "large", "contract": RUN } }).to_string();
    let (line, answered) = beside(&host, || host.said(&request));
    assert!(line.len() > bytes && line.ends_with("{\"\":null}]}\n"), "{} bytes", line.len());
    assert!(answered > 0);
    let (answer, answered) = beside(&host, || host.connect().post("/large/run", &[], ""));
    assert_eq!((answer.status, answer.text.len()), (200, line.len()));
    assert!(answered > 0);
    // Two images, the answer in both of its forms, and what growing one takes.
    let grown = host.peak_bytes() - before;
    assert!(grown < 180 * MIB, "{} MiB", grown / MIB);
    // Those who ask and don't read have so much room, and others are refused when it is taken.
    let mut silent = host.connect();
    silent.send(post("/large/run", &[], ""));
    assert_eq!(silent.status(), 200);
    assert_eq!(host.connect().post("/large/run", &[], "").status, 429);
    let refused = host.said(&request);
    assert!(refused.contains("E_QUEUE_FULL"), "{}", &refused[..200.min(refused.len())]);
    drop(silent);
    assert_eq!(host.get("/health").body["state"], "ok");
}
