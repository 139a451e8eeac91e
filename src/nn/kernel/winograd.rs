//! The transforms of Winograd's minimal filtering F(2x2, 3x3): a tile of 2 x 2 outputs takes 16 products per channel
//! instead of 36 (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", equations 7 and 8). The
//! results differ from those of the direct sum by rounding alone.
//!
//! `y = A^T ((G g G^T) * (B^T d B)) A` for the 4 x 4 inputs `d` of a tile and a filter `g`. Over all channels and tiles
//! this makes 16 matrix products, one for each element of the transformed tiles. The gradient of the filters is the
//! transpose, `G^T ((B^T d B) * (A dy A^T)) G`; that of the input is the convolution of `dy` with the filters turned by
//! half a turn.

use super::simd::{load_square, store_square};
use pulp::{Simd, WithSimd};

/// Elements of a transformed tile, and so the number of matrix products.
pub const ELEMENTS: usize = 16;

/// `G g G^T` of filters: `rows` rows of `width` filters each.
pub struct FilterTransform<'a> {
    /// Element `t` (of 3 x 3) of the filters of row `r` starts at `t * tap + r * row`.
    pub weight: &'a [f32],
    pub tap: usize,
    pub row: usize,
    pub rows: usize,
    pub width: usize,
    /// `[16, rows, width]`
    pub out: &'a mut [f32],
}

impl WithSimd for FilterTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FilterTransform { weight, tap, row, rows, width, out } = self;
        let plane = rows * width;
        for r in 0..rows {
            for column in (0..width).step_by(S::F32_LANES) {
                let g = load_square::<S, 3>(simd, weight, r * row + column, 3 * tap, tap);
                store_square::<S, 4>(out, r * width + column, 4 * plane, plane, filter(simd, g));
            }
        }
    }
}

/// `G^T u G`, the gradient of the filters: `[16, plane]` → `[9, plane]`.
pub struct FilterGradient<'a> {
    pub products: &'a [f32],
    pub out: &'a mut [f32],
}

impl WithSimd for FilterGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let FilterGradient { products, out } = self;
        let plane = products.len() / ELEMENTS;
        for at in (0..plane).step_by(S::F32_LANES) {
            let u = load_square::<S, 4>(simd, products, at, 4 * plane, plane);
            store_square::<S, 3>(out, at, 3 * plane, plane, filter_gradient(simd, u));
        }
    }
}

/// `G g G^T`.
#[inline(always)]
fn filter<S: Simd>(simd: S, g: [[S::f32s; 3]; 3]) -> [[S::f32s; 4]; 4] {
    let mut t = [[g[0][0]; 4]; 3];
    for c in 0..3 {
        t[c] = filter_column(simd, [g[0][c], g[1][c], g[2][c]]);
    }
    let mut u = [t[0]; 4];
    for r in 0..4 {
        u[r] = filter_column(simd, [t[0][r], t[1][r], t[2][r]]);
    }
    u
}

/// `G g` of one column.
#[inline(always)]
fn filter_column<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 4] {
    let half = simd.splat_f32s(0.5);
    let (ends, middle) = (simd.mul_f32s(half, simd.add_f32s(g[0], g[2])), simd.mul_f32s(half, g[1]));
    [g[0], simd.add_f32s(ends, middle), simd.sub_f32s(ends, middle), g[2]]
}

/// `G^T u G`.
#[inline(always)]
fn filter_gradient<S: Simd>(simd: S, u: [[S::f32s; 4]; 4]) -> [[S::f32s; 3]; 3] {
    let mut t = [[u[0][0]; 3]; 4];
    for c in 0..4 {
        t[c] = filter_gradient_column(simd, [u[0][c], u[1][c], u[2][c], u[3][c]]);
    }
    let mut g = [t[0]; 3];
    for r in 0..3 {
        g[r] = filter_gradient_column(simd, [t[0][r], t[1][r], t[2][r], t[3][r]]);
    }
    g
}

/// `G^T u` of one column.
#[inline(always)]
fn filter_gradient_column<S: Simd>(simd: S, u: [S::f32s; 4]) -> [S::f32s; 3] {
    let half = simd.splat_f32s(0.5);
    let sum = simd.mul_f32s(half, simd.add_f32s(u[1], u[2]));
    let difference = simd.mul_f32s(half, simd.sub_f32s(u[1], u[2]));
    [simd.add_f32s(u[0], sum), difference, simd.add_f32s(sum, u[3])]
}

/// `B^T d B`, for the inputs of a tile.
#[inline(always)]
pub fn input<S: Simd>(simd: S, d: [[S::f32s; 4]; 4]) -> [[S::f32s; 4]; 4] {
    let mut t = d;
    for c in 0..4 {
        t[0][c] = simd.sub_f32s(d[0][c], d[2][c]);
        t[1][c] = simd.add_f32s(d[1][c], d[2][c]);
        t[2][c] = simd.sub_f32s(d[2][c], d[1][c]);
        t[3][c] = simd.sub_f32s(d[1][c], d[3][c]);
    }
    let mut transformed = t;
    for r in 0..4 {
        transformed[r] = [
            simd.sub_f32s(t[r][0], t[r][2]),
            simd.add_f32s(t[r][1], t[r][2]),
            simd.sub_f32s(t[r][2], t[r][1]),
            simd.sub_f32s(t[r][1], t[r][3]),
        ];
    }
    transformed
}

/// `A^T m A`, which gives the outputs of a tile.
#[inline(always)]
pub fn output<S: Simd>(simd: S, m: [[S::f32s; 4]; 4]) -> [[S::f32s; 2]; 2] {
    let mut t = [m[0]; 2];
    for c in 0..4 {
        t[0][c] = simd.add_f32s(m[0][c], simd.add_f32s(m[1][c], m[2][c]));
        t[1][c] = simd.sub_f32s(simd.sub_f32s(m[1][c], m[2][c]), m[3][c]);
    }
    let mut y = [[t[0][0]; 2]; 2];
    for r in 0..2 {
        y[r][0] = simd.add_f32s(t[r][0], simd.add_f32s(t[r][1], t[r][2]));
        y[r][1] = simd.sub_f32s(simd.sub_f32s(t[r][1], t[r][2]), t[r][3]);
    }
    y
}

/// `A d A^T`, for the gradient of a tile's outputs.
#[inline(always)]
pub fn output_gradient<S: Simd>(simd: S, d: [[S::f32s; 2]; 2]) -> [[S::f32s; 4]; 4] {
    let left = output_gradient_column(simd, d[0][0], d[1][0]);
    let right = output_gradient_column(simd, d[0][1], d[1][1]);
    let mut transformed = [left; 4];
    for r in 0..4 {
        transformed[r] = output_gradient_column(simd, left[r], right[r]);
    }
    transformed
}

/// `A d` of one column.
#[inline(always)]
fn output_gradient_column<S: Simd>(simd: S, a: S::f32s, b: S::f32s) -> [S::f32s; 4] {
    [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), simd.neg_f32s(b)]
}
