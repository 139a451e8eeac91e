//! CPU kernels on plain slices: the 3x3 convolution block and the large linear layer, forward and backward.
//!
//! One source for every vector width: `pulp` picks AVX-512, AVX2 + FMA, NEON or portable code at run time. Layouts are
//! NHWC; work is cut into pieces that depend on the shapes alone and sums are taken in a fixed order, so that results
//! are the same bytes on any number of threads.

// Loops over indices: closures and iterator adaptors are not always compiled for the wide vectors.
#![allow(clippy::needless_range_loop)]

use pulp::{Arch, Simd, WithSimd};

mod conv;
pub mod convolution;
mod infer;
mod linear;
pub mod norm;
mod winograd;

pub use conv::{ConvGradients, ConvShape, DEAD, conv_backward, conv_forward};
pub use infer::{Block, blocks_forward};
pub use linear::{AdamStep, LANES, ROWS, Tiled, linear_backward, linear_forward, transpose};

/// Output channels a panel of packed weights.
pub const PANEL: usize = 16;

/// Which code path the kernels take.
#[derive(Clone, Copy, Debug)]
pub enum Vector {
    /// The widest vectors that this machine has.
    Best(Arch),
    /// Plain Rust, any machine: what the other path is tested against.
    Portable,
}

impl Vector {
    /// The widest vectors that this machine has.
    pub fn detect() -> Self {
        Vector::Best(Arch::new())
    }

    /// Every code path that this machine has: where there is AVX-512, AVX2 would else never be tried.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<Self> {
        let mut paths = vec![Self::detect(), Self::Portable];
        #[cfg(target_arch = "x86_64")]
        paths.extend(pulp::x86::V3::try_new().map(|v3| Self::Best(Arch::V3(v3))));
        paths
    }

    /// The code path's name, by the floats that it takes at once.
    pub fn name(self) -> &'static str {
        match self.lanes() {
            16 => "AVX-512",
            8 => "AVX2",
            4 => "128-bit",
            _ => "portable",
        }
    }

    /// Floats a vector.
    fn lanes(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: Simd>(self, _: S) -> usize {
                size_of::<S::f32s>() / 4
            }
        }
        self.run(Lanes)
    }

    fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        match self {
            Vector::Best(arch) => arch.dispatch(op),
            Vector::Portable => op.with_simd(pulp::Scalar),
        }
    }
}

/// Dropout whose choice is a function of (key, position), so that no state runs along.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Share dropped, 0 to below 1.
    pub p: f32,
}

impl Dropout {
    /// What a kept value is multiplied by.
    pub fn scale(self) -> f32 {
        1.0 / (1.0 - self.p)
    }

    fn threshold(self) -> u32 {
        (f64::from(self.p) * 4_294_967_296.0) as u32
    }

    /// Whether position `i` (0 to 2^32) is kept under `key`.
    pub fn keeps(self, key: u64, i: usize) -> bool {
        mix(key, i as u32) >= self.threshold()
    }
}

/// A 32-bit hash of a position: murmur3's finaliser over a Weyl sequence, keyed at both ends.
#[inline(always)]
fn mix(key: u64, i: u32) -> u32 {
    let mut z = i.wrapping_mul(0x9E37_79B1) ^ key as u32;
    z ^= z >> 16;
    z = z.wrapping_mul(0x85EB_CA6B);
    z ^= (key >> 32) as u32;
    z ^= z >> 13;
    z = z.wrapping_mul(0xC2B2_AE35);
    z ^ (z >> 16)
}

/// Asks for the cache lines of `values`, which will be wanted soon. The weight's tiles are a page each, and processors
/// do not read ahead from one page into the next.
#[inline(always)]
fn read_ahead(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction; it reads nothing, writes nothing and cannot fault, and
        // the address is that of a live slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
