//! Values that JSON can hardly say, and fields that nobody has, over the command line, the socket
//! and HTTP: each way answers the same.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::rig::{HOST, Host};

fn host() -> Host {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/guests/values.wasm");
    assert!(guest.is_file(), "run `cargo xtask guests` first: {}", guest.display());
    let mut command = Command::new(HOST);
    command.arg("run").arg(guest);
    Host::spawn(tempfile::tempdir().unwrap(), command, &[])
}

/// The value as it came, or the message of a refusal.
fn of_line(line: &str) -> Result<String, String> {
    let read: Value = serde_json::from_str(line).unwrap();
    if let Some(message) = read["error"]["message"].as_str() {
        assert_eq!(read["error"]["code"], "E_ARGS", "{line}");
        return Err(message.to_owned());
    }
    let (_, value) = line.split_once("\"value\":").unwrap();
    Ok(value.trim_end().strip_suffix('}').unwrap().to_owned())
}

fn by_command(host: &Host, contract: &str, typed: &[String]) -> Result<String, String> {
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    let output = host.host(&[&["call", "values", contract][..], &typed].concat());
    let (out, err) = (String::from_utf8(output.stdout), String::from_utf8(output.stderr));
    match output.status.code() {
        Some(0) => Ok(out.unwrap().trim_end().to_owned()),
        code => {
            let text = err.unwrap();
            assert_eq!(code, Some(1), "{text}");
            let message = text.lines().next().unwrap().strip_prefix("error[E_ARGS]: ");
            Err(message.unwrap_or_else(|| panic!("{text}")).to_owned())
        }
    }
}

/// What is answered by each of the ways, which is the same.
fn call(host: &Host, contract: &str, args: &[(&str, &str)]) -> Result<String, String> {
    let fields = args.iter().map(|(name, value)| format!("\"{name}\":{value}"));
    let object = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
    let head = format!("\"daemon\":\"values\",\"contract\":\"{contract}\"");
    let by_socket = of_line(&host.said(&format!("{{\"call\":{{{head},\"args\":{object}}}}}")));
    let posted = host.connect().post(&format!("/values/{contract}"), &[], &object);
    assert_eq!(posted.status, if by_socket.is_ok() { 200 } else { 400 });
    assert_eq!(of_line(&posted.text), by_socket);
    assert_eq!(by_command(host, contract, &[object]), by_socket);
    // As a person types them.
    let typed: Vec<String> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(by_command(host, contract, &typed), by_socket);
    by_socket
}

