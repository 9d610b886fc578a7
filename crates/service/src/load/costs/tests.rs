//! What is learnt from measurements, whatever they say.

use super::*;
use crate::control::embedded;
use proptest::prelude::*;

fn step(meter: &mut Meter, rates: &mut Rates, now: Instant, cpu: f64, starved: bool) {
    meter.sample(ProcessUsage { cpu, memory: 1 << 20 }, starved, rates, now);
}

#[test]
fn nothing_is_measured_across_a_change() {
    let (mut rates, start) = (Rates::default(), Instant::now());
    let mut meter = Meter::new(&embedded::ingress(InputKind::Rtmp, "k").spec);
    let work = Work {
        worker: Some(1),
        layers: VideoEncoding::default_layers(),
        wanted: vec![true; 3],
        frame_rate: Some(30.0),
        ..Work::default()
    };
    meter.works(work.clone());
    let before = meter.cost(&rates);
    for second in 0..20 {
        let now = start + Duration::from_secs(second);
        // A new worker begins at zero, and is not compared with the one before it.
        meter.works(Work { worker: Some(second as u32), ..work.clone() });
        step(&mut meter, &mut rates, now, 100.0, false);
    }
    assert_eq!(meter.cost(&rates), before);
    assert_eq!(meter.memory_to_come(), before.memory - (1 << 20));
}

proptest! {
    /// No reading makes a cost that is negative, or so small or large that a machine is never or always full.
    #[test]
    fn costs_stay_within_what_programs_run_on(
        readings in proptest::collection::vec((0.0..100.0_f64, 0_u64..20, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let (mut rates, mut now) = (Rates::default(), Instant::now());
        let spec = embedded::ingress(InputKind::Rtmp, "k").spec;
        let usual = rates.cost(&Demand::of(&spec)).cpu - BESIDE;
        let mut meter = Meter::new(&spec);
        let layers = spec.video.encoding.layers.clone();
        for (cpu, seconds, starved, wanted) in readings {
            let wanted = vec![wanted; layers.len()];
            meter.works(Work { worker: Some(1), layers: layers.clone(), wanted, ..Work::default() });
            for _ in 0..2 {
                now += Duration::from_secs(seconds);
                step(&mut meter, &mut rates, now, cpu, starved);
            }
            let expected = rates.cost(&Demand::of(&spec)).cpu - BESIDE;
            prop_assert!(expected >= usual / RANGE - 1e-9 && expected <= usual * RANGE + 1e-9, "{expected}");
            prop_assert!(meter.cost(&rates).cpu >= BESIDE);
        }
    }
}
