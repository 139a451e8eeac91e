//! The instruction sets that the CPU kernels are compiled for, one of which is chosen at run time.

use pulp::{Arch, Simd, WithSimd};

/// Vector instructions that the CPU kernels use.
#[derive(Clone, Copy, Debug)]
pub enum Vector {
    /// The widest that this machine has: AVX-512, AVX2 with FMA, NEON, or none.
    Best(Arch),
    /// None: plain Rust, for any machine. Tests compare the others with it.
    Portable,
}

impl Vector {
    /// The widest instructions that this machine has.
    pub fn detect() -> Self {
        Vector::Best(Arch::new())
    }

    /// Every instruction set that this machine has, so that tests cover AVX2 on machines with AVX-512.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Self> {
        let mut vectors = vec![Self::detect(), Self::Portable];
        #[cfg(target_arch = "x86_64")]
        vectors.extend(pulp::x86::V3::try_new().map(|v3| Self::Best(Arch::V3(v3))));
        vectors
    }

    /// Name for reports: `AVX-512`, `AVX2`, `128-bit` or `portable`.
    pub fn name(self) -> &'static str {
        match self.lanes() {
            16 => "AVX-512",
            8 => "AVX2",
            4 => "128-bit",
            _ => "portable",
        }
    }

    /// Number of `f32` values in a vector.
    pub(crate) fn lanes(self) -> usize {
        struct Lanes;
        impl WithSimd for Lanes {
            type Output = usize;
            fn with_simd<S: Simd>(self, _: S) -> usize {
                S::F32_LANES
            }
        }
        self.run(Lanes)
    }

    /// Runs a kernel with these instructions.
    pub(crate) fn run<Kernel: WithSimd>(self, kernel: Kernel) -> Kernel::Output {
        match self {
            Vector::Best(arch) => arch.dispatch(kernel),
            Vector::Portable => kernel.with_simd(pulp::Scalar),
        }
    }
}
