//! The instructions that processors have for bf16: Intel's matrix unit (AMX), and AVX-512's products of pairs.
//!
//! The first have no stable functions in `std::arch`, hence the assembly. A thread that uses the unit holds a
//! [`Matrix`], which sets up its tile registers and releases them when it is dropped.

use super::bf16::{BLOCK, Rows, Segment, Sums};
use std::cell::Cell;

/// The matrix unit of the thread that made it.
pub struct Matrix {
    /// Tile registers belong to a thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Matrix {
    /// Whether the processor has such a unit, and the operating system lets this program use it.
    pub fn available() -> bool {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        return matrix::available();
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        false
    }

    /// Sets up the unit, where there is one and this thread has not yet done so: while it waits for others, a thread
    /// may be given work that uses the unit as well.
    pub fn new() -> Option<Self> {
        Self::available().then(|| {
            let others = USERS.replace(USERS.get() + 1);
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            if others == 0 {
                matrix::configure();
            }
            #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
            let _ = others;
            Self { _thread: std::marker::PhantomData }
        })
    }

    /// See [`Blocks::multiply`](super::bf16_product::Blocks::multiply), which has checked that every segment lies
    /// within `a` and `b`.
    pub(super) fn multiply(&self, a: Rows, b: &[u16], segments: &[Segment], steps: usize, c: &mut Sums, add: bool) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        matrix::multiply(a, b, segments, steps, c, add);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        let _ = (a, b, segments, steps, c, add);
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        USERS.set(USERS.get() - 1);
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if USERS.get() == 0 {
            matrix::release();
        }
    }
}

thread_local! {
    /// How many [`Matrix`] this thread has.
    static USERS: Cell<usize> = const { Cell::new(0) };
}

/// AVX-512's products of pairs of bf16, on a processor that has them.
pub struct Pairs {
    _available: (),
}

