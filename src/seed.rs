//! The only source of randomness. Each generator is keyed by its purpose, so that results do not depend on the number
//! of threads, the order of work, or where a run was interrupted.

pub use rand_pcg::Pcg64;

/// A 64-bit key derived (by BLAKE3) from the run's seed and the purpose of the random numbers.
///
/// `stage` names the purpose ("split", "augment"); `fold`, `epoch` and `item` locate it within the stage.
pub fn key(seed: u64, stage: &str, fold: u64, epoch: u64, item: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for n in [seed, fold, epoch, item] {
        hasher.update(&n.to_le_bytes());
    }
    hasher.update(stage.as_bytes());
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("8 bytes"))
}

/// A generator seeded with [`key`].
pub fn rng(seed: u64, stage: &str, fold: u64, epoch: u64, item: u64) -> Pcg64 {
    use rand::SeedableRng;
    Pcg64::seed_from_u64(key(seed, stage, fold, epoch, item))
}

/// Keeps at most `count` of the items, drawn at random (the first of a shuffle: Fisher and Yates).
pub fn draw<T>(items: &mut Vec<T>, count: usize, rng: &mut Pcg64) {
    use rand::Rng;
    for i in 0..items.len().min(count) {
        let j = i + ((u128::from(rng.next_u64()) * (items.len() - i) as u128) >> 64) as usize;
        items.swap(i, j);
    }
    items.truncate(count);
}
