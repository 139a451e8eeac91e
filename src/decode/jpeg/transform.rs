//! From coefficients to samples and from samples to colours, with libjpeg's arithmetic.

/// The inverse DCT of libjpeg's jidctint.c on the eight columns of a block. Arithmetic wraps, because damaged files can
/// contain coefficients of any size.
#[inline(always)]
fn pass<const SHIFT: usize>(input: &[i32; 64], output: &mut [i32; 64]) {
    use std::num::Wrapping as W;
    for l in 0..8 {
        let mut x = [W(0); 8];
        for k in 0..8 {
            x[k] = W(input[k * 8 + l]);
        }
        let z1 = (x[2] + x[6]) * W(4433);
        let (even2, even3) = (z1 - x[6] * W(15137), z1 + x[2] * W(6270));
        let (even0, even1) = ((x[0] + x[4]) << 13, (x[0] - x[4]) << 13);
        let sums = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];
        let (z1, z2, z3, z4) = (x[7] + x[1], x[5] + x[3], x[7] + x[3], x[5] + x[1]);
        let z5 = (z3 + z4) * W(9633);
        let (z1, z2, z3, z4) = (z1 * W(-7373), z2 * W(-20995), z5 - z3 * W(16069), z5 - z4 * W(3196));
        let odds =
            [x[1] * W(12299) + z1 + z4, x[3] * W(25172) + z2 + z3, x[5] * W(16819) + z2 + z4, x[7] * W(2446) + z1 + z3];
        let round = W(1 << (SHIFT - 1));
        for k in 0..4 {
            output[k * 8 + l] = ((sums[k] + odds[k] + round) >> SHIFT).0;
            output[(7 - k) * 8 + l] = ((sums[k] - odds[k] + round) >> SHIFT).0;
        }
    }
}

/// Transforms a block into samples and resets it to zero.
#[inline(always)]
pub fn inverse(block: &mut [i32; 64], last: usize, out: &mut [u8], stride: usize, shuffles: Shuffles) {
    if last == 0 {
        let level = ((block[0].wrapping_add(4) >> 3) + 128).clamp(0, 255) as u8;
        block[0] = 0;
        for row in 0..8 {
            out[row * stride..][..8].fill(level);
        }
        return;
    }
    let (mut columns, mut rows) = ([0; 64], [0; 64]);
    pass::<11>(block, &mut columns);
    *block = [0; 64];
    pass::<18>(&shuffles.transpose(&columns), &mut rows);
    for (y, line) in shuffles.levels(&rows).iter().enumerate() {
        out[y * stride..][..8].copy_from_slice(line);
    }
}

/// Converts YCbCr to red, green and blue with libjpeg's 16-bit constants.
#[inline(always)]
pub fn rgb<const N: usize>(luma: &[u8; N], blue: &[u8; N], red: &[u8; N]) -> [[u8; N]; 3] {
    let mut levels = [[0; N]; 3];
    for i in 0..N {
        let (y, cb, cr) = (i32::from(luma[i]), i32::from(blue[i]) - 128, i32::from(red[i]) - 128);
        levels[0][i] = (y + ((91881 * cr + 32768) >> 16)).clamp(0, 255) as u8;
        levels[1][i] = (y + ((-22554 * cb - 46802 * cr + 32768) >> 16)).clamp(0, 255) as u8;
        levels[2][i] = (y + ((116130 * cb + 32768) >> 16)).clamp(0, 255) as u8;
    }
    levels
}

/// Number of pixels that are converted together.
pub const PIXELS: usize = 16;

/// Transposes and interleaves with AVX2 shuffles, which compilers do not generate from loops, or with portable loops.
#[derive(Clone, Copy)]
pub struct Shuffles {
    #[cfg(target_arch = "x86_64")]
    v3: Option<pulp::x86::V3>,
}

