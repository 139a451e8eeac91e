//! From coefficients to samples and from samples to colours, with libjpeg's arithmetic.

use super::header::PLACES;
#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m256, __m256i};

/// The inverse DCT of libjpeg's jidctint.c on the eight columns of a block, by rows. Arithmetic wraps, because damaged
/// files can contain coefficients of any size.
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

/// The samples of a block, on every machine.
#[inline(never)]
fn samples(block: &[i16; 64]) -> [[u8; 8]; 8] {
    let transpose = |square: &[i32; 64]| -> [i32; 64] { std::array::from_fn(|i| square[i % 8 * 8 + i / 8]) };
    let (mut columns, mut rows) = ([0; 64], [0; 64]);
    pass::<11>(&PLACES.map(|place| block[usize::from(place)].into()), &mut columns);
    pass::<18>(&transpose(&columns), &mut rows);
    std::array::from_fn(|y| std::array::from_fn(|x| rows[x * 8 + y].wrapping_add(128).clamp(0, 255) as u8))
}

/// Transforms a block into samples and resets it to zero. `last` is the position of its last coefficient in scan order.
/// Coefficients wrap, as libjpeg-turbo's do: only damaged files have any that do not fit 16 bits.
#[inline(always)]
pub fn inverse(block: &mut [i16; 64], last: usize, out: &mut [u8], stride: usize, shuffles: Shuffles) {
    if last == 0 {
        let level = (((i32::from(block[0]) + 4) >> 3) + 128).clamp(0, 255) as u8;
        block[0] = 0;
        for row in 0..8 {
            out[row * stride..][..8].fill(level);
        }
        return;
    }
    let rows = shuffles.samples(block);
    *block = [0; 64];
    for (y, line) in rows.iter().enumerate() {
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

/// [`pass`] on the columns of a block in pairs of rows, as [`ZIGZAG`](super::header::ZIGZAG) has them, with `round`
/// added before the shift. The products are summed in pairs, which only changes their order.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn pass_in_pairs<const SHIFT: i32>(v3: V3, pairs: [__m256i; 4], round: i32) -> [__m256i; 8] {
    let x = v3.avx2;
    let times = |pair: __m256i, factors: [i16; 2]| x._mm256_madd_epi16(pair, pulp::cast([factors; 8]));
    let (add, subtract) = (|a, b| x._mm256_add_epi32(a, b), |a, b| x._mm256_sub_epi32(a, b));
    let [p04, p26, p13, p57] = pairs;
    let round = pulp::cast([round; 8]);
    let (even0, even1) = (add(times(p04, [8192, 8192]), round), add(times(p04, [8192, -8192]), round));
    let (even2, even3) = (times(p26, [4433, -10704]), times(p26, [10703, 4433]));
    let sums = [add(even0, even3), add(even1, even2), subtract(even1, even2), subtract(even0, even3)];
    let odds = [
        add(times(p13, [11363, 9633]), times(p57, [6437, 2260])),
        add(times(p13, [9633, -2259]), times(p57, [-11362, -6436])),
        add(times(p13, [6437, -11362]), times(p57, [2261, 9633])),
        add(times(p13, [2260, -6436]), times(p57, [9633, -11363])),
    ];
    let mut out = [round; 8];
    for k in 0..4 {
        out[k] = x._mm256_srai_epi32::<SHIFT>(add(sums[k], odds[k]));
        out[7 - k] = x._mm256_srai_epi32::<SHIFT>(subtract(sums[k], odds[k]));
    }
    out
}

/// Whether in each column the sum of absolute values is at most 4096, so that what is between the passes fits 16 bits.
/// Few valid images have a block where it is larger.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn is_small(v3: V3, [p04, p26, p13, p57]: [__m256i; 4]) -> bool {
    let x = v3.avx2;
    let sums = x._mm256_adds_epu16(
        x._mm256_adds_epu16(x._mm256_abs_epi16(p04), x._mm256_abs_epi16(p26)),
        x._mm256_adds_epu16(x._mm256_abs_epi16(p13), x._mm256_abs_epi16(p57)),
    );
    // Each is that of four rows of a column.
    let more = x._mm256_subs_epu16(sums, pulp::cast([2048u16; 16]));
    v3.avx._mm256_testz_si256(more, more) == 1
}

