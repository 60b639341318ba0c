use std::sync::atomic::AtomicBool;

use super::*;

/// Clients that come at once, more than there are places.
const BURST: usize = 200;

#[test]
fn others_have_a_turn_between_two_clients_of_a_burst() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(&path).unwrap();
        let burst: Vec<_> =
            (0..BURST).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        let (came, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (came.clone(), done.clone());
        let others = tokio::spawn(async move {
            let (mut before, mut most) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let now = seen.load(Ordering::Relaxed);
                most = most.max(now - before);
                before = now;
                tokio::task::yield_now().await;
            }
            most
        });
        let clients = Clients::new(BURST / 2);
        for _ in 0..BURST {
            let (stream, seat) = next_client(&listener, &clients).await.unwrap().unwrap();
            came.fetch_add(1, Ordering::Relaxed);
            // It says nothing, and goes when its place is wanted.
            tokio::spawn(seat.serve(async move {
                stream.readable().await.unwrap();
            }));
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(others.await.unwrap(), 1);
        drop(burst);
    });
}
