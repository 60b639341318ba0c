//! Opens streams to servers. The kernel is told to give up on a peer that has gone without a word;
//! a peer that is there and says nothing only a check finds out.

use std::io;
use std::path::Path;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::base::limits::PEER_SILENT_MAX;

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to a host by name or address; all its addresses are tried.
///
/// # Errors
///
/// As the system says, with the host and the port.
///
/// # Cancel safety
///
/// Dropping it leaves nothing open.
pub async fn dial(host: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let stream = tcp(host, port).await.map_err(|error| format!("{host}:{port}: {error}"))?;
    Ok(Box::new(stream))
}

/// Connects to a socket of the system.
///
/// # Errors
///
/// As the system says, with the path.
///
/// # Cancel safety
///
/// Dropping it leaves nothing open.
pub async fn dial_unix(path: &Path) -> Result<Box<dyn Stream>, String> {
    let stream = UnixStream::connect(path).await;
    Ok(Box::new(stream.map_err(|error| format!("{}: {error}", path.display()))?))
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Calls are small, and each waits for its answer.
    stream.set_nodelay(true)?;
    // For a connection on which nothing is said ..
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, PEER_SILENT_MAX)?;
    sockopt::set_tcp_keepintvl(&stream, PEER_SILENT_MAX)?;
    // .. and for bytes of ours that nobody confirms; it bounds the probes of the first too.
    let silent = u32::try_from(PEER_SILENT_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(&stream, silent)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn the_kernel_gives_up_on_a_peer_that_is_gone() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let stream = tcp("localhost", listener.local_addr().unwrap().port()).await.unwrap();
            assert!(stream.nodelay().unwrap());
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), PEER_SILENT_MAX);
            assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), PEER_SILENT_MAX);
            assert_eq!(sockopt::tcp_user_timeout(&stream).unwrap(), 5_000);
        });
    }

    #[test]
    fn bytes_go_both_ways_on_both_kinds_of_streams() {
        async fn echo(mut peer: impl Stream, mut stream: Box<dyn Stream>) {
            stream.write_all(b"x").await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'x');
            peer.write_all(b"y").await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'y');
        }
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stream = dial("127.0.0.1", port).await.unwrap();
            echo(listener.accept().await.unwrap().0, stream).await;

            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("s");
            let listener = UnixListener::bind(&path).unwrap();
            let stream = dial_unix(&path).await.unwrap();
            echo(listener.accept().await.unwrap().0, stream).await;
        });
    }

    #[test]
    fn who_is_not_there_is_named() {
        run(async {
            // Nobody may listen at port 1.
            let error = dial("127.0.0.1", 1).await.err().unwrap();
            assert!(error.starts_with("127.0.0.1:1: Connection refused"), "{error}");
            let error = dial_unix(Path::new("/nowhere/s")).await.err().unwrap();
            assert!(error.starts_with("/nowhere/s: No such file"), "{error}");
        });
    }
}
