//! Layers on a CUDA device, forward and backward, and steps of the optimisers. Arrays are given by where they start on
//! the device; `[rows, c]` are activations `[n, h, w, c]` with `n * h * w` rows. Activations and their gradients are
//! stored as [`Gpu::stored`] says, images and everything else as `f32`; c is a multiple of 4, in normalisations of 64.

use super::gpu::{Activations, Array, DropoutArgument, Floats, Gpu, Result, Stored, offset};
use crate::nn::kernel::{AdamStep, Conv2d};
use crate::nn::optim::Sgd;
use cudarc::cublas::{
    self, sys::cublasComputeType_t, sys::cublasGemmAlgo_t, sys::cublasOperation_t, sys::cudaDataType,
};
use cudarc::driver::{CudaFunction, DeviceRepr, LaunchAsync, LaunchConfig};
use std::ffi::c_void;

/// What the backward pass of pooling needs: where each value came from.
pub type Codes = Array<u8>;

/// Threads of a block.
const BLOCK: usize = 256;
/// Threads of a block that sums: `LANES` in `kernels.cu`.
const LANES: u32 = 128;
/// Channels that one thread of the first block computes: `GROUP` in `kernels.cu`.
const GROUP: usize = 16;
/// Threads of a block that sums rows, and the channels that it sums: from `SIDE` in `kernels.cu`.
const SUMMING: u32 = 256;
const SUMMED: usize = 64;
/// At most how many blocks sum rows: enough to fill the device.
const SUMMING_BLOCKS: usize = 1024;
/// About how many threads a sum over rows without such blocks is divided among.
const SUMMING_THREADS: usize = 1 << 16;
/// Matrix products with fewer blocks of results than this are divided along the values that they sum.
const FILLED: usize = 1024;

/// `Conv` in `kernels.cu`.
#[repr(C)]
struct Conv([u32; 8]);
// SAFETY: it is a plain value of this layout on the device too.
unsafe impl DeviceRepr for Conv {}

/// The arrays of a batch normalisation, and the bias of the convolution before it: `NormArrays` in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct NormArrays {
    pub gamma: u64,
    pub beta: u64,
    pub bias: u64,
    pub running_mean: u64,
    pub running_variance: u64,
}
// SAFETY: as for `Conv`.
unsafe impl DeviceRepr for NormArrays {}

