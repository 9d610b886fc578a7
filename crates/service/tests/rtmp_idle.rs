//! What idle RTMP connections cost. In a process of its own, as it measures that process.

use service::inputs::rtmp::{Config, Counters, Server};
use service::metrics::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// Resident bytes of this process, whose pages have 4 KiB.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test(start_paused = true)]
async fn idle_connections_cost_little_memory() {
    let config = Config { max_waiting_per_address: 2000, ..Config::default() };
    let server = Server::new(config, Counters::register(&Registry::default()));
    let before = resident();
    let mut idle = Vec::new();
    for _ in 0..2000 {
        let (mut encoder, theirs) = duplex(4096);
        let served = tokio::spawn(server.serve(theirs, "192.0.2.7:5000".parse().unwrap()));
        // Greeted, and silent from then on.
        let mut hello = vec![0; 1 + 1536];
        hello[0] = 3;
        encoder.write_all(&hello).await.unwrap();
        encoder.read_exact(&mut vec![0; 1 + 2 * 1536]).await.unwrap();
        encoder.write_all(&hello[1..]).await.unwrap();
        idle.push((encoder, served));
    }
    let cost = resident() - before;
    assert!(idle.iter().all(|(_, served)| !served.is_finished()));
    assert!(cost < 40 << 20, "{} bytes each, the encoder's end included", cost / 2000);
}
