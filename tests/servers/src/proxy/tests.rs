use std::sync::mpsc::{Receiver, channel};

use super::*;

/// A server that sends back what it gets, and tells how each of its connections ended.
fn echo() -> (SocketAddr, Receiver<Option<ErrorKind>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, ends) = channel();
    spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            spawn(move || {
                let end = loop {
                    let mut piece = [0; 1024];
                    match stream.read(&mut piece) {
                        Ok(0) => break None,
                        Ok(length) => stream.write_all(&piece[..length]).unwrap(),
                        Err(error) => break Some(error.kind()),
                    }
                };
                sender.send(end)
            });
        }
    });
    (addr, ends)
}

fn client(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.addr()).unwrap();
    stream.set_read_timeout(Some(END_MAX)).unwrap();
    stream
}

/// Sends four bytes, and reads as many.
fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
    let mut answer = [0; 4];
    stream.write_all(b"ping")?;
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The end is seen at once: no bytes, or this error.
fn end(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0; 16]).map_err(|error| error.kind())
}

#[test]
fn it_passes_on_both_ways_and_ends_with_its_sides() {
    let (target, ends) = echo();
    let proxy = Proxy::start(target);
    let (mut first, mut second) = (client(&proxy), client(&proxy));
    assert_eq!(ask(&mut first).unwrap(), *b"ping");
    assert_eq!(ask(&mut second).unwrap(), *b"ping");
    assert_eq!(proxy.connections(), 2);
    drop(first);
    assert_eq!(ends.recv_timeout(END_MAX).unwrap(), None);
    drop(proxy);
    assert_eq!(end(&mut second), Ok(0));
    assert_eq!(ends.recv_timeout(END_MAX).unwrap(), None);
}

#[test]
fn it_leads_new_connections_elsewhere_and_holds_what_they_send() {
    let (first, firsts) = echo();
    let (second, seconds) = echo();
    let proxy = Proxy::start(first);
    let mut old = client(&proxy);
    assert_eq!(ask(&mut old).unwrap(), *b"ping");
    proxy.lead_to(second);
    proxy.set(Fault::HoldNew);
    let mut new = client(&proxy);
    new.write_all(b"held").unwrap();
    new.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(end(&mut new).is_err());
    assert_eq!(ask(&mut old).unwrap(), *b"ping");
    proxy.set(Fault::Pass);
    new.set_read_timeout(Some(END_MAX)).unwrap();
    let mut answer = [0; 4];
    new.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"held");
    drop(old);
    assert_eq!(firsts.recv_timeout(END_MAX).unwrap(), None);
    drop(new);
    assert_eq!(seconds.recv_timeout(END_MAX).unwrap(), None);
}

#[test]
fn it_refuses_new_connections_and_takes_them_again() {
    let proxy = Proxy::start(echo().0);
    let mut open = client(&proxy);
    assert_eq!(ask(&mut open).unwrap(), *b"ping");
    proxy.set(Fault::Refuse);
    let refused = TcpStream::connect(proxy.addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(ask(&mut open).unwrap(), *b"ping");
    proxy.set(Fault::Pass);
    assert_eq!(ask(&mut client(&proxy)).unwrap(), *b"ping");
}

#[test]
fn it_keeps_what_it_stalls() {
    let proxy = Proxy::start(echo().0);
    for (to_server, to_client) in [(true, false), (false, true)] {
        let mut stream = client(&proxy);
        assert_eq!(ask(&mut stream).unwrap(), *b"ping");
        proxy.set(Fault::Stall { to_server, to_client });
        stream.write_all(b"held").unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(end(&mut stream).is_err());
        proxy.set(Fault::Pass);
        stream.set_read_timeout(Some(END_MAX)).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(answer, *b"held");
    }
}

#[test]
fn it_delays_answers() {
    let proxy = Proxy::start(echo().0);
    let mut stream = client(&proxy);
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let start = Instant::now();
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[test]
fn it_resets_and_closes() {
    let proxy = Proxy::start(echo().0);
    let mut stream = client(&proxy);
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    proxy.set(Fault::Reset);
    assert_eq!(proxy.connections(), 0);
    assert_eq!(end(&mut stream), Err(ErrorKind::ConnectionReset));
    assert_eq!(end(&mut client(&proxy)), Err(ErrorKind::ConnectionReset));
    proxy.set(Fault::Pass);
    let mut stream = client(&proxy);
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    proxy.set(Fault::Close);
    assert_eq!(end(&mut stream), Ok(0));
    assert_eq!(end(&mut client(&proxy)), Ok(0));
}

#[test]
fn it_cuts_floods_and_garbles_answers() {
    let proxy = Proxy::start(echo().0);
    let mut stream = client(&proxy);
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    proxy.set(Fault::CutAfter(6));
    assert_eq!(ask(&mut stream).unwrap(), *b"ping");
    assert_eq!(ask(&mut stream).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    proxy.set(Fault::Flood { head: b"$200000\r\n".to_vec(), bytes: 200_000 });
    let mut stream = client(&proxy);
    stream.write_all(b"ping").unwrap();
    let mut answer = vec![0; 200_009];
    stream.read_exact(&mut answer).unwrap();
    assert!(answer.starts_with(b"$200000\r\nxxx") && answer.ends_with(b"xxx"));
    proxy.set(Fault::Garbage);
    let garbage = ask(&mut client(&proxy)).unwrap();
    assert_eq!(garbage, b"ping".map(|byte| byte ^ 0xa5));
}

#[test]
fn a_server_that_is_not_there_is_a_reset() {
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let proxy = Proxy::start(addr);
    let mut stream = client(&proxy);
    assert_eq!(end(&mut stream), Err(ErrorKind::ConnectionReset));
    assert_eq!(proxy.connections(), 0);
}