impl Pairs {
    /// `None` where the processor does not have them.
    pub fn new() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f") {
            return Some(Self { _available: () });
        }
        None
    }

    /// Adds `a b` to a block of sums; `b` has packed steps.
    pub(super) fn add(&self, a: Rows, b: &[u16], c: &mut Sums) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `new` has found the instructions.
        unsafe {
            pairs::add(a, b, c)
        };
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (a, b, c);
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use super::super::bf16::{PACKED_STEP, STEP, TILE};
    use super::{BLOCK, Rows, Sums};
    use std::arch::x86_64::*;

    /// Rows whose sums are in registers at a time, each with two vectors.
    const ROWS: usize = 8;

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn add(a: Rows, b: &[u16], c: &mut Sums) {
        for first in (0..BLOCK).step_by(ROWS) {
            let c: &mut [f32; ROWS * BLOCK] = c.0[first * BLOCK..].first_chunk_mut().expect("a part of the block");
            let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
            for r in 0..ROWS {
                for v in 0..2 {
                    // SAFETY: 16 of the values of `c`.
                    sums[r][v] = unsafe { _mm512_loadu_ps(c[r * BLOCK + v * TILE..][..TILE].as_ptr()) };
                }
            }
            for (step, b) in b.chunks_exact(PACKED_STEP).enumerate() {
                let mut rows = [&[0u16; STEP]; ROWS];
                for r in 0..ROWS {
                    let start = a.start(first + r) + step * STEP;
                    rows[r] = a.values[start..].first_chunk().expect("a row is long enough");
                }
                let (left, right) = b.split_at(STEP * TILE);
                let pairs = left.as_chunks::<{ 2 * TILE }>().0.iter().zip(right.as_chunks::<{ 2 * TILE }>().0);
                for (pair, (left, right)) in pairs.enumerate() {
                    // SAFETY: each has 32 values of 16 bits, as many as a vector.
                    let columns = unsafe {
                        [left, right]
                            .map(|b| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_epi16(b.as_ptr().cast())))
                    };
                    for r in 0..ROWS {
                        let value = i32::from(rows[r][2 * pair]) | i32::from(rows[r][2 * pair + 1]) << 16;
                        // SAFETY: both are vectors of 512 bits.
                        let value = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(value)) };
                        for v in 0..2 {
                            sums[r][v] = _mm512_dpbf16_ps(sums[r][v], value, columns[v]);
                        }
                    }
                }
            }
            for r in 0..ROWS {
                for v in 0..2 {
                    // SAFETY: as above.
                    unsafe { _mm512_storeu_ps(c[r * BLOCK + v * TILE..][..TILE].as_mut_ptr(), sums[r][v]) };
                }
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod matrix {
    use super::super::bf16::STEP;
    use super::{Rows, Segment, Sums};
    use std::arch::asm;
    use std::sync::LazyLock;

    /// Whether the processor has AMX with bf16, and the kernel gives this process its registers.
    pub fn available() -> bool {
        static AVAILABLE: LazyLock<bool> = LazyLock::new(|| processor_has_it() && permitted());
        *AVAILABLE
    }

    fn processor_has_it() -> bool {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        const OSXSAVE: u32 = 1 << 27;
        const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24;
        const TILE_STATE: u32 = 3 << 17;
        if __cpuid(0).eax < 7
            || __cpuid(1).ecx & OSXSAVE == 0
            || __cpuid_count(7, 0).edx & BF16_AND_TILE != BF16_AND_TILE
        {
            return false;
        }
        let enabled: u32;
        // SAFETY: OSXSAVE says that the instruction exists; it only reads which registers the kernel saves.
        unsafe { asm!("xgetbv", in("ecx") 0, out("eax") enabled, out("edx") _, options(nomem, nostack)) };
        enabled & TILE_STATE == TILE_STATE
    }

    /// Asks the kernel for the tile registers, for all threads of this process.
    fn permitted() -> bool {
        const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
        const XFEATURE_XTILEDATA: i64 = 18;
        const SYS_ARCH_PRCTL: i64 = 158;
        let result: i64;
        // SAFETY: the call reads its arguments alone; a kernel that does not know it answers with an error. `syscall`
        // overwrites rcx and r11.
        unsafe {
            asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA, lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result == 0
    }

    /// Eight tiles of 16 rows of 64 bytes.
    #[repr(C, align(64))]
    struct Configuration {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        row_bytes: [u16; 16],
        rows: [u8; 16],
    }

    pub fn configure() {
        let mut configuration =
            Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(64);
        configuration.rows[..8].fill(16);
        // SAFETY: `available` was true, and the configuration is one that the manual allows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &configuration, options(readonly, nostack)) };
    }

    pub fn release() {
        // SAFETY: `configure` has run on this thread; afterwards nothing reads the tiles.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }

    /// The caller has checked that every segment lies within `a` and `b`.
    pub fn multiply(a: Rows, b: &[u16], segments: &[Segment], steps: usize, c: &mut Sums, add: bool) {
        if steps == 0 || segments.is_empty() {
            if !add {
                c.0.fill(0.0);
            }
            return;
        }
        let c = c.0.as_mut_ptr();
        // Tiles 0 to 3 hold the sums: rows 0 to 15 and 16 to 31, columns 0 to 15 and 16 to 31.
        // SAFETY: the thread holds a `Matrix`, so the tiles are set up; nothing else in the program uses them. A row of
        // `c` has 128 bytes, and its last tile ends where `c` does.
        unsafe {
            if add {
                asm!(
                    "tileloadd tmm0, [{c} + {row}]",
                    "tileloadd tmm1, [{c} + {row} + 64]",
                    "tileloadd tmm2, [{c} + {row} + 2048]",
                    "tileloadd tmm3, [{c} + {row} + 2112]",
                    c = in(reg) c, row = in(reg) 128usize,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(readonly, nostack)
                );
            } else {
                asm!(
                    "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    options(nomem, nostack)
                );
            }
        }
        for segment in segments {
            // SAFETY: as above. The loop reads `steps` times 64 bytes of each of 32 rows of `a`, and `steps` times two
            // tiles of `b`: the caller has checked that they are there. The tiles keep their values between the
            // blocks of assembly, because the compiler has no use for them.
            unsafe {
                asm!(
                    "2:",
                    "tileloadd tmm6, [{b} + {tile}]",
                    "tileloadd tmm7, [{b} + {tile} + 1024]",
                    "tileloadd tmm4, [{upper} + {row}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{lower} + {row}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {upper}, 64",
                    "add {lower}, 64",
                    "add {b}, 2048",
                    "dec {steps}",
                    "jnz 2b",
                    upper = inout(reg) a.values.as_ptr().add(segment.a) => _,
                    lower = inout(reg) a.values.as_ptr().add(segment.a + a.lower) => _,
                    b = inout(reg) b.as_ptr().add(segment.b) => _,
                    steps = inout(reg) steps => _,
                    row = in(reg) 2 * a.row,
                    tile = in(reg) 2 * STEP,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(readonly, nostack)
                );
            }
        }
        // SAFETY: as above.
        unsafe {
            asm!(
                "tilestored [{c} + {row}], tmm0",
                "tilestored [{c} + {row} + 64], tmm1",
                "tilestored [{c} + {row} + 2048], tmm2",
                "tilestored [{c} + {row} + 2112], tmm3",
                c = in(reg) c, row = in(reg) 128usize,
                options(nostack)
            );
        }
    }
}
