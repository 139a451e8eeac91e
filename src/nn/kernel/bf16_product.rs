//! Products of matrices of bf16, with sums in `f32`.
//!
//! The products of two such numbers are exact in `f32`, so that only the [`Order`] of the sums matters, and that is
//! given by the processor's instructions ([`bf16_units`](super::bf16_units)). Processors without such instructions
//! compute the same in `f32`.

use super::bf16::{BLOCK, PACKED_STEP, Rows, STEP, Segment, Sums, TILE, from_bf16};
use super::bf16_units::{Matrix, Pairs};
use super::simd::{multiply_add, vectors, vectors_mut};
use crate::nn::Vector;
use pulp::{Simd, WithSimd};

/// The order in which products are summed, each time with one rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// That of Intel's matrix unit (AMX): of 32 products in a row, those at even and those at odd places are summed
    /// apart, each from 0; then both sums are added, and their sum to the total.
    Matrix,
    /// That of AVX-512's instruction for bf16: of each pair of products, first the second is added to the total.
    Pairs,
}

/// What computes blocks of sums on this thread.
pub enum Blocks {
    /// The processor's matrix unit.
    Matrix(Matrix),
    /// AVX-512's instruction for bf16.
    Pairs(Pairs),
    /// The same in `f32`.
    Plain(Vector, Order),
}

impl Blocks {
    /// The fastest that this machine has, unless `vector` is not the widest: tests take it to cover the others.
    pub fn new(vector: Vector) -> Self {
        if vector.lanes() < 16 {
            return Self::Plain(vector, Self::order());
        }
        match (Matrix::new(), Pairs::new()) {
            (Some(matrix), _) => Self::Matrix(matrix),
            (None, Some(pairs)) => Self::Pairs(pairs),
            (None, None) => Self::Plain(vector, Order::Pairs),
        }
    }

    /// What computes them on this machine, if its processor has instructions for bf16.
    pub fn instructions() -> Option<&'static str> {
        match (Matrix::available(), Pairs::new()) {
            (true, _) => Some("the matrix unit"),
            (false, Some(_)) => Some("AVX-512"),
            (false, None) => None,
        }
    }

    /// The order of this machine's sums.
    pub fn order() -> Order {
        if Matrix::available() { Order::Matrix } else { Order::Pairs }
    }

    /// `c = a b` or, with `add`, `c += a b`, for a block of 32 x 32 sums.
    ///
    /// For each segment, a row of `a` consists of `32 * steps` values, `segment.a` behind its start; the values of `b`
    /// from `segment.b` are [packed](packed_position): `steps` times `[2, 16, 16, 2]`.
    ///
    /// # Panics
    /// Where a segment reaches beyond `a` or `b`.
    pub fn multiply(&self, a: Rows, b: &[u16], segments: &[Segment], steps: usize, c: &mut Sums, add: bool) {
        for segment in segments {
            let end = segment.a + a.start(BLOCK - 1) + steps * STEP;
            assert!(end <= a.values.len(), "a row of a block lies outside the matrix");
            assert!(segment.b + steps * PACKED_STEP <= b.len(), "a panel lies outside the packed matrix");
        }
        if let Blocks::Matrix(unit) = self {
            return unit.multiply(a, b, segments, steps, c, add);
        }
        if !add {
            c.0.fill(0.0);
        }
        for segment in segments {
            let (a, b) = (Rows { values: &a.values[segment.a..], ..a }, &b[segment.b..][..steps * PACKED_STEP]);
            match self {
                Blocks::Matrix(_) => {}
                Blocks::Pairs(unit) => unit.add(a, b, c),
                Blocks::Plain(vector, order) => vector.run(Plain { a, b, c: &mut c.0, order: *order }),
            }
        }
    }
}

/// Adds the products of one segment to a block.
struct Plain<'a> {
    a: Rows<'a>,
    b: &'a [u16],
    c: &'a mut [f32; BLOCK * BLOCK],
    order: Order,
}

impl WithSimd for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.steps::<S, 4, 2>(simd),
            8 => self.steps::<S, 1, 4>(simd),
            4 => self.steps::<S, 1, 8>(simd),
            _ => self.steps::<S, 1, 32>(simd),
        }
    }
}

