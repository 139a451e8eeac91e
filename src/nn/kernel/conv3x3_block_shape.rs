//! The shape of a block of convolution and pooling, its gradients, and how a window is pooled.

use super::dropout::{Dropout, hash};
use crate::nn::Precision;

/// Output channels must be a multiple of this.
pub const PANEL: usize = 16;

/// Code of a pooled value that has no gradient, because it is 0 or dropped. The others have codes 0 to 3: which pixel
/// of the 2 x 2 window was the largest.
pub(super) const NO_GRADIENT: u8 = 4;

/// Shape of a block: the input is `[n, h, w, c_in]`, the output `[n, h / 2, w / 2, c_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockShape {
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels, a multiple of [`PANEL`].
    pub c_out: usize,
    /// Of the products.
    pub precision: Precision,
}

impl BlockShape {
    /// Values in an input image.
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.c_in
    }

    /// Height of the output.
    pub fn out_h(&self) -> usize {
        self.h / 2
    }

    /// Width of the output.
    pub fn out_w(&self) -> usize {
        self.w / 2
    }

    /// Values in an output image.
    pub fn y_len(&self) -> usize {
        self.out_h() * self.out_w() * self.c_out
    }

    /// Values in the filters `[3, 3, c_in, c_out]`.
    pub fn weight_len(&self) -> usize {
        9 * self.c_in * self.c_out
    }
}

/// `dropout(relu(max(window) + bias))` of `W` channels and their codes; `window` has the 2 x 2 pixels of a window, row
/// by row, and `out` is the position of the values.
#[inline(always)]
pub(super) fn pool<const W: usize>(
    window: &[[f32; W]; 4],
    bias: &[f32; W],
    dropout: Option<(Dropout, u64, usize)>,
    out: usize,
) -> ([f32; W], [u8; W]) {
    let (threshold, key, base, scale) = match dropout {
        Some((d, key, base)) => (d.threshold(), key, base, d.scale()),
        None => (0, 0, 0, 1.0),
    };
    let mut best = window[0];
    let mut code = [0u32; W];
    for (k, lanes) in window.iter().enumerate().skip(1) {
        for l in 0..W {
            let larger = lanes[l] > best[l];
            best[l] = if larger { lanes[l] } else { best[l] };
            code[l] = if larger { k as u32 } else { code[l] };
        }
    }
    let (mut values, mut codes) = ([0f32; W], [0u8; W]);
    for l in 0..W {
        let value = best[l] + bias[l];
        let kept = hash(key, (base + out + l) as u32) >= threshold;
        let has_gradient = (value > 0.0) & kept;
        values[l] = if has_gradient { value * scale } else { 0.0 };
        codes[l] = if has_gradient { code[l] as u8 } else { NO_GRADIENT };
    }
    (values, codes)
}

/// Gradients of a block's parameters.
pub struct Gradients {
    /// `[3, 3, c_in, c_out]`
    pub weight: Vec<f32>,
    /// `[c_out]`
    pub bias: Vec<f32>,
}