/// Transposes a square of values and clamps them to 0 to 255.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transposed_bytes(v3: V3, c: [__m256i; 8]) -> [[u8; 8]; 8] {
    let x = v3.avx2;
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
        let pairs = [x._mm256_packs_epi32(c[4 * i], c[4 * i + 1]), x._mm256_packs_epi32(c[4 * i + 2], c[4 * i + 3])];
        half[i] = x._mm256_shuffle_epi8(x._mm256_packus_epi16(pairs[0], pairs[1]), pulp::cast(ORDER));
    }
    let [left, right] = half;
    let [a, b, e, f]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpacklo_epi32(left, right));
    let [c, d, g, h]: [[u8; 8]; 4] = pulp::cast(x._mm256_unpackhi_epi32(left, right));
    [a, b, c, d, e, f, g, h]
}

/// Number of pixels that are converted together.
pub const PIXELS: usize = 16;

/// Transposes and interleaves with AVX2 shuffles, which compilers do not generate from loops, or with portable loops.
#[derive(Clone, Copy)]
pub struct Shuffles {
    #[cfg(target_arch = "x86_64")]
    v3: Option<V3>,
}

impl Shuffles {
    pub fn detect() -> Self {
        Self {
            #[cfg(target_arch = "x86_64")]
            v3: V3::try_new(),
        }
    }

    /// The same as [`samples`].
    #[inline(always)]
    fn samples(self, block: &[i16; 64]) -> [[u8; 8]; 8] {
        #[cfg(target_arch = "x86_64")]
        if let Some(v3) = self.v3
            && is_small(v3, pulp::cast(*block))
        {
            let x = v3.avx2;
            let columns = pass_in_pairs::<11>(v3, pulp::cast(*block), 1 << 10);
            let mut packed = pulp::cast::<_, [__m256i; 4]>(*block);
            for i in 0..4 {
                packed[i] = x._mm256_packs_epi32(columns[2 * i], columns[2 * i + 1]);
            }
            // Rows 0, 1, 4, 5, then 2, 3, 6, 7: first of columns 0, 4, 2, 6, then of the others.
            let [a, b, c, d] = packed;
            let (a, c) = (x._mm256_permute2x128_si256::<0x20>(a, c), x._mm256_permute2x128_si256::<0x31>(a, c));
            let (b, d) = (x._mm256_permute2x128_si256::<0x20>(b, d), x._mm256_permute2x128_si256::<0x31>(b, d));
            let [a, b, c, d]: [__m256; 4] = [pulp::cast(a), pulp::cast(b), pulp::cast(c), pulp::cast(d)];
            let pairs = [
                v3.avx._mm256_shuffle_ps::<0x88>(a, b),
                v3.avx._mm256_shuffle_ps::<0xDD>(a, b),
                v3.avx._mm256_shuffle_ps::<0x88>(c, d),
                v3.avx._mm256_shuffle_ps::<0xDD>(c, d),
            ];
            // With the 128 that is added to a sample.
            let rows = pass_in_pairs::<18>(v3, pulp::cast(pairs), (1 << 17) + (128 << 18));
            return transposed_bytes(v3, rows);
        }
        samples(block)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        /// Blocks of few and of many coefficients, small ones and such as only damaged files have.
        #[test]
        fn every_machine_computes_the_same_samples(
            coefficients in prop::collection::vec((0usize..64, any::<i16>(), 0u32..16), 1..40),
        ) {
            let mut block = [0i16; 64];
            for (place, value, shift) in coefficients {
                block[place] = value >> shift;
            }
            prop_assert_eq!(Shuffles::detect().samples(&block), samples(&block));
        }
    }

    #[test]
    fn the_largest_columns_are_the_same_on_every_machine() {
        for signs in 0..256u32 {
            let mut block = [0i16; 64];
            for row in 0..8 {
                let value = if signs >> row & 1 == 1 { -512 } else { 512 };
                for column in 0..8 {
                    block[usize::from(PLACES[row * 8 + column])] = value;
                }
            }
            assert_eq!(Shuffles::detect().samples(&block), samples(&block), "{signs}");
        }
    }
}