impl Plain<'_> {
    /// `R` rows by the `V` vectors of a block at a time.
    #[inline(always)]
    fn steps<S: Simd, const R: usize, const V: usize>(self, simd: S) {
        // The values of a step in `f32`: [32, 32].
        let mut rows = [[0f32; STEP]; BLOCK];
        let mut columns = [[0f32; BLOCK]; STEP];
        let zero = [[simd.splat_f32s(0.0); V]; R];
        for (step, b) in self.b.chunks_exact(PACKED_STEP).enumerate() {
            for (r, row) in rows.iter_mut().enumerate() {
                let a = &self.a.values[self.a.start(r) + step * STEP..];
                let a: &[u16; STEP] = a.first_chunk().expect("a row is long enough");
                for k in 0..STEP {
                    row[k] = from_bf16(a[k]);
                }
            }
            for (tile, b) in b.chunks_exact(STEP * TILE).enumerate() {
                for (pair, b) in b.chunks_exact(2 * TILE).enumerate() {
                    for column in 0..TILE {
                        columns[2 * pair][tile * TILE + column] = from_bf16(b[2 * column]);
                        columns[2 * pair + 1][tile * TILE + column] = from_bf16(b[2 * column + 1]);
                    }
                }
            }
            for r in (0..BLOCK).step_by(R) {
                // The sums of even and odd places, or one sum of both.
                let (mut even, mut odd) = (zero, zero);
                if self.order == Order::Pairs {
                    for i in 0..R {
                        even[i] = *vectors::<S, V>(&self.c[(r + i) * BLOCK..]);
                    }
                }
                for pair in 0..STEP / 2 {
                    let [at_even, at_odd] = [2 * pair, 2 * pair + 1];
                    for i in 0..R {
                        let column = vectors::<S, V>(&columns[at_odd]);
                        let sums = if self.order == Order::Pairs { &mut even[i] } else { &mut odd[i] };
                        multiply_add(simd, rows[r + i][at_odd], column, sums);
                        multiply_add(simd, rows[r + i][at_even], vectors::<S, V>(&columns[at_even]), &mut even[i]);
                    }
                }
                for i in 0..R {
                    let c = vectors_mut::<S, V>(&mut self.c[(r + i) * BLOCK..]);
                    for v in 0..V {
                        c[v] = match self.order {
                            Order::Matrix => simd.add_f32s(c[v], simd.add_f32s(even[i][v], odd[i][v])),
                            Order::Pairs => even[i][v],
                        };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bf16::{packed_position, to_bf16};
    use super::*;
    use crate::nn::testing::random;

    /// The matrix unit and every vector give the same bytes, which equal sums in double precision but for rounding.
    #[test]
    fn blocks_are_the_same_bytes_on_every_unit() {
        let cases = [(32, 512, 1, 1, false), (64, 1024, 2, 3, true), (7, 900, 3, 2, false), (200, 3200, 5, 1, true)];
        for (row, lower, steps, count, add) in cases {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let len = 40 * count + lower + 15 * row + steps * STEP;
            a.extend(random(len, 1).into_iter().map(to_bf16));
            b.extend(random(count * steps * PACKED_STEP, 2).into_iter().map(to_bf16));
            let segments: Vec<Segment> =
                (0..count).map(|s| Segment { a: 40 * s, b: s * steps * PACKED_STEP }).collect();
            let start = Sums(random(BLOCK * BLOCK, 3).try_into().unwrap());
            let run = |blocks: Blocks| {
                let mut c = start.clone();
                blocks.multiply(Rows { values: &a, row, lower }, &b, &segments, steps, &mut c, add);
                c
            };
            for order in [Order::Matrix, Order::Pairs] {
                let expected = run(Blocks::Plain(Vector::detect(), order));
                for (at, value) in expected.0.iter().enumerate() {
                    let (r, column) = (at / BLOCK, at % BLOCK);
                    let mut sum = if add { f64::from(start.0[at]) } else { 0.0 };
                    for segment in &segments {
                        for k in 0..steps * STEP {
                            let left = from_bf16(a[segment.a + r / 16 * lower + r % 16 * row + k]);
                            sum += f64::from(left) * f64::from(from_bf16(b[segment.b + packed_position(k, column)]));
                        }
                    }
                    assert!((sum - f64::from(*value)).abs() < 1e-4, "{sum} and {value}");
                }
                for vector in Vector::available() {
                    assert_eq!(run(Blocks::Plain(vector, order)), expected, "{vector:?}, {order:?}, {row}, {steps}");
                }
                let unit = match order {
                    Order::Matrix => Matrix::new().map(Blocks::Matrix),
                    Order::Pairs => Pairs::new().map(Blocks::Pairs),
                };
                match unit {
                    Some(unit) => assert_eq!(run(unit), expected, "{order:?}, {row}, {steps}"),
                    None => println!("skipped: this processor has no instructions for {order:?}"),
                }
            }
        }
    }

    /// A thread that holds a unit may be given other work that makes and drops one of its own.
    #[test]
    fn a_unit_outlives_another_of_its_thread() {
        let (a, b) = (vec![0x3f80; BLOCK * STEP], vec![0x3f80; PACKED_STEP]);
        let mut c = Sums::ZERO;
        let unit = Blocks::new(Vector::detect());
        drop(Blocks::new(Vector::detect()));
        unit.multiply(Rows::new(&a, STEP), &b, &[Segment { a: 0, b: 0 }], 1, &mut c, false);
        assert!(c.0.iter().all(|sum| *sum == STEP as f32), "{c:?}");
    }
}