impl Gpu {
    /// Runs a kernel with one thread per value.
    fn launch<P>(&self, kernel: &CudaFunction, len: usize, parameters: P) -> Result<()>
    where
        CudaFunction: LaunchAsync<P>,
    {
        let config = LaunchConfig {
            grid_dim: (len.div_ceil(BLOCK) as u32, 1, 1),
            block_dim: (BLOCK as u32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: each method below passes the parameters that its kernel declares, and arrays of the lengths it needs.
        Ok(unsafe { kernel.clone().launch(config, parameters) }?)
    }

    /// Runs a kernel that sums, with so many blocks of so many threads.
    fn launch_sums<P>(&self, kernel: &CudaFunction, blocks: usize, threads: u32, parameters: P) -> Result<()>
    where
        CudaFunction: LaunchAsync<P>,
    {
        let config = LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: as in `launch`.
        Ok(unsafe { kernel.clone().launch(config, parameters) }?)
    }

    /// `c = a b`, row by row: `[m, k]`, whose rows are `a_width` apart, and `[k, n]`, both stored as `factors`, give
    /// `[m, n]`, stored as `product`.
    pub fn multiply(
        &self,
        [factors, product]: [Stored; 2],
        [m, k, n]: [usize; 3],
        (a, a_width): (u64, usize),
        b: u64,
        c: u64,
    ) -> Result<()> {
        self.gemm([factors, product], [false, false], [n, m, k], (b, n), (a, a_width), (c, n), false)
    }

    /// `c = a bᵀ`, or `c += a bᵀ`: `[m, k]` and `[n, k]` give `[m, n]`, all stored as `stored`.
    pub fn multiply_by_transpose(
        &self,
        stored: Stored,
        [m, k, n]: [usize; 3],
        a: u64,
        b: u64,
        c: u64,
        more: bool,
    ) -> Result<()> {
        self.gemm([stored; 2], [true, false], [n, m, k], (b, k), (a, k), (c, n), more)
    }

    /// `c = aᵀ b`: `[k, m]`, whose rows are `a_width` apart, and `[k, n]`, stored as `factors`, give `[m, n]`, stored
    /// as `f32`.
    pub fn multiply_transpose(
        &self,
        factors: Stored,
        [m, k, n]: [usize; 3],
        (a, a_width): (u64, usize),
        b: u64,
        c: u64,
    ) -> Result<()> {
        let blocks = m.div_ceil(64) * n.div_ceil(64);
        // Few results of many values each: sums of parts, which are then added. With bf16, cuBLAS does so faster.
        let most = if factors == Stored::Bf16 { 1 } else { (FILLED / blocks).clamp(1, k.div_ceil(512)) };
        let parts = (1..=most).rev().find(|parts| k.is_multiple_of(*parts)).unwrap_or(1);
        if parts == 1 {
            return self.gemm([factors, Stored::F32], [false, true], [n, m, k], (b, n), (a, a_width), (c, n), false);
        }
        let (each, sums) = (k / parts, self.floats(parts * m * n)?);
        let (one, zero) = (1f32, 0f32);
        // SAFETY: the lengths are those of the matrices, which whoever calls this knows.
        unsafe {
            cublas::result::sgemm_strided_batched(
                self.blas(),
                cublasOperation_t::CUBLAS_OP_N,
                cublasOperation_t::CUBLAS_OP_T,
                n as i32,
                m as i32,
                each as i32,
                &one,
                b as *const f32,
                n as i32,
                (each * n) as i64,
                a as *const f32,
                a_width as i32,
                (each * a_width) as i64,
                &zero,
                sums.at() as *mut f32,
                n as i32,
                (m * n) as i64,
                parts as i32,
            )?;
        }
        self.sum_rows(Stored::F32, [parts, m * n], sums.at(), c)
    }

    /// cuBLAS's matrix product, column by column: `c = op(a) op(b)` of `[m, k]` and `[k, n]`, each with its stride.
    /// Products are added in `f32`.
    #[allow(clippy::too_many_arguments)]
    fn gemm(
        &self,
        [factors, product]: [Stored; 2],
        transposed: [bool; 2],
        [m, n, k]: [usize; 3],
        (a, lda): (u64, usize),
        (b, ldb): (u64, usize),
        (c, ldc): (u64, usize),
        more: bool,
    ) -> Result<()> {
        let [op_a, op_b] =
            transposed.map(|t| if t { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N });
        let (one, beta) = (1f32, if more { 1f32 } else { 0.0 });
        // SAFETY: the lengths are those of the matrices, which whoever calls this knows.
        unsafe {
            cublas::result::gemm_ex(
                self.blas(),
                op_a,
                op_b,
                m as i32,
                n as i32,
                k as i32,
                (&raw const one).cast(),
                a as *const c_void,
                data_type(factors),
                lda as i32,
                b as *const c_void,
                data_type(factors),
                ldb as i32,
                (&raw const beta).cast(),
                c as *mut c_void,
                data_type(product),
                ldc as i32,
                cublasComputeType_t::CUBLAS_COMPUTE_32F,
                cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )?;
        }
        Ok(())
    }

    /// Writes numbers that are stored as `f32` as activations are stored.
    pub fn store(&self, len: usize, x: u64, to: &Activations) -> Result<()> {
        self.launch(&self.kernels.stored, len, (len as u32, x, to.at()))
    }

    /// Activations in 16 bytes.
    fn wide(&self) -> usize {
        16 / self.stored().size()
    }

    /// The window of every output pixel of activations: `[n, h, w, c_in]` → `[n * oh * ow, kernel * kernel * c_in]`.
    pub fn windows(&self, n: usize, shape: &Conv2d, x: u64) -> Result<Activations> {
        let (len, wide) = (n * shape.out_h() * shape.out_w() * shape.depth(), self.wide());
        let columns = self.activations(len)?;
        let parameters = ((len / wide) as u32, conv(shape, wide), x, columns.at());
        self.launch(&self.kernels.windows, len / wide, parameters)?;
        Ok(columns)
    }

    /// As [`Gpu::windows`], of images: `[n, h, w, c_in]` → `[n * oh * ow, width]` with the windows first in each row,
    /// and the width. What follows them in a row is not set: it is there because products are slow with other widths.
    pub fn image_windows(&self, n: usize, shape: &Conv2d, images: u64) -> Result<(Activations, usize)> {
        let (rows, width) = (n * shape.out_h() * shape.out_w(), shape.depth().next_multiple_of(8));
        let (columns, len) = (self.activations(rows * width)?, rows * shape.kernel * shape.kernel);
        let parameters = (len as u32, conv(shape, 1), width as u32, images, columns.at());
        self.launch(&self.kernels.image_windows, len, parameters)?;
        Ok((columns, width))
    }

    /// The gradient of activations from that of their windows; with `more`, it is added to what is there.
    pub fn windows_backward(&self, n: usize, shape: &Conv2d, columns: u64, dx: u64, more: bool) -> Result<()> {
        let (len, wide) = (n * shape.x_len() / self.wide(), self.wide());
        let parameters = (len as u32, conv(shape, wide), columns, dx, u32::from(more));
        self.launch(&self.kernels.windows_backward, len, parameters)
    }

    /// `dropout(max_pool_2x2(relu(z + bias)))` of `[n, h, w, c]`, and the codes for [`Gpu::pool2_backward`].
    pub fn pool2(
        &self,
        [n, h, w, c]: [usize; 4],
        z: u64,
        bias: u64,
        drop: DropoutArgument,
    ) -> Result<(Activations, Codes)> {
        let len = n * (h / 2) * (w / 2) * c;
        let (y, codes): (Activations, Codes) = (self.activations(len)?, self.alloc(len)?);
        let parameters = (len as u32 / 4, h as u32, w as u32, c as u32, z, bias, drop, y.at(), codes.at());
        self.launch(&self.kernels.pool2, len / 4, parameters)?;
        Ok((y, codes))
    }

    /// The gradient of z; `scale` is that of the dropout.
    pub fn pool2_backward(&self, [n, h, w, c]: [usize; 4], dy: u64, codes: &Codes, scale: f32) -> Result<Activations> {
        let len = n * (h / 2) * (w / 2) * c;
        let dz = self.activations(4 * len)?;
        let parameters = (len as u32 / 4, h as u32, w as u32, c as u32, dy, codes.at(), scale, dz.at());
        self.launch(&self.kernels.pool2_backward, len / 4, parameters)?;
        Ok(dz)
    }

    /// W-Net's first block: [`Gpu::pool2`] of the 3x3 convolution of images `[n, h, w, 3]` with a weight `[27, c]`,
    /// where c is a multiple of 16.
    pub fn first_block(
        &self,
        [n, h, w, c]: [usize; 4],
        x: u64,
        [weight, bias]: [u64; 2],
        drop: DropoutArgument,
    ) -> Result<(Activations, Codes)> {
        let len = n * (h / 2) * (w / 2) * c;
        let (y, codes): (Activations, Codes) = (self.activations(len)?, self.alloc(len)?);
        let threads = len / GROUP;
        let parameters = (threads as u32, h as u32, w as u32, c as u32, x, weight, bias, drop, y.at(), codes.at());
        self.launch(&self.kernels.first_block, threads, parameters)?;
        Ok((y, codes))
    }

    /// The gradients of weight and bias.
    pub fn first_block_backward(
        &self,
        [n, h, w, c]: [usize; 4],
        x: u64,
        dy: u64,
        codes: &Codes,
        scale: f32,
        [weight, bias]: [u64; 2],
    ) -> Result<()> {
        const EACH: usize = 32;
        let pixels = n * (h / 2) * (w / 2);
        let (parts, width) = (pixels.div_ceil(EACH), 28 * c);
        let (sums, totals) = (self.floats(parts * width)?, self.floats(width)?);
        let [len, pixels, h, w, channels, each] = [parts * c, pixels, h, w, c, EACH].map(|v| v as u32);
        let parameters = (len, pixels, h, w, channels, each, x, dy, codes.at(), scale, sums.at());
        self.launch(&self.kernels.first_block_backward, parts * c, parameters)?;
        self.launch_sums(&self.kernels.totals, width, LANES, (parts as u32, width as u32, sums.at(), totals.at()))?;
        self.copy(totals.at(), weight, 27 * c)?;
        self.copy(offset(totals.at(), 27 * c), bias, c)
    }

    /// `y + bias` in place: `[n, width]`, stored as `f32`.
    pub fn add_bias(&self, [n, width]: [usize; 2], bias: u64, y: u64) -> Result<()> {
        self.launch(&self.kernels.bias, n * width, ((n * width) as u32, width as u32, bias, y))
    }

    /// The gradient of the logits, `[n, classes]`, in the mean over images of `w (1 - p)^gamma (-ln p)`, where p is the
    /// softmax probability of the image's label; without weights (0), each is 1. All but the labels are `f32`.
    pub fn loss(&self, [n, classes]: [usize; 2], logits: u64, labels: u64, weights: u64, gamma: f32) -> Result<Floats> {
        let gradient = self.floats(n * classes)?;
        let parameters = (n as u32, classes as u32, logits, labels, weights, gamma, gradient.at());
        self.launch(&self.kernels.loss, n, parameters)?;
        Ok(gradient)
    }

    /// `dropout(relu(y + bias))` in place: `[n, width]`, stored as `f32`.
    pub fn hidden(&self, [n, width]: [usize; 2], bias: u64, drop: DropoutArgument, y: u64) -> Result<()> {
        self.launch(&self.kernels.hidden, n * width, ((n * width) as u32, width as u32, bias, drop, y))
    }

    /// The gradient of the input of [`Gpu::hidden`], from its output `y` and the gradient of that, both stored as
    /// `f32`.
    pub fn hidden_backward(&self, len: usize, y: u64, scale: f32, d: u64) -> Result<Activations> {
        let before = self.activations(len)?;
        self.launch(&self.kernels.hidden_backward, len, (len as u32, y, scale, d, before.at()))?;
        Ok(before)
    }

    /// Replaces the gradient of ReLU's output `y` by that of its input.
    pub fn relu_backward(&self, len: usize, y: u64, d: u64) -> Result<()> {
        self.launch(&self.kernels.relu_backward, len / 4, (len as u32 / 4, y, d))
    }

    /// The sum over the rows of `[rows, c]`.
    pub fn sum_rows(&self, stored: Stored, [rows, c]: [usize; 2], x: u64, sums: u64) -> Result<()> {
        let kernel = match stored == self.stored() {
            true => &self.kernels.sum_rows,
            false => &self.kernels.sum_float_rows,
        };
        let sum = |each: usize, to: u64| {
            let len = rows.div_ceil(each) * c;
            self.launch(kernel, len, (len as u32, rows as u32, c as u32, each as u32, x, to))
        };
        let each = rows.div_ceil((SUMMING_THREADS / c).max(1)).max(16);
        let parts = rows.div_ceil(each);
        if rows <= 64 || parts == 1 {
            return sum(rows, sums);
        }
        let sums_of_parts = self.floats(parts * c)?;
        sum(each, sums_of_parts.at())?;
        self.launch_sums(&self.kernels.totals, c, LANES, (parts as u32, c as u32, sums_of_parts.at(), sums))
    }

    /// The normalisation of `z`, `[rows, c]`, by its own moments: `[4, c]`. The running moments are updated.
    pub fn norm(
        &self,
        [rows, c]: [usize; 2],
        z: u64,
        arrays: NormArrays,
        momentum: f32,
        epsilon: f32,
    ) -> Result<Floats> {
        let Sums { parts, each, blocks } = Sums::new([rows, c]);
        let (sums, norm) = (self.floats(2 * parts * c)?, self.floats(4 * c)?);
        let parameters = (rows as u32, c as u32, each as u32, z, sums.at());
        self.launch_sums(&self.kernels.moments, blocks, SUMMING, parameters)?;
        let parameters = (parts as u32, c as u32, rows as u32, sums.at(), arrays, epsilon, momentum, norm.at());
        self.launch_sums(&self.kernels.norm, c, LANES, parameters)?;
        Ok(norm)
    }

    /// The normalisation by the running moments: `[4, c]`.
    pub fn running_norm(&self, c: usize, arrays: NormArrays, epsilon: f32) -> Result<Floats> {
        let norm = self.floats(4 * c)?;
        self.launch(&self.kernels.running_norm, c, (c as u32, arrays, epsilon, norm.at()))?;
        Ok(norm)
    }

    /// `relu(norm(z))` of `[rows, c]`.
    pub fn norm_relu(&self, [rows, c]: [usize; 2], z: u64, norm: u64) -> Result<Activations> {
        let (fours, y) = (rows * c / 4, self.activations(rows * c)?);
        self.launch(&self.kernels.norm_relu, fours, (fours as u32, c as u32, z, norm, y.at()))?;
        Ok(y)
    }

    /// `relu(norm(z) + shortcut)` of `[rows, c]`; the shortcut may have a norm too.
    pub fn shortcut(
        &self,
        [rows, c]: [usize; 2],
        z: u64,
        norm: u64,
        shortcut: u64,
        shortcut_norm: Option<u64>,
    ) -> Result<Activations> {
        let (fours, y) = (rows * c / 4, self.activations(rows * c)?);
        let parameters = (fours as u32, c as u32, z, norm, shortcut, shortcut_norm.unwrap_or(0), y.at());
        self.launch(&self.kernels.shortcut, fours, parameters)?;
        Ok(y)
    }

    /// Writes the gradient of `z`, `[rows, c]`, from the gradient `d` of its normalisation (with `relu`, of the ReLU of
    /// that) to `to`, which may be `d`, and the gradients of gamma and beta.
    #[allow(clippy::too_many_arguments)]
    pub fn norm_backward(
        &self,
        [rows, c]: [usize; 2],
        z: u64,
        norm: u64,
        relu: bool,
        (d, to): (u64, u64),
        [gamma, beta]: [u64; 2],
    ) -> Result<()> {
        let (Sums { parts, each, blocks }, relu) = (Sums::new([rows, c]), u32::from(relu));
        let (sums, slopes) = (self.floats(2 * parts * c)?, self.floats(2 * c)?);
        let parameters = (rows as u32, c as u32, each as u32, relu, z, norm, d, sums.at());
        self.launch_sums(&self.kernels.norm_sums, blocks, SUMMING, parameters)?;
        let parameters = (parts as u32, c as u32, rows as u32, sums.at(), norm, gamma, beta, slopes.at());
        self.launch_sums(&self.kernels.norm_totals, c, LANES, parameters)?;
        let fours = rows * c / 4;
        let parameters = (fours as u32, c as u32, relu, z, norm, slopes.at(), d, to);
        self.launch(&self.kernels.norm_backward, fours, parameters)
    }

    /// `max_pool_3x3(relu(norm(z)))` of `[n, h, w, c]`, and the codes for [`Gpu::pool3_backward`].
    pub fn pool3(&self, [n, h, w, c]: [usize; 4], z: u64, norm: u64) -> Result<(Activations, Codes)> {
        let len = n * h.div_ceil(2) * w.div_ceil(2) * c;
        let (y, codes): (Activations, Codes) = (self.activations(len)?, self.alloc(len)?);
        let parameters = (len as u32 / 4, h as u32, w as u32, c as u32, z, norm, y.at(), codes.at());
        self.launch(&self.kernels.pool3, len / 4, parameters)?;
        Ok((y, codes))
    }

    /// The gradient of `norm(z)`.
    pub fn pool3_backward(&self, [n, h, w, c]: [usize; 4], dy: u64, codes: &Codes) -> Result<Activations> {
        let (fours, dx) = (n * h * w * c / 4, self.activations(n * h * w * c)?);
        let parameters = (fours as u32, h as u32, w as u32, c as u32, dy, codes.at(), dx.at());
        self.launch(&self.kernels.pool3_backward, fours, parameters)?;
        Ok(dx)
    }

    /// Mean over the pixels of each image: `[n, pixels, c]` → `[n, c]`, stored as `f32`.
    pub fn mean_pool(&self, [n, pixels, c]: [usize; 3], x: u64) -> Result<Floats> {
        let (len, y) = (n * c, self.floats(n * c)?);
        self.launch(&self.kernels.mean_pool, len, (len as u32, pixels as u32, c as u32, x, y.at()))?;
        Ok(y)
    }

    /// `[n, c]`, stored as `f32`, → `[n, pixels, c]`.
    pub fn mean_pool_backward(&self, [n, pixels, c]: [usize; 3], dy: u64) -> Result<Activations> {
        let (len, dx) = (n * pixels * c, self.activations(n * pixels * c)?);
        self.launch(&self.kernels.mean_pool_backward, len, (len as u32, pixels as u32, c as u32, dy, dx.at()))?;
        Ok(dx)
    }

    /// One step of Adam with `len` parameters.
    pub fn adam(&self, len: usize, [value, m, v, gradient]: [u64; 4], step: AdamStep) -> Result<()> {
        let AdamStep { rate, beta1, beta2, second, epsilon } = step;
        let parameters = (len as u32, value, m, v, gradient, rate, beta1, beta2, second, epsilon);
        self.launch(&self.kernels.adam, len, parameters)
    }

    /// One step of SGD with `len` parameters.
    pub fn sgd(&self, len: usize, [value, velocity, gradient]: [u64; 3], rate: f32, sgd: Sgd) -> Result<()> {
        let parameters = (len as u32, value, velocity, gradient, rate, sgd.momentum, sgd.weight_decay);
        self.launch(&self.kernels.sgd, len, parameters)
    }
}

/// A convolution's shape, with `channels` of them taken as one. Strides are powers of two.
fn conv(shape: &Conv2d, channels: usize) -> Conv {
    let Conv2d { h, w, c_in, kernel, stride, pad, .. } = *shape;
    let shift = stride.trailing_zeros() as usize;
    Conv([h, w, c_in / channels, kernel, shift, pad, shape.out_h(), shape.out_w()].map(|v| v as u32))
}

/// cuBLAS's name for how numbers are stored.
fn data_type(stored: Stored) -> cudaDataType {
    match stored {
        Stored::F32 => cudaDataType::CUDA_R_32F,
        Stored::Bf16 => cudaDataType::CUDA_R_16BF,
    }
}

/// How a sum over rows of normalised channels is divided: parts of `each` rows, and all blocks.
struct Sums {
    parts: usize,
    each: usize,
    blocks: usize,
}

impl Sums {
    fn new([rows, c]: [usize; 2]) -> Self {
        let groups = c / SUMMED;
        let each = rows.div_ceil((SUMMING_BLOCKS / groups).max(1)).max(SUMMED);
        let parts = rows.div_ceil(each);
        Self { parts, each, blocks: parts * groups }
    }
}
