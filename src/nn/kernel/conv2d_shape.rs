//! The shape of a convolution, and how its work is divided.

use crate::nn::Precision;
use rayon::prelude::*;

/// A convolution of images `[h, w, c_in]` with filters `[kernel, kernel, c_in, c_out]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Side of the filters.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Zeros on every side of the input, in pixels.
    pub pad: usize,
    /// Of the products, forward and backward.
    pub precision: Precision,
}

/// Filters with more weights than this are divided among threads, smaller ones are summed for more groups of images.
const LARGE: usize = 1 << 18;

impl Conv2d {
    /// Height of the output.
    pub fn out_h(&self) -> usize {
        (self.h + 2 * self.pad - self.kernel) / self.stride + 1
    }

    /// Width of the output.
    pub fn out_w(&self) -> usize {
        (self.w + 2 * self.pad - self.kernel) / self.stride + 1
    }

    /// Values in an input image.
    pub fn x_len(&self) -> usize {
        self.h * self.w * self.c_in
    }

    /// Values in an output image.
    pub fn y_len(&self) -> usize {
        self.out_h() * self.out_w() * self.c_out
    }

    /// Values in the filters.
    pub fn weight_len(&self) -> usize {
        self.depth() * self.c_out
    }

    /// Input values under a filter.
    pub fn depth(&self) -> usize {
        self.kernel * self.kernel * self.c_in
    }

    /// Calls `work` with the index of each image, its output in `y` and, where they are wanted, its moments (`[2,
    /// c_out]`), set to 0.
    pub(super) fn for_each_image(
        &self,
        y: &mut [f32],
        moments: Option<&mut [f32]>,
        work: impl Fn(usize, &mut [f32], Option<&mut [f32]>) + Sync,
    ) {
        let images = y.par_chunks_mut(self.y_len()).enumerate();
        match moments {
            Some(moments) => {
                images.zip(moments.par_chunks_mut(2 * self.c_out)).for_each(|((image, y), moments)| {
                    moments.fill(0.0);
                    work(image, y, Some(moments));
                });
            }
            None => images.for_each(|(image, y)| work(image, y, None)),
        }
    }

    /// How the gradient of the filters is divided into tasks: the number of groups of images, and of slices of the
    /// filters. It depends on the shape alone.
    pub(super) fn gradient_tasks(&self) -> (usize, usize) {
        if self.weight_len() > LARGE { (2, 8) } else { (16, 1) }
    }
}
