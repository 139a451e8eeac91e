//! Dropout (Srivastava et al. 2014) without a generator's state: a hash of key and position decides.

/// Dropout: sets a share of the values to 0 and scales the others up, so that their expectation stays the same.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share dropped, from 0 to below 1.
    pub p: f32,
}

/// Dropout in one pass of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchDropout<'a> {
    /// The share dropped.
    pub dropout: Dropout,
    /// One key per image.
    pub keys: &'a [u64],
}

impl Dropout {
    /// Factor of the values that are kept.
    pub fn scale(self) -> f32 {
        1.0 / (1.0 - self.p)
    }

    /// Values whose [`hash`] is below this are dropped.
    pub fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }

    /// Whether the value at position `i` (below 2^32) of the image with this key is kept.
    pub fn keeps(self, key: u64, i: usize) -> bool {
        hash(key, i as u32) >= self.threshold()
    }
}

/// A 32-bit hash of a position: the finaliser of MurmurHash3 over a Weyl sequence, with half of the key before and half
/// within.
#[inline(always)]
pub(super) fn hash(key: u64, i: u32) -> u32 {
    let mut z = i.wrapping_mul(0x9E37_79B1) ^ key as u32;
    z ^= z >> 16;
    z = z.wrapping_mul(0x85EB_CA6B);
    z ^= (key >> 32) as u32;
    z ^= z >> 13;
    z = z.wrapping_mul(0xC2B2_AE35);
    z ^ (z >> 16)
}
