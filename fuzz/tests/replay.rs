//! Replays all seeds with the stable compiler, each as it is, cut short, and with bytes changed.

use std::path::Path;

#[test]
fn seeds_keep_every_promise() {
    for (name, target) in fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
        let seeds: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|e| std::fs::read(e.unwrap().path()).unwrap()).collect();
        assert!(!seeds.is_empty(), "{name} has no seed");
        for seed in seeds {
            target(&seed);
            for length in (0..seed.len()).step_by(1 + seed.len() / 64) {
                target(&seed[..length]);
                let mut changed = seed.clone();
                for value in [0, 0xff, changed[length] ^ 0x80, changed[length].wrapping_add(1)] {
                    changed[length] = value;
                    target(&changed);
                }
            }
        }
    }
}
