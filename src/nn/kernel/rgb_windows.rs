//! The 3 x 3 windows of the pixels of colour images, for W-Net's first convolution.

use crate::nn::Vector;

/// Values of a window.
const WINDOW: usize = 27;
/// Values of a row of a window: three pixels of three channels.
const RUN: usize = 9;
/// Values of a window and the zeros behind it.
const OUT: usize = 32;
/// Values that are read behind the last pixel's.
pub const BEHIND: usize = 32;

/// Writes the windows of the pixels of a row, each followed by five zeros. `from` has the row above, the row itself and
/// the row below, with a pixel before and one behind; they start `line` apart and are followed by [`BEHIND`] values.
pub fn rgb_windows(vector: Vector, from: &[u16], line: usize, out: &mut [u16]) {
    let whole = out.len() / (8 * OUT) * 8;
    let done = {
        #[cfg(target_arch = "x86_64")]
        if let Vector::Best(pulp::Arch::V4(v4)) = vector {
            pulp::Simd::vectorize(v4, wide::Windows { v4, from, line, out: &mut out[..whole * OUT] });
            whole
        } else {
            0
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            let _ = (vector, whole);
            0
        }
    };
    for (x, out) in out.as_chunks_mut::<OUT>().0.iter_mut().enumerate().skip(done) {
        for (ky, run) in out[..WINDOW].as_chunks_mut::<RUN>().0.iter_mut().enumerate() {
            *run = *from[ky * line + 3 * x..].first_chunk().expect("three pixels are left");
        }
        out[WINDOW..].fill(0);
    }
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use super::{OUT, RUN, WINDOW};
    use pulp::cast;
    use pulp::x86::V4;
    use std::arch::x86_64::__m512i;

    /// For each of eight neighbours, which values of the first two rows make the first part of its window.
    const UPPER: [[u16; OUT]; 8] = positions(0, RUN);
    /// Which values of that and of the third row make the whole.
    const LOWER: [[u16; OUT]; 8] = positions(2 * RUN, 2 * RUN);

    /// Place `i` comes from the first vector, or from the second (whose places follow the first's) where it is in the
    /// second part. Before `kept` the places stay, if any do.
    const fn positions(kept: usize, split: usize) -> [[u16; OUT]; 8] {
        let mut all = [[0; OUT]; 8];
        let mut p = 0;
        while p < 8 {
            let mut i = 0;
            while i < WINDOW {
                all[p][i] = if i < kept {
                    i
                } else if i < split {
                    3 * p + i
                } else {
                    (OUT + 3 * p + i - split) % (2 * OUT)
                } as u16;
                i += 1;
            }
            p += 1;
        }
        all
    }

    pub struct Windows<'a> {
        pub v4: V4,
        pub from: &'a [u16],
        pub line: usize,
        pub out: &'a mut [u16],
    }

    impl pulp::NullaryFnOnce for Windows<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self { v4, from, line, out } = self;
            let f = v4.avx512bw;
            let load = |values: &[u16; OUT]| cast::<[u16; OUT], __m512i>(*values);
            for (group, out) in out.as_chunks_mut::<{ 8 * OUT }>().0.iter_mut().enumerate() {
                let row = |ky: usize| {
                    let start = ky * line + 3 * 8 * group;
                    load(from[start..].first_chunk().expect("values behind the last pixel"))
                };
                let [above, own, below] = [row(0), row(1), row(2)];
                for (p, out) in out.as_chunks_mut::<OUT>().0.iter_mut().enumerate() {
                    let upper = f._mm512_permutex2var_epi16(above, load(&UPPER[p]), own);
                    let window = f._mm512_maskz_permutex2var_epi16((1 << WINDOW) - 1, upper, load(&LOWER[p]), below);
                    *out = cast(window);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_window_has_its_three_rows() {
        let (width, line) = (21, 3 * 23);
        let from: Vec<u16> = (0..3 * line + BEHIND).map(|i| i as u16 + 1).collect();
        for vector in Vector::available() {
            let mut out = vec![7; width * OUT];
            rgb_windows(vector, &from, line, &mut out);
            for (x, window) in out.chunks_exact(OUT).enumerate() {
                let rows = (0..3).flat_map(|ky| (0..RUN).map(move |i| (ky, i)));
                let expected: Vec<u16> = rows.map(|(ky, i)| from[ky * line + 3 * x + i]).collect();
                assert_eq!((&window[..WINDOW], &window[WINDOW..]), (&expected[..], &[0; 5][..]), "{x}, {vector:?}");
            }
        }
    }
}