impl Shuffles {
    pub fn detect() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            v3: pulp::x86::V3::try_new(),
        }
    }

    /// Transposes an 8 x 8 block.
    #[inline(always)]
    fn transpose(self, square: &[i32; 64]) -> [i32; 64] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            let x = v3.avx2;
            let rows: [std::arch::x86_64::__m256i; 8] = pulp::cast(*square);
            let mut pairs = rows;
            for i in (0..8).step_by(2) {
                pairs[i] = x._mm256_unpacklo_epi32(rows[i], rows[i + 1]);
                pairs[i + 1] = x._mm256_unpackhi_epi32(rows[i], rows[i + 1]);
            }
            let mut fours = rows;
            for i in [0, 4] {
                fours[i] = x._mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
                fours[i + 1] = x._mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
                fours[i + 2] = x._mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
                fours[i + 3] = x._mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
            }
            let mut turned = rows;
            for i in 0..4 {
                turned[i] = x._mm256_permute2x128_si256::<0x20>(fours[i], fours[i + 4]);
                turned[i + 4] = x._mm256_permute2x128_si256::<0x31>(fours[i], fours[i + 4]);
            }
            return pulp::cast(turned);
        }
        let mut turned = [0; 64];
        for (i, v) in square.iter().enumerate() {
            turned[i % 8 * 8 + i / 8] = *v;
        }
        turned
    }

    /// Transposes a block of values around 0, and adds 128 and clamps to 0 to 255.
    #[inline(always)]
    fn levels(self, columns: &[i32; 64]) -> [[u8; 8]; 8] {
        let mut moved = *columns;
        for v in &mut moved {
            *v = v.wrapping_add(128);
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            let x = v3.avx2;
            let c: [std::arch::x86_64::__m256i; 8] = pulp::cast(moved);
            // The packed bytes of a half are ordered by column and must be ordered by row.
            const ORDER: [u8; 32] = {
                let mut order = [0; 32];
                let mut i = 0;
                while i < 32 {
                    order[i] = (i % 4 * 4 + i % 16 / 4) as u8;
                    i += 1;
                }
                order
            };
            let mut half = [c[0]; 2];
            for i in 0..2 {
                let pairs =
                    [x._mm256_packs_epi32(c[4 * i], c[4 * i + 1]), x._mm256_packs_epi32(c[4 * i + 2], c[4 * i + 3])];
                half[i] = x._mm256_shuffle_epi8(x._mm256_packus_epi16(pairs[0], pairs[1]), pulp::cast(ORDER));
            }
            let [left, right] = half;
            let [a, b, e, f]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpacklo_epi32(left, right));
            let [c, d, g, h]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpackhi_epi32(left, right));
            return [a, b, c, d, e, f, g, h];
        }
        let mut rows = [[0; 8]; 8];
        for (i, v) in moved.iter().enumerate() {
            rows[i % 8][i / 8] = (*v).clamp(0, 255) as u8;
        }
        rows
    }

    /// Interleaves three planes to pixels.
    #[inline(always)]
    pub fn interleave(self, planes: [[u8; PIXELS]; 3], pixels: &mut [u8; 3 * PIXELS]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3 {
            // The source index of each output byte for each plane; index 128 gives zero.
            const FROM: [[[u8; 16]; 3]; 3] = {
                let mut from = [[[128; 16]; 3]; 3];
                let mut i = 0;
                while i < 3 * PIXELS {
                    from[i / 16][i % 3][i % 16] = (i / 3) as u8;
                    i += 1;
                }
                from
            };
            for (third, from) in pixels.as_chunks_mut::<16>().0.iter_mut().zip(FROM) {
                let mut parts: [std::arch::x86_64::__m128i; 3] = pulp::cast(planes);
                for c in 0..3 {
                    parts[c] = v3.ssse3._mm_shuffle_epi8(parts[c], pulp::cast(from[c]));
                }
                let [r, g, b] = parts;
                *third = pulp::cast(v3.sse2._mm_or_si128(v3.sse2._mm_or_si128(r, g), b));
            }
            return;
        }
        for (i, pixel) in pixels.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            *pixel = [planes[0][i], planes[1][i], planes[2][i]];
        }
    }
}
