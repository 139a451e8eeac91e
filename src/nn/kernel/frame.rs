//! Images inside a frame of zeros, so that a convolution need not treat the borders apart.

use pulp::{Simd, WithSimd};

/// The input of a convolution, `[n, h, w, c]`.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// The values themselves.
    Plain(&'a [f32]),
    /// `relu(scale * z + shift)`: a batch normalisation that is computed while the frame is filled.
    Normalised {
        /// `[n, h, w, c]`
        z: &'a [f32],
        /// `[c]`
        scale: &'a [f32],
        /// `[c]`
        shift: &'a [f32],
    },
}

impl<'a> Input<'a> {
    /// What is stored.
    pub fn values(&self) -> &'a [f32] {
        match self {
            Input::Plain(x) => x,
            Input::Normalised { z, .. } => z,
        }
    }
}

/// Fills `framed`, `[rows, columns, c]`, with rows of an image and zeros around it.
pub struct Frame<'a> {
    pub input: Input<'a>,
    /// Position of the image's first value in `input`.
    pub start: usize,
    /// Height of the image.
    pub h: usize,
    /// Width of the image.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Zeros above and to the left of the image, in pixels.
    pub pad: usize,
    /// The first row of the framed image to copy; row 0 is the top of the frame.
    pub first: usize,
    /// Width of the framed image.
    pub columns: usize,
    pub framed: &'a mut [f32],
}

impl WithSimd for Frame<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Frame { input, start, h, w, c, pad, first, columns, framed } = self;
        for (r, out) in framed.chunks_exact_mut(columns * c).enumerate() {
            let y = (first + r).wrapping_sub(pad);
            if y >= h {
                out.fill(0.0);
                continue;
            }
            out[..pad * c].fill(0.0);
            out[(pad + w) * c..].fill(0.0);
            let out = &mut out[pad * c..][..w * c];
            let source = &input.values()[start + y * w * c..][..w * c];
            match input {
                Input::Plain(_) => out.copy_from_slice(source),
                Input::Normalised { scale, shift, .. } => {
                    for (out, z) in out.chunks_exact_mut(c).zip(source.chunks_exact(c)) {
                        for (((out, z), scale), shift) in out.iter_mut().zip(z).zip(scale).zip(shift) {
                            *out = (scale * z + shift).max(0.0);
                        }
                    }
                }
            }
        }
    }
}
