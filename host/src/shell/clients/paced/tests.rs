use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const SHORT: Duration = Duration::from_millis(20);
const NEVER: Duration = Duration::from_secs(3600);

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

impl Wire for DuplexStream {}

/// The client's end, a connection with room for eight bytes each way, and what it is doing.
fn connection(times: Times) -> (DuplexStream, Paced<DuplexStream>, Arc<Stage>) {
    let (client, stream) = duplex(8);
    let stage = Stage::new(times);
    (client, Paced::new(stream, stage.clone()), stage)
}

async fn is_late(paced: &mut Paced<DuplexStream>) {
    let mut rest = Vec::new();
    let late = paced.read_to_end(&mut rest).await.unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
}

#[test]
fn a_head_that_never_ends_is_late_whatever_comes_of_it() {
    block_on(async {
        let times = Times { head: SHORT, answer: NEVER, idle: NEVER };
        let (_silent, mut paced, _) = connection(times);
        is_late(&mut paced).await;
        let (mut slow, mut paced, _) = connection(times);
        let sends = async {
            while slow.write_all(b"x").await.is_ok() {
                tokio::time::sleep(SHORT / 8).await;
            }
        };
        tokio::select! {
            () = is_late(&mut paced) => {}
            () = sends => panic!("it was let go of early"),
        }
    });
}

#[test]
fn an_idle_connection_is_late_in_another_time_than_a_head() {
    block_on(async {
        let attending = Arc::new(AtomicUsize::new(0));
        let times = Times { head: NEVER, answer: NEVER, idle: SHORT };
        let (mut client, mut paced, stage) = connection(times);
        stage.begin(Attending::one(&attending));
        paced.write_all(b"head").await.unwrap();
        paced.flush().await.unwrap();
        assert_eq!(attending.load(Ordering::Relaxed), 1, "its answer is not all there");
        drop(Handing(stage.clone()));
        assert_eq!(attending.load(Ordering::Relaxed), 1, "its answer has not left");
        paced.flush().await.unwrap();
        assert_eq!(attending.load(Ordering::Relaxed), 0);
        is_late(&mut paced).await;
        // The first byte of the next request has it wait for a head, for ever here.
        stage.begin(Attending::one(&attending));
        drop(Handing(stage.clone()));
        client.write_all(b"x").await.unwrap();
        let mut byte = [0];
        paced.flush().await.unwrap();
        paced.read_exact(&mut byte).await.unwrap();
        assert_eq!(stage.deadline(), stage.state().since.checked_add(NEVER));
    });
}

#[test]
fn an_answer_that_nobody_reads_is_late_and_one_in_the_making_is_not() {
    block_on(async {
        let attending = Arc::new(AtomicUsize::new(0));
        let times = Times { head: SHORT, answer: SHORT, idle: SHORT };
        let (_client, mut paced, stage) = connection(times);
        stage.begin(Attending::one(&attending));
        tokio::select! {
            () = is_late(&mut paced) => panic!("the daemon's time is not the client's"),
            () = tokio::time::sleep(4 * SHORT) => {}
        }
        drop(Handing(stage.clone()));
        let late = paced.write_all(b"more than there is room for").await.unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        // Whoever stops the host need not wait for it any longer.
        drop((paced, stage));
        assert_eq!(attending.load(Ordering::Relaxed), 0);
    });
}
