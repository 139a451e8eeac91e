//! Convolutions of any size and stride as matrix products, for ResNet.
//!
//! An image is copied into a frame of zeros once; on the way, the batch normalisation and ReLU before the convolution
//! are computed, so that only the values before the normalisation are kept. The window of each output pixel is then a
//! row of a matrix, whose values lie in the frame: `kernel` runs of `kernel * c_in`. The same product with the filters
//! turned by half a turn gives the gradient of the input; for strides, the pixels of each parity are computed
//! separately. Convolutions of 3 x 3 pixels and stride 1 take fewer products: see [`conv2d_winograd`].
//!
//! Activations are `[n, h, w, c]`, filters `[kernel, kernel, c_in, c_out]`.

use super::conv2d_shape::Conv2d;
use super::frame::{Frame, Input};
use super::gemm::{Gemm, GemmTransposed, Packed, Rows, TILE_ROWS};
use super::{conv2d_bf16, conv2d_winograd};
use crate::nn::{Precision, Vector};
use rayon::prelude::*;
use std::cell::RefCell;

thread_local! {
    static FRAME: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Values in a framed band, which is to stay in the second-level cache together with a panel of filters.
const BAND: usize = 1 << 16;

/// `y = conv(input)`, `[n, out_h, out_w, c_out]`. `moments`, `[n, 2, c_out]`, receives the sum and the sum of squares
/// of each image's channels; where several
/// images are computed together, the first of them has the sums of all.
pub fn forward(vector: Vector, conv: Conv2d, input: Input, weight: &[f32], y: &mut [f32], moments: Option<&mut [f32]>) {
    if conv.precision == Precision::Bf16 {
        return conv2d_bf16::forward(vector, conv, input, weight, y, moments);
    }
    if conv2d_winograd::supports(conv) {
        return conv2d_winograd::forward(vector, conv, input, weight, y, moments);
    }
    let packed = Packed::new(vector, weight, conv.c_out);
    conv.for_each_image(y, moments, |image, y, mut moments| {
        for band in bands(conv, image) {
            band.with_windows(vector, input, |a, c_starts| {
                let (b, c, moments) = (&packed, &mut *y, moments.as_deref_mut());
                vector.run(Gemm { a, b, matrix: 0, c, c_starts, add: false, moments });
            });
        }
    });
}

/// Rows `first..first + rows` of an image's output.
#[derive(Clone, Copy)]
struct Band {
    conv: Conv2d,
    image: usize,
    first: usize,
    rows: usize,
}

/// The bands of an image.
fn bands(conv: Conv2d, image: usize) -> impl Iterator<Item = Band> {
    let row = (conv.w + 2 * conv.pad) * conv.c_in * conv.stride;
    let rows = (BAND / row).clamp(1, conv.out_h());
    let bands = (0..conv.out_h()).step_by(rows);
    bands.map(move |first| Band { conv, image, first, rows: rows.min(conv.out_h() - first) })
}

impl Band {
    /// Calls `work` with the window of each output pixel of the band, and where the pixel's channels start in the
    /// image's output.
    fn with_windows(self, vector: Vector, input: Input, work: impl FnOnce(Rows, &[usize])) {
        let Band { conv, image, first, rows } = self;
        let Conv2d { h, w, c_in: c, c_out, kernel, stride, pad, .. } = conv;
        let (columns, out_w, start) = (w + 2 * pad, conv.out_w(), image * conv.x_len());
        let pixels = (0..rows).flat_map(|y| (0..out_w).map(move |x| (y, x)));
        let mut starts: Vec<usize> = pixels.clone().map(|(y, x)| (y * columns + x) * stride * c).collect();
        let out_starts: Vec<usize> = pixels.map(|(y, x)| ((first + y) * out_w + x) * c_out).collect();
        FRAME.with_borrow_mut(|framed| {
            let first = first * stride;
            let data = match input {
                // Without padding there is nothing to frame.
                Input::Plain(x) if pad == 0 => {
                    starts.iter_mut().for_each(|s| *s += start + first * w * c);
                    x
                }
                _ => {
                    framed.resize(((rows - 1) * stride + kernel) * columns * c, 0.0);
                    vector.run(Frame { input, start, h, w, c, pad, first, columns, framed });
                    framed.as_slice()
                }
            };
            work(Rows { data, starts: &starts, run: kernel * c, stride: columns * c }, &out_starts);
        });
    }
}

/// The filters' rows `rows` and columns `columns` (in this order) with `c_in` and `c_out` exchanged: one matrix
/// `[rows * columns * c_out, c_in]`.
fn pack_turned(vector: Vector, conv: Conv2d, weight: &[f32], rows: &[usize], columns: &[usize]) -> Packed {
    let Conv2d { c_in, c_out, kernel, .. } = conv;
    let depth = rows.len() * columns.len() * c_out;
    Packed::from_panels(vector, depth, c_in, 1, |first, width, panel| {
        let taps = rows.iter().flat_map(|ky| columns.iter().map(move |kx| ky * kernel + kx));
        for (tap, out) in taps.zip(panel.chunks_exact_mut(c_out * width)) {
            let filters = &weight[(tap * c_in + first) * c_out..][..width * c_out];
            for (i, filter) in filters.chunks_exact(c_out).enumerate() {
                for (out, w) in out[i..].iter_mut().step_by(width).zip(filter) {
                    *out = *w;
                }
            }
        }
    })
}

/// The input pixels of one parity of row and column, and what their gradient is computed from.
struct Parity {
    packed: Packed,
    /// Values in a row of the windows.
    run: usize,
    starts: Vec<usize>,
    c_starts: Vec<usize>,
}

/// Adds the gradient of the input, `[n, h, w, c_in]`, to `dx`; `dy` is the gradient of the output.
pub fn backward_input(vector: Vector, conv: Conv2d, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
    if conv.precision == Precision::Bf16 {
        return conv2d_bf16::backward_input(vector, conv, dy, weight, dx);
    }
    if conv2d_winograd::supports(conv) {
        return conv2d_winograd::backward_input(vector, conv, dy, weight, dx);
    }
    // How far windows reach beyond the border of the output.
    let pad = conv.kernel - 1 - conv.pad;
    let (h, w, c) = (conv.out_h(), conv.out_w(), conv.c_out);
    let columns = w + 2 * pad;
    let parities = parities(vector, conv, weight, pad);
    dx.par_chunks_mut(conv.x_len()).enumerate().for_each(|(image, dx)| {
        FRAME.with_borrow_mut(|framed| {
            let start = image * conv.y_len();
            let data = if pad == 0 {
                &dy[start..][..conv.y_len()]
            } else {
                framed.resize((h + 2 * pad) * columns * c, 0.0);
                let input = Input::Plain(dy);
                vector.run(Frame { input, start, h, w, c, pad, first: 0, columns, framed });
                framed.as_slice()
            };
            for Parity { packed, run, starts, c_starts } in &parities {
                let a = Rows { data, starts, run: *run, stride: columns * c };
                vector.run(Gemm { a, b: packed, matrix: 0, c: dx, c_starts, add: true, moments: None });
            }
        });
    });
}

/// The parities of the input's pixels, where the output's gradient is framed by `frame` pixels.
fn parities(vector: Vector, conv: Conv2d, weight: &[f32], frame: usize) -> Vec<Parity> {
    let Conv2d { h, w, c_in, c_out, kernel, stride, pad, .. } = conv;
    let line = (conv.out_w() + 2 * frame) * c_out;
    // For a parity of rows (or columns): the rows of the filters that reach such a row, last first, and the distance
    // from the input's row, divided by the stride, to the first of the output's rows.
    let taps = |parity: usize| -> (Vec<usize>, isize) {
        let taps: Vec<usize> =
            (0..kernel).rev().filter(|k| (parity + pad + stride - k % stride).is_multiple_of(stride)).collect();
        let shift = taps.first().map_or(0, |k| (parity as isize + pad as isize - *k as isize) / stride as isize);
        (taps, shift)
    };
    let at = |i: usize, shift: isize| ((i / stride + frame) as isize + shift) as usize;
    let mut parities = Vec::new();
    for (py, px) in (0..stride).flat_map(|py| (0..stride).map(move |px| (py, px))) {
        let ((rows, sy), (columns, sx)) = (taps(py), taps(px));
        if rows.is_empty() || columns.is_empty() {
            continue;
        }
        let pixels = (py..h).step_by(stride).flat_map(|y| (px..w).step_by(stride).map(move |x| (y, x)));
        parities.push(Parity {
            packed: pack_turned(vector, conv, weight, &rows, &columns),
            run: columns.len() * c_out,
            starts: pixels.clone().map(|(y, x)| at(y, sy) * line + at(x, sx) * c_out).collect(),
            c_starts: pixels.map(|(y, x)| (y * w + x) * c_in).collect(),
        });
    }
    parities
}

/// Pixels whose products are summed before the next tile of the gradient.
const PIXELS: usize = 128;

/// The gradient of the filters, `[kernel, kernel, c_in, c_out]`, from the input and the gradient of the output.
pub fn backward_weight(vector: Vector, conv: Conv2d, input: Input, dy: &[f32]) -> Vec<f32> {
    if conv.precision == Precision::Bf16 {
        return conv2d_bf16::backward_weight(vector, conv, input, dy);
    }
    if conv2d_winograd::supports(conv) {
        return conv2d_winograd::backward_weight(vector, conv, input, dy);
    }
    let n = dy.len() / conv.y_len();
    let (depth, columns) = (conv.depth(), conv.c_out);
    let (groups, slices) = conv.gradient_tasks();
    let per_group = n.div_ceil(groups).max(1);
    let groups = n.div_ceil(per_group);
    let slice = depth.div_ceil(TILE_ROWS).div_ceil(slices) * TILE_ROWS;
    let tasks: Vec<(usize, usize)> =
        (0..groups).flat_map(|g| (0..depth).step_by(slice).map(move |first| (g, first))).collect();
    let parts: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(group, from)| {
            let to = (from + slice).min(depth);
            let mut part = vec![0.0; (to - from) * columns];
            for image in group * per_group..n.min((group + 1) * per_group) {
                let d = &dy[image * conv.y_len()..][..conv.y_len()];
                for band in bands(conv, image) {
                    band.with_windows(vector, input, |windows, d_starts| {
                        for (starts, d_starts) in windows.starts.chunks(PIXELS).zip(d_starts.chunks(PIXELS)) {
                            let (a, c) = (Rows { starts, ..windows }, &mut part[..]);
                            vector.run(GemmTransposed { a, d, d_starts, columns, from, to, c });
                        }
                    });
                }
            }
            part
        })
        .collect();
    let mut gradient = vec![0.0; depth * columns];
    let tasks_per_group = tasks.len() / groups;
    gradient.par_chunks_mut(slice * columns).enumerate().for_each(|(s, sum)| {
        for group in 0..groups {
            for (sum, part) in sum.iter_mut().zip(&parts[group * tasks_per_group + s]) {
                *sum += part;
            }
        }
    });
    gradient
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::kernel::bf16::{from_bf16, to_bf16};
    use crate::nn::testing::random;

    /// Calls `each` for every element of the filter at every output pixel, with the positions of the input pixel, of
    /// the element's weights and of the output pixel.
    fn taps(conv: Conv2d, n: usize, mut each: impl FnMut(usize, usize, usize)) {
        let Conv2d { h, w, c_in, c_out, kernel, stride, pad, .. } = conv;
        for image in 0..n {
            for (oy, ox) in (0..conv.out_h()).flat_map(|y| (0..conv.out_w()).map(move |x| (y, x))) {
                for (ky, kx) in (0..kernel).flat_map(|y| (0..kernel).map(move |x| (y, x))) {
                    let (y, x) = ((oy * stride + ky).wrapping_sub(pad), (ox * stride + kx).wrapping_sub(pad));
                    if y < h && x < w {
                        each(
                            image * conv.x_len() + (y * w + x) * c_in,
                            (ky * kernel + kx) * c_in * c_out,
                            image * conv.y_len() + (oy * conv.out_w() + ox) * c_out,
                        );
                    }
                }
            }
        }
    }

    fn assert_close(what: &str, expected: &[f64], actual: &[f32]) {
        assert_eq!(expected.len(), actual.len(), "{what}");
        let scale = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(scale > 0.0, "{what}: all values are 0");
        for (i, (e, a)) in expected.iter().zip(actual).enumerate() {
            assert!((e - f64::from(*a)).abs() < 1e-5 * scale, "{what}[{i}]: {e} and {a} (scale {scale})");
        }
    }

    /// Output, moments and both gradients equal plain loops in double precision, for every kind of convolution in
    /// ResNet50 and for even and odd sizes.
    #[test]
    fn convolutions_equal_their_definition() {
        let cases = [
            // h, w, c_in, c_out, kernel, stride, pad, n
            (9, 7, 32, 64, 1, 1, 0, 3),
            (8, 10, 32, 32, 1, 2, 0, 2),
            (7, 7, 64, 32, 1, 2, 0, 1),
            (9, 8, 32, 32, 3, 1, 1, 2),
            (8, 12, 32, 64, 3, 2, 1, 3),
            (7, 9, 32, 32, 3, 2, 1, 33),
            (1, 1, 64, 32, 3, 1, 1, 4),
            (7, 7, 32, 64, 3, 1, 1, 6),
            (5, 3, 192, 160, 3, 1, 1, 40),
            (50, 60, 64, 32, 3, 1, 1, 1),
            (20, 22, 3, 64, 7, 2, 3, 2),
        ];
        let precisions = [Precision::F32, Precision::Bf16];
        for ((h, w, c_in, c_out, kernel, stride, pad, n), precision) in
            cases.into_iter().flat_map(|case| precisions.map(|precision| (case, precision)))
        {
            let conv = Conv2d { h, w, c_in, c_out, kernel, stride, pad, precision };
            let operand = |value: f32| match precision {
                Precision::F32 | Precision::Tf32 => f64::from(value),
                Precision::Bf16 => f64::from(from_bf16(to_bf16(value))),
            };
            let (x, weight, dy) =
                (random(n * conv.x_len(), 1), random(conv.weight_len(), 2), random(n * conv.y_len(), 3));
            let (scale, shift) = (random(c_in, 4), random(c_in, 5));
            for normalised in [false, true] {
                let activated: Vec<f64> = (x.iter().enumerate())
                    .map(|(i, x)| match normalised {
                        true => operand((scale[i % c_in] * x + shift[i % c_in]).max(0.0)),
                        false => operand(*x),
                    })
                    .collect();
                let (mut y, mut dw) = (vec![0f64; dy.len()], vec![0f64; weight.len()]);
                let mut dx = vec![1f64; x.len()];
                taps(conv, n, |xi, wi, yi| {
                    for i in 0..c_in {
                        for o in 0..c_out {
                            let w = operand(weight[wi + i * c_out + o]);
                            y[yi + o] += activated[xi + i] * w;
                            dx[xi + i] += operand(dy[yi + o]) * w;
                            dw[wi + i * c_out + o] += operand(dy[yi + o]) * activated[xi + i];
                        }
                    }
                });
                let mut moments = vec![0f64; 2 * c_out];
                for (i, v) in y.iter().enumerate() {
                    moments[i % c_out] += v;
                    moments[i % c_out + c_out] += v * v;
                }
                for vector in Vector::available() {
                    let what = format!("{conv:?}, {n} images, normalised {normalised}, {vector:?}");
                    let input = match normalised {
                        true => Input::Normalised { z: &x, scale: &scale, shift: &shift },
                        false => Input::Plain(&x),
                    };
                    let mut actual = vec![0.0; dy.len()];
                    let mut actual_moments = vec![9.0; n * 2 * c_out];
                    forward(vector, conv, input, &weight, &mut actual, Some(&mut actual_moments));
                    assert_close(&format!("y of {what}"), &y, &actual);
                    let mut total = vec![0f32; 2 * c_out];
                    actual_moments.iter().enumerate().for_each(|(i, m)| total[i % (2 * c_out)] += m);
                    assert_close(&format!("moments of {what}"), &moments, &total);
                    assert_close(&format!("dw of {what}"), &dw, &backward_weight(vector, conv, input, &dy));
                    if c_in % 32 == 0 {
                        // The gradient is added to the values that are there.
                        let mut actual = vec![1.0; x.len()];
                        backward_input(vector, conv, &dy, &weight, &mut actual);
                        assert_close(&format!("dx of {what}"), &dx, &actual);
                    }
                }
            }
        }
    }
}
