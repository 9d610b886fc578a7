//! Capacity on virtual time.

use super::*;

use InputKind::{Rtmp, Url, Whip};
use proptest::prelude::*;

fn machine(capacity: f64) -> Capacity {
    Capacity::new(capacity, CpuCost::default())
}

async fn pass(milliseconds: u64) {
    tokio::time::advance(Duration::from_millis(milliseconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_admits_until_it_is_full() {
    let cap = machine(8.0);
    assert!(cap.can_accept_every_kind());
    // Free are 8 − 0.15·8 = 6.8 CPUs: three times 2.0, the fourth does not fit.
    let permits: Vec<_> = (0..3).map(|_| cap.try_admit(Rtmp, true).unwrap()).collect();
    let fault = cap.try_admit(Rtmp, true).unwrap_err();
    assert_eq!(
        fault.text,
        "this machine is full: an RTMP session needs 2.0 CPUs (cpu_cost.rtmp_cpu_cost), and 0.8 of 8.0 are free besides the \
         1.2 that stay idle (cpu_cost.min_idle_ratio)"
    );
    assert_eq!((fault.blame, fault.retry), (Blame::Capacity, true));
    // A passthrough session still fits.
    let passed_on = cap.try_admit(Whip, false).unwrap();
    drop((permits, passed_on));
}

#[tokio::test(start_paused = true)]
async fn a_new_session_counts_until_it_shows_in_the_load() {
    let cap = machine(4.0);
    let _first = cap.try_admit(Rtmp, true).unwrap();
    pass(999).await;
    assert!(cap.try_admit(Rtmp, true).is_err());
    pass(1).await;
    // It turned out to take 0.5 CPUs.
    cap.set_idle(3.5);
    let _second = cap.try_admit(Rtmp, true).unwrap();
    pass(1000).await;
    cap.set_idle(2.5);
    let fault = cap.try_admit(Rtmp, true).unwrap_err();
    assert!(fault.text.contains("1.9 of 4.0 are free"), "{}", fault.text);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_cost_is_not_enough() {
    let costs = CpuCost { rtmp: 1.0, min_idle_ratio: 0.5, ..CpuCost::default() };
    let cap = Capacity::new(4.0, costs);
    let _url = cap.try_admit(Whip, false).unwrap();
    pass(1000).await;
    // The reserve is a quarter of 4, so 1.0 is free.
    cap.set_idle(2.0);
    assert!(cap.try_admit(Rtmp, true).is_err());
    cap.set_idle(2.001);
    assert!(cap.try_admit(Rtmp, true).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_small_machine_takes_a_first_session_but_no_second() {
    for capacity in [0.5, 1.0, 2.0] {
        let cap = machine(capacity);
        assert!(cap.can_accept_every_kind());
        assert_eq!(cap.affinity(Url, true), 0.5);
        let first = cap.try_admit(Rtmp, true).unwrap();
        pass(2000).await;
        assert!(!cap.can_accept_every_kind());
        assert_eq!(cap.affinity(Url, true), -1.0);
        assert!(cap.try_admit(Rtmp, true).is_err());
        drop(first);
        assert!(cap.can_accept_every_kind());
        // Something else keeps the machine busy.
        cap.set_idle(0.1 * capacity);
        assert!(!cap.can_accept_every_kind());
        assert!(cap.try_admit(Rtmp, true).is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cost_of_zero_always_fits() {
    let costs = CpuCost { rtmp: 0.0, whip: 0.0, whip_bypass_transcoding: 0.0, url: 0.0, min_idle_ratio: 0.3 };
    let cap = Capacity::new(1.0, costs);
    cap.set_idle(0.0);
    let permits: Vec<_> = (0..100).map(|_| cap.try_admit(Rtmp, true).unwrap()).collect();
    assert!(cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Url, true), 1.0);
    assert_eq!(cap.active()[0].sessions, 100);
    drop(permits);
}

#[tokio::test(start_paused = true)]
async fn an_idler_machine_bids_more() {
    let (idle, busy) = (machine(16.0), machine(16.0));
    busy.set_idle(9.0);
    let (more, less) = (idle.affinity(Url, true), busy.affinity(Url, true));
    assert!(more > less && less > 1.0 && more <= 2.0, "{more} {less}");
    // Less than the whole reserve and the cost is free: silence, though one that is here already would be taken.
    let _other = busy.try_admit(Whip, false).unwrap();
    busy.set_idle(6.0);
    assert_eq!(busy.affinity(Url, true), -1.0);
    assert!(busy.try_admit(Url, true).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_draining_machine_takes_nothing() {
    let cap = Capacity::new(4.0, CpuCost { rtmp: 0.0, ..CpuCost::default() });
    let _running = cap.try_admit(Rtmp, true).unwrap();
    cap.drain();
    assert!(!cap.can_accept_every_kind());
    assert_eq!(cap.affinity(Rtmp, true), -1.0);
    assert!(cap.try_admit(Rtmp, true).unwrap_err().text.contains("shutting down"));
    assert_eq!(cap.active(), [Active { input: Rtmp, transcoding: true, sessions: 1 }]);
}

#[tokio::test(start_paused = true)]
async fn sessions_are_counted_by_kind() {
    let cap = machine(64.0);
    assert_eq!(cap.active(), []);
    let rtmp = cap.try_admit(Rtmp, true).unwrap();
    let whip = cap.try_admit(Whip, false).unwrap();
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
    assert!(advice.contains("2.0 CPUs, of which 1.4 are for sessions"), "{advice}");
    assert!(advice.contains("(rtmp_cpu_cost: 2.0, whip_cpu_cost: 2.0, url_cpu_cost: 2.0)"), "{advice}");
    assert_eq!(machine(4.0).advice(), None);
    assert_eq!(Capacity::new(2.0, CpuCost { rtmp: 0.5, whip: 0.5, url: 0.0, ..CpuCost::default() }).advice(), None);
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
                        let cost = cap.state().cost(kind);
                        let fits = free > cost || held.is_empty() && free > 0.0;
                        let permit = cap.try_admit(input, transcoding);
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
