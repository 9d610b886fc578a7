//! Capacity on virtual time.

use super::*;

use InputKind::{Rtmp, Url, Whip};

use crate::control::embedded;
use model::{EncodedVideo, Layer, VideoEncoding};
use proptest::prelude::*;
use session::PictureCount;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the Go ingress documents.
const COSTS: CpuCost = CpuCost {
    rtmp: Some(2.0),
    whip: Some(2.0),
    whip_bypass_transcoding: Some(0.1),
    url: Some(2.0),
    min_idle_ratio: 0.3,
};

/// With configured costs.
fn machine(cores: f64) -> Capacity {
    Capacity::new(cores, COSTS)
}

/// Where costs are measured.
fn learning(cores: f64) -> Capacity {
    Capacity::new(cores, CpuCost::default())
}

fn spec(input: InputKind, transcode: bool) -> IngressSpec {
    IngressSpec { transcode, ..embedded::ingress(input, "k").spec }
}

/// Another session each time.
fn admit(cap: &Capacity, input: InputKind, transcode: bool) -> Result<Permit, Fault> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let id = ResourceId(format!("RT_{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    cap.try_admit(&id, &spec(input, transcode))
}

/// A session of 720p25 in three layers, 30.2 million pixels a second, and its worker.
struct Running {
    permit: Permit,
    pictures: PictureCount,
    cpu: f64,
}

impl Running {
    fn admit(cap: &Capacity) -> Self {
        let running = Self { permit: admit(cap, Rtmp, true).unwrap(), pictures: PictureCount::default(), cpu: 0.0 };
        running.watched([true; 3]);
        running
    }

    fn watched(&self, wanted: [bool; 3]) {
        let layers: Vec<Layer> = VideoEncoding::default_layers();
        let pictures = self.pictures.clone();
        let work = Work { layers, wanted: wanted.to_vec(), frame_rate: Some(25.0), pictures, ..work() };
        self.permit.capacity.works(&self.permit.resource, work);
    }

    /// It takes so many cores for some seconds.
    async fn uses(&mut self, cores: f64, seconds: u32) {
        self.sends(25, cores, seconds).await;
    }

    /// The same with so many pictures a second.
    async fn sends(&mut self, pictures: u32, cores: f64, seconds: u32) {
        for _ in 0..seconds {
            pass(1000).await;
            (0..pictures).for_each(|_| self.pictures.add());
            self.cpu += cores;
            let usage = ProcessUsage { cpu: self.cpu, memory: 30 << 20 };
            self.permit.capacity.measure(|pid| (pid == 7).then_some(usage));
        }
    }
}

/// Of worker 7.
fn work() -> Work {
    Work { worker: Some(7), size: Some((1280, 720)), ..Work::default() }
}

fn committed(cap: &Capacity) -> f64 {
    (cap.cores().committed * 100.0).round() / 100.0
}

async fn pass(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_admits_until_it_is_full() {
    let cap = machine(8.0);
    assert!(cap.can_accept_every_kind());
    // Free are 8 − 0.15·8 = 6.8 CPUs: three times 2.0, the fourth does not fit.
    let permits: Vec<_> = (0..3).map(|_| admit(&cap, Rtmp, true).unwrap()).collect();
    let fault = admit(&cap, Rtmp, true).unwrap_err();
    assert_eq!(
        fault.text,
        "this machine is full: an RTMP session needs 2.00 cores (cpu_cost.rtmp_cpu_cost), and 0.80 of 8.0 are free besides the \
         1.20 that stay idle (cpu_cost.min_idle_ratio); the sessions here may need 1.62"
    );
    assert_eq!((fault.blame, fault.retry), (Blame::Capacity, true));
    // A passthrough session still fits.
    let passed_on = admit(&cap, Whip, false).unwrap();
    drop((permits, passed_on));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_counts_until_it_shows_in_the_load() {
    let cap = machine(4.0);
    let _first = admit(&cap, Rtmp, true).unwrap();
    pass(999).await;
    assert!(admit(&cap, Rtmp, true).is_err());
    pass(1).await;
    // It turned out to take 0.5 CPUs.
    cap.set_idle(3.5);
    let _second = admit(&cap, Rtmp, true).unwrap();
    pass(1000).await;
    cap.set_idle(2.5);
    let fault = admit(&cap, Rtmp, true).unwrap_err();
    assert!(fault.text.contains("1.90 of 4.0 are free"), "{}", fault.text);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_cost_is_not_enough() {
    let costs = CpuCost { rtmp: Some(1.0), min_idle_ratio: 0.5, ..COSTS };
    let cap = Capacity::new(4.0, costs);
    let _url = admit(&cap, Whip, false).unwrap();
    pass(1000).await;
    // The reserve is a quarter of 4, so 1.0 is free.
    cap.set_idle(2.0);
    assert!(admit(&cap, Rtmp, true).is_err());
    cap.set_idle(2.001);
    assert!(admit(&cap, Rtmp, true).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_small_machine_takes_a_first_session_but_no_second() {
    for capacity in [0.5, 1.0, 2.0] {
        let cap = machine(capacity);
        assert!(cap.can_accept_every_kind());
        assert_eq!(cap.affinity(Url, None), 0.5);
        let first = admit(&cap, Rtmp, true).unwrap();
        pass(2000).await;
        assert!(!cap.can_accept_every_kind());
        assert_eq!(cap.affinity(Url, None), -1.0);
        assert!(admit(&cap, Rtmp, true).is_err());
        drop(first);
        assert!(cap.can_accept_every_kind());
        // Something else keeps the machine busy.
        cap.set_idle(0.1 * capacity);
        assert!(!cap.can_accept_every_kind());
        assert!(admit(&cap, Rtmp, true).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cost_of_zero_always_fits() {
    let costs = CpuCost {
        rtmp: Some(0.0),
        whip: Some(0.0),
        whip_bypass_transcoding: Some(0.0),
        url: Some(0.0),
        min_idle_ratio: 0.3,
    };
    let cap = Capacity::new(1.0, costs);
    cap.set_idle(0.0);
    let permits: Vec<_> = (0..100).map(|_| admit(&cap, Rtmp, true).unwrap()).collect();
    assert!(cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Url, None), 1.0);
    assert_eq!(cap.active()[0].sessions, 100);
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn an_idler_machine_bids_more() {
    let (idle, busy) = (machine(16.0), machine(16.0));
    busy.set_idle(9.0);
    let (more, less) = (idle.affinity(Url, None), busy.affinity(Url, None));
    assert!(more > less && less > 1.0 && more <= 2.0, "{more} {less}");
    // Less than the whole reserve and the cost is free: silence, though one that is here already would be taken.
    let _other = admit(&busy, Whip, false).unwrap();
    busy.set_idle(6.0);
    assert_eq!(busy.affinity(Url, None), -1.0);
    assert!(admit(&busy, Url, true).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_draining_machine_takes_nothing() {
    let cap = Capacity::new(4.0, CpuCost { rtmp: Some(0.0), ..COSTS });
    let _running = admit(&cap, Rtmp, true).unwrap();
    cap.drain();
    assert!(!cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Rtmp, None), -1.0);
    assert!(admit(&cap, Rtmp, true).unwrap_err().text.contains("shutting down"));
    assert_eq!(cap.active(), [Active { input: Rtmp, transcoding: true, sessions: 1 }]);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_kind() {
    let cap = machine(64.0);
    assert_eq!(cap.active(), []);
    let rtmp = admit(&cap, Rtmp, true).unwrap();
    let whip = admit(&cap, Whip, false).unwrap();
    drop(rtmp);
    assert_eq!(
        cap.active(),
        [
            Active { input: Rtmp, transcoding: true, sessions: 0 },
            Active { input: Whip, transcoding: false, sessions: 1 }
        ]
    );
    drop(whip);
    cap.set_idle(16.0);
    assert_eq!(cap.load(), 0.75);
}

#[test]
fn small_machines_get_advice() {
    let advice = machine(2.0).advice().unwrap();
    assert!(advice.contains("2.0 cores, of which 1.4 are for sessions"), "{advice}");
    assert!(advice.contains("(rtmp_cpu_cost: 2.0, whip_cpu_cost: 2.0, url_cpu_cost: 2.0)"), "{advice}");
    assert_eq!(machine(4.0).advice(), None);
    assert_eq!(
        Capacity::new(2.0, CpuCost { rtmp: Some(0.5), whip: Some(0.5), url: Some(0.0), ..COSTS }).advice(),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn a_session_counts_with_what_it_is_asked_to_encode() {
    let cap = learning(8.0);
    let session = admit(&cap, Rtmp, true).unwrap();
    // As configured: 720p30 in three layers.
    assert_eq!(committed(&cap), 0.54);
    let small = vec![Layer { width: 320, height: 180, ..VideoEncoding::default_layers()[0] }];
    let work = Work { layers: small, wanted: vec![false], frame_rate: Some(10.0), ..work() };
    cap.works(&session.resource, work);
    assert_eq!(committed(&cap), 0.06);
    let passthrough = admit(&cap, Whip, false).unwrap();
    assert_eq!(committed(&cap), 0.11);
    drop((session, passthrough));
    assert_eq!(committed(&cap), 0.0);
    let mut large = spec(Rtmp, true);
    large.video.encoding = VideoPreset::H264_1080p30Layers3.encoding();
    let first = cap.try_admit(&ResourceId("RT_a".into()), &large).unwrap();
    assert_eq!(committed(&cap), 1.15);
    large.video.encoding.codec = EncodedVideo::Vp8;
    let second = cap.try_admit(&ResourceId("RT_b".into()), &large).unwrap();
    assert_eq!(committed(&cap), 2.18);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn sessions_that_rest_count_with_what_they_will_want() {
    let cap = learning(2.0);
    let resting: Vec<_> = (0..3).map(|_| Running::admit(&cap)).collect();
    resting.iter().for_each(|session| session.watched([false; 3]));
    pass(60_000).await;
    // Nobody watches, so the machine idles: yet with viewers three fill it.
    cap.set_idle(1.9);
    let fault = admit(&cap, Rtmp, true).unwrap_err();
    assert_eq!(
        fault.text,
        "this machine is full: an RTMP session needs 0.54 cores, and 0.33 of 2.0 are free besides the 0.30 that stay idle \
         (cpu_cost.min_idle_ratio); the sessions here may need 1.37"
    );
    assert!(!cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Url, None), -1.0);
    drop(resting);
    assert!(admit(&cap, Rtmp, true).is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_workers_use_is_learnt() {
    let cap = learning(8.0);
    let mut session = Running::admit(&cap);
    assert_eq!(committed(&cap), 0.46);
    session.uses(0.8, 4).await;
    assert_eq!(committed(&cap), 0.46, "that is too short");
    session.uses(0.8, 60).await;
    assert_eq!(committed(&cap), 0.85, "0.8 and what this process does");
    // It is not watched any more, and takes nothing: that tells nothing about what it will want.
    session.watched([true, true, false]);
    session.uses(0.1, 60).await;
    assert_eq!(committed(&cap), 0.85);
    // The next one is expected to cost more for each pixel than the first was, not yet as much.
    drop(session);
    let next = admit(&cap, Rtmp, true).unwrap();
    assert!((0.7..1.0).contains(&committed(&cap)), "{}", committed(&cap));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn what_a_source_says_of_its_rate_teaches_nothing() {
    let cap = learning(8.0);
    let mut session = Running::admit(&cap);
    let said = Work { layers: VideoEncoding::default_layers(), wanted: vec![true; 3], frame_rate: Some(1.0), ..work() };
    cap.works(&session.permit.resource, Work { pictures: session.pictures.clone(), ..said });
    session.sends(30, 0.5, 60).await;
    assert_eq!(committed(&cap), 0.55);
    drop(session);
    let next = admit(&cap, Rtmp, true).unwrap();
    assert!((0.5..0.58).contains(&committed(&cap)), "{}", committed(&cap));
    drop(next);
    // So few pixels are mostly sound and what is around them.
    let mut small = Running::admit(&cap);
    let layers = VideoEncoding::halvings(320, 180, 1, 1);
    cap.works(&small.permit.resource, Work { layers, wanted: vec![true], pictures: small.pictures.clone(), ..work() });
    small.uses(0.2, 60).await;
    drop(small);
    let next = admit(&cap, Rtmp, true).unwrap();
    assert!((0.5..0.58).contains(&committed(&cap)), "{}", committed(&cap));
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_session_whose_source_makes_the_highest_layer_counts_with_a_part_of_it() {
    let cap = learning(8.0);
    let mut session = Running::admit(&cap);
    session.uses(0.4, 11).await;
    assert_eq!(committed(&cap), 0.45);
    cap.passes(&session.permit.resource, true);
    session.watched([true, true, false]);
    session.uses(0.15, 11).await;
    // 0.15 for what is encoded, 0.05 beside, and a quarter of what 720p25 costs.
    assert!((0.26..0.30).contains(&committed(&cap)), "{}", committed(&cap));
    cap.passes(&session.permit.resource, false);
    session.watched([true; 3]);
    session.uses(0.4, 11).await;
    assert_eq!(committed(&cap), 0.45);
}

#[tokio::test(start_paused = true)]
async fn it_learns_up_fast_and_down_slowly() {
    let cap = learning(8.0);
    let mut session = Running::admit(&cap);
    session.uses(0.4, 11).await;
    assert_eq!(committed(&cap), 0.45);
    session.uses(0.8, 15).await;
    assert!(committed(&cap) > 0.7, "{}", committed(&cap));
    session.uses(0.4, 15).await;
    assert!(committed(&cap) > 0.6, "{}", committed(&cap));
    // Another picture size is another load.
    let work = Work { layers: VideoEncoding::halvings(640, 360, 1, 1), wanted: vec![true], ..work() };
    cap.works(&session.permit.resource, work);
    assert!(committed(&cap) < 0.25, "{}", committed(&cap));
}

#[tokio::test(start_paused = true)]
async fn a_starved_or_stalled_worker_teaches_nothing() {
    let cap = learning(2.0);
    let mut session = Running::admit(&cap);
    cap.set_idle(0.05);
    session.uses(0.1, 30).await;
    assert_eq!(committed(&cap), 0.46, "it would use more if there were more");
    session.uses(1.5, 30).await;
    assert!(committed(&cap) > 1.4, "{}", committed(&cap));
    cap.set_idle(1.5);
    cap.stalled(&session.permit.resource, true);
    session.uses(0.0, 60).await;
    assert!(committed(&cap) > 1.4, "{}", committed(&cap));
}

#[tokio::test(start_paused = true)]
async fn a_machine_short_of_memory_says_so() {
    let cap = learning(8.0);
    let mebibytes = |total: u64, free: u64| Some(Memory { total: total << 20, free: free << 20 });
    cap.set_memory(mebibytes(512, 200));
    let first = admit(&cap, Rtmp, true).unwrap();
    // The first has not taken its memory yet: of 200 MiB, 73 are its own and 64 stay free.
    let text = "this machine is short of memory: an RTMP session needs 73 MiB, and 62 of 512 MiB are free besides the 64 that stay so";
    let fault = admit(&cap, Rtmp, true).unwrap_err();
    assert_eq!((fault.text.as_str(), fault.blame, fault.retry), (text, Blame::Capacity, true));
    assert!(!cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Url, None), -1.0);
    // Passthrough takes none to speak of.
    assert!(admit(&cap, Whip, false).is_ok());
    cap.set_memory(None);
    assert!(admit(&cap, Rtmp, true).is_ok(), "what can't be read is no reason to refuse");
    drop(first);
}

proptest! {
    /// Whatever comes and goes: what is counted is what is held, and a machine that is not alone never takes more than fits.
    #[test]
    fn never_takes_more_than_fits(
        capacity in 0.1..64.0_f64,
        steps in proptest::collection::vec((0..4_u8, 0.0..1.0_f64, 0..6_usize), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cap = machine(capacity);
            let mut held = Vec::new();
            for (step, amount, kind) in steps {
                let (input, transcoding, _) = KINDS[kind];
                match step {
                    0 => cap.set_idle(amount * capacity),
                    1 => pass((amount * 2000.0) as u64).await,
                    2 => drop((!held.is_empty()).then(|| held.swap_remove(kind % held.len()))),
                    _ => {
                        let free = cap.state().free(0.15, Instant::now());
                        let cost = cap.state().cost(kind, &usual(kind)).cpu;
                        let fits = free > cost || held.is_empty() && free > 0.0;
                        let permit = admit(&cap, input, transcoding);
                        assert_eq!(permit.is_ok(), fits, "{free} {cost}");
                        held.extend(permit.ok());
                    }
                }
                let counted: u32 = cap.active().iter().map(|a| a.sessions).sum();
                assert_eq!(counted as usize, held.len());
            }
        });
    }
}