#[test]
fn values_that_json_can_hardly_say_come_back_as_they_were() {
    let host = host();
    let most = "340282366920938463463374607431768211455";
    let least = "-170141183460469231731687303715884105728";
    let numbers = r#"{"0":"zero","18446744073709551615":"most"}"#;
    let (wide, truths) = (format!(r#"{{"{least}":0,"7":1}}"#), r#"{"false":0,"true":1}"#);
    let keys = [("numbers", numbers), ("wide", &wide), ("truths", truths)];
    let floats = [("doubles", r#"["nan","inf","-inf",1e300,0.1]"#), ("singles", r#"["nan",0.1]"#)];
    let quoted = (format!("\"{least}\""), format!("\"{most}\""));
    let custom = format!(r#"{{"Custom":{{"wide":{most},"name":"x"}}}}"#);
    let lines = [
        r#"{"amount":1,"note":null,"kind":"Red","shape":null}"#,
        r#"{"amount":255,"note":"n","kind":{"Pair":[-1,true]},"shape":null}"#,
        r#"{"amount":7,"note":"","kind":"Red","shape":{"type":"Circle","radius":0.5}}"#,
        &format!(r#"{{"amount":0,"note":null,"kind":{custom},"shape":null}}"#),
    ];
    let lines = format!("[{}]", lines.join(","));
    for (contract, args, answer) in [
        ("keys", &keys[..], format!("[{numbers},{wide},{truths}]")),
        ("wide", &[("low", least), ("high", most)], format!("[{least},{most}]")),
        ("wide", &[("low", &quoted.0), ("high", &quoted.1)], format!("[{least},{most}]")),
        ("twice", &[("wide", "18446744073709551615")], "36893488147419103230".to_owned()),
        ("twice", &[("wide", most)], "null".to_owned()),
        ("floats", &floats, format!("[{},{}]", floats[0].1, floats[1].1)),
        ("mirrored", &[("float", "\"inf\"")], r#"["inf","-inf"]"#.to_owned()),
        ("mirrored", &[("float", "\"nan\"")], r#"["nan","nan"]"#.to_owned()),
        ("mirrored", &[("float", "-0.0")], "[-0.0,0.0]".to_owned()),
        ("lines", &[("lines", &lines)], lines.clone()),
    ] {
        assert_eq!(call(&host, contract, args), Ok(answer), "{contract} {args:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place_and_what_may_stand_there() {
    let host = host();
    let refused = |contract: &str, args: &[(&str, &str)], expected: &str| {
        let message = call(&host, contract, args).unwrap_err();
        assert!(message.starts_with(&format!("`{contract}`: ")), "{message}");
        assert!(message.contains(expected), "{args:?}: {message}");
    };
    let known = "; there is amount, count, kind, note, quantity, shape";
    for (line, expected) in [
        (r#""amount":1,"kind":"Blue""#, "at `[1].kind`: expected one of \"Crimson\", \"Red\""),
        (r#""amount":1,"kind":{"Shade":256}"#, "at `[1].kind.Shade`: 256 is above the maximum 255"),
        (
            r#""amount":1,"kind":"Red","not":"x""#,
            &format!("at `[1]`: `not` is not expected{known}"),
        ),
        (
            r#""amount":1,"kind":{"Custom":{"wide":1,"name":"","nam":""}}"#,
            "at `[1].kind.Custom`: `nam` is not expected",
        ),
        (
            r#""amount":1,"kind":"Red","shape":{"type":"Circle","radius":1,"r":2}"#,
            "at `[1].shape`: `r` is not expected",
        ),
    ] {
        let lines = format!(r#"[{{"amount":1,"kind":"Red"}},{{{line}}}]"#);
        refused("lines", &[("lines", &lines)], expected);
    }
    // Under which of its names a field is missing is for the guest to say.
    let without = call(&host, "lines", &[("lines", r#"[{"kind":"Red"}]"#)]);
    let expected = "`lines`: argument `lines`: at `[0]`: missing field `amount`";
    assert_eq!(without.unwrap_err(), expected);
    let (most, more) = (u128::MAX, format!("{}0", u128::MAX));
    refused("twice", &[("wide", &more)], &format!("is above the maximum {most}"));
    refused("twice", &[("wide", "-1")], "-1 is below the minimum 0");
    for key in ["x", "-1"] {
        let numbers = format!(r#"{{"{key}":"a"}}"#);
        let args = [("numbers", numbers.as_str()), ("wide", "{}"), ("truths", "{}")];
        refused("keys", &args, &format!("`{key}` is not expected"));
    }
}

/// The schema says no more of them than that they are text: it is the guest that reads them.
#[test]
fn what_a_type_of_another_crate_does_not_take_is_refused_in_the_same_words() {
    let host = host();
    let good = [
        ("at", "2026-11-30T21:13:39.250Z"),
        ("day", "2026-11-30"),
        ("id", "67e55044-10b1-426f-9247-bb680e5fe0c8"),
        ("price", "19.90"),
        ("page", "https://example.com/a?b=c"),
        ("address", "2001:db8::1"),
        ("peer", "127.0.0.1:6379"),
    ];
    for (place, (name, _)) in good.iter().enumerate() {
        let texts = good.iter().enumerate().map(|(other, (name, text))| match place == other {
            true => format!("\"{name}\":\"13/2026\""),
            false => format!("\"{name}\":\"{text}\""),
        });
        let texts = texts.collect::<Vec<_>>().join(",");
        let all =
            format!("[{{{texts},\"lasts\":{{\"secs\":1,\"nanos\":0}},\"blob\":[],\"raw\":[]}}]");
        let message = call(&host, "echo", &[("all", &all)]).unwrap_err();
        let start = format!("`echo`: argument `all`: at `[0].{name}`: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("\"13/2026\""), "{message}");
    }
}

#[test]
fn a_decimal_is_kept_as_it_was_written_or_refused() {
    let host = host();
    let rates =
        |rate: &str, others: &str| call(&host, "rates", &[("rate", rate), ("others", others)]);
    let exact = r#"["12345678901234567.89","-0.50"]"#;
    let answer = r#"["7","12345678901234567.89","-0.50"]"#;
    assert_eq!(rates("7", exact), Ok(answer.to_owned()));
    assert_eq!(rates("7", "[-7]"), Ok(r#"["7","-7"]"#.to_owned()));
    let message = rates("7", r#"["1",12345678901234567.89]"#).unwrap_err();
    let hint = "write it as text, \"12345678901234567.89\": a JSON number is a float";
    assert!(message.starts_with("`rates`: argument `others`: at `[1]`: expected a "), "{message}");
    assert!(message.ends_with(hint), "{message}");
    let object = r#"{"rate":1.10}"#.to_owned();
    let message = by_command(&host, "rates", &[object]).unwrap_err();
    assert!(message.contains("found 1.10; write it as text, \"1.10\""), "{message}");
    // What is typed is text already.
    for typed in ["1.10", "5.0", "12345678901234567.89"] {
        let answer = Ok(format!("[\"{typed}\"]"));
        assert_eq!(by_command(&host, "rates", &[format!("rate={typed}")]), answer);
    }
}

#[test]
fn fields_and_variants_are_known_by_their_other_names_too() {
    let host = host();
    let answer = |lines: &str| call(&host, "lines", &[("lines", lines)]);
    let line = |amount: &str, note: &str, [custom, name]: [&str; 2], shape: &str| {
        let kind = format!(r#"{{"{custom}":{{"wide":1,"{name}":"n"}}}}"#);
        format!(r#"[{{"{amount}":7,{note}"kind":{kind},"shape":{{"type":{shape}}}}}]"#)
    };
    let own = line("amount", r#""note":null,"#, ["Custom", "name"], r#""Square","side":2.0"#);
    for (amount, custom, shape) in [
        ("amount", ["Custom", "name"], r#""Square","side":2"#),
        ("quantity", ["Custom", "label"], r#""Square","edge":2"#),
        ("count", ["Own", "name"], r#""Quad","side":2"#),
        ("amount", ["Own", "label"], r#""Quad","edge":2"#),
    ] {
        assert_eq!(answer(&line(amount, "", custom, shape)), Ok(own.clone()));
    }
    let red = r#"[{"amount":1,"note":null,"kind":"Red","shape":null}]"#;
    assert_eq!(answer(r#"[{"amount":1,"kind":"Crimson"}]"#), Ok(red.to_owned()));
    let twice = r#"[{"amount":1,"count":2,"kind":"Red"}]"#;
    let message = answer(twice).unwrap_err();
    assert!(message.contains("duplicate field `amount`"), "{message}");
}

/// Each write wakes the client: a system call and a switch of threads too many.
#[test]
fn a_small_answer_is_one_write() {
    let host = host();
    let mut stream = UnixStream::connect(host.path("run/host.sock")).unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..200 {
        let args = "{\"wide\":21}";
        let call = format!("\"daemon\":\"values\",\"contract\":\"twice\",\"args\":{args}");
        stream.write_all(format!("{{\"call\":{{{call}}}}}\n").as_bytes()).unwrap();
        let read = stream.read(&mut buffer).unwrap();
        assert!(buffer[..read].ends_with(b"42}\n"), "{:?}", &buffer[..read]);
    }
}
