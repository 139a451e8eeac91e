//! Layers on a CUDA device, forward and backward, and steps of the optimisers. Arrays are given by where they start on
//! the device; `[rows, c]` are activations `[n, h, w, c]` with `n * h * w` rows.

use super::gpu::{Array, DropoutArgument, Floats, Gpu, Result, offset};
use crate::nn::kernel::{AdamStep, Conv2d};
use crate::nn::optim::Sgd;
use cudarc::cublas::{self, sys::cublasOperation_t};
use cudarc::driver::{CudaFunction, DeviceRepr, LaunchAsync, LaunchConfig};

/// What the backward pass of pooling needs: where each value came from.
pub type Codes = Array<u8>;

/// Threads of a block.
const BLOCK: usize = 256;
/// Threads of a block that sums: `LANES` in `kernels.cu`.
const LANES: u32 = 128;
/// Channels that one thread of the first block computes: `GROUP` in `kernels.cu`.
const GROUP: usize = 16;
/// About how many threads a sum over rows is divided among.
const SUMMING: usize = 1 << 18;
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

    /// Runs a kernel that sums, with one block per channel.
    fn launch_sums<P>(&self, kernel: &CudaFunction, channels: usize, parameters: P) -> Result<()>
    where
        CudaFunction: LaunchAsync<P>,
    {
        let config = LaunchConfig { grid_dim: (channels as u32, 1, 1), block_dim: (LANES, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: as in `launch`.
        Ok(unsafe { kernel.clone().launch(config, parameters) }?)
    }

    /// `c = a b`, row by row: `[m, k]` and `[k, n]` give `[m, n]`.
    pub fn multiply(&self, [m, k, n]: [usize; 3], a: u64, b: u64, c: u64) -> Result<()> {
        self.gemm([false, false], [n, m, k], (b, n), (a, k), (c, n), false)
    }

    /// `c = a bᵀ`, or `c += a bᵀ`: `[m, k]` and `[n, k]` give `[m, n]`.
    pub fn multiply_by_transpose(&self, [m, k, n]: [usize; 3], a: u64, b: u64, c: u64, more: bool) -> Result<()> {
        self.gemm([true, false], [n, m, k], (b, k), (a, k), (c, n), more)
    }

    /// `c = aᵀ b`: `[k, m]` and `[k, n]` give `[m, n]`.
    pub fn multiply_transpose(&self, [m, k, n]: [usize; 3], a: u64, b: u64, c: u64) -> Result<()> {
        let blocks = m.div_ceil(64) * n.div_ceil(64);
        // Few results of many values each: sums of parts, which are then added.
        let parts = (1..=(FILLED / blocks).clamp(1, k.div_ceil(512))).rev().find(|parts| k.is_multiple_of(*parts));
        let parts = parts.unwrap_or(1);
        if parts == 1 {
            return self.gemm([false, true], [n, m, k], (b, n), (a, m), (c, n), false);
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
                m as i32,
                (each * m) as i64,
                &zero,
                sums.at() as *mut f32,
                n as i32,
                (m * n) as i64,
                parts as i32,
            )?;
        }
        self.sum_rows([parts, m * n], sums.at(), c)
    }

    /// cuBLAS's matrix product, column by column: `c = op(a) op(b)` of `[m, k]` and `[k, n]`, each with its stride.
    fn gemm(
        &self,
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
            cublas::result::sgemm(
                self.blas(),
                op_a,
                op_b,
                m as i32,
                n as i32,
                k as i32,
                &one,
                a as *const f32,
                lda as i32,
                b as *const f32,
                ldb as i32,
                &beta,
                c as *mut f32,
                ldc as i32,
            )?;
        }
        Ok(())
    }

    /// The window of every output pixel: `[n, h, w, c_in]` → `[n * oh * ow, kernel * kernel * c_in]`.
    pub fn windows(&self, n: usize, shape: &Conv2d, x: u64) -> Result<Floats> {
        let len = n * shape.out_h() * shape.out_w() * shape.depth();
        let columns = self.floats(len)?;
        match shape.c_in.is_multiple_of(4) {
            true => self.launch(&self.kernels.windows4, len / 4, (len as u32 / 4, conv(shape, 4), x, columns.at()))?,
            false => self.launch(&self.kernels.windows, len, (len as u32, conv(shape, 1), x, columns.at()))?,
        }
        Ok(columns)
    }

    /// The gradient of the images from that of their windows; with `more`, it is added to what is there.
    pub fn windows_backward(&self, n: usize, shape: &Conv2d, columns: u64, dx: u64, more: bool) -> Result<()> {
        let (len, more) = (n * shape.x_len(), u32::from(more));
        match shape.c_in.is_multiple_of(4) {
            true => self.launch(
                &self.kernels.windows4_backward,
                len / 4,
                (len as u32 / 4, conv(shape, 4), columns, dx, more),
            ),
            false => self.launch(&self.kernels.windows_backward, len, (len as u32, conv(shape, 1), columns, dx, more)),
        }
    }

    /// `dropout(max_pool_2x2(relu(z + bias)))` of `[n, h, w, c]`, and the codes for [`Gpu::pool2_backward`].
    pub fn pool2(&self, [n, h, w, c]: [usize; 4], z: u64, bias: u64, drop: DropoutArgument) -> Result<(Floats, Codes)> {
        let len = n * (h / 2) * (w / 2) * c;
        let (y, codes): (Floats, Codes) = (self.floats(len)?, self.alloc(len)?);
        let parameters = (len as u32, h as u32, w as u32, c as u32, z, bias, drop, y.at(), codes.at());
        self.launch(&self.kernels.pool2, len, parameters)?;
        Ok((y, codes))
    }

    /// The gradient of z; `scale` is that of the dropout.
    pub fn pool2_backward(&self, [n, h, w, c]: [usize; 4], dy: u64, codes: &Codes, scale: f32) -> Result<Floats> {
        let len = n * (h / 2) * (w / 2) * c;
        let dz = self.floats(4 * len)?;
        let parameters = (len as u32, h as u32, w as u32, c as u32, dy, codes.at(), scale, dz.at());
        self.launch(&self.kernels.pool2_backward, len, parameters)?;
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
    ) -> Result<(Floats, Codes)> {
        let len = n * (h / 2) * (w / 2) * c;
        let (y, codes): (Floats, Codes) = (self.floats(len)?, self.alloc(len)?);
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
        self.launch_sums(&self.kernels.totals, width, (parts as u32, width as u32, sums.at(), totals.at()))?;
        self.copy(totals.at(), weight, 27 * c)?;
        self.copy(offset(totals.at(), 27 * c), bias, c)
    }

    /// `y + bias` in place: `[n, width]`.
    pub fn add_bias(&self, [n, width]: [usize; 2], bias: u64, y: u64) -> Result<()> {
        self.launch(&self.kernels.bias, n * width, ((n * width) as u32, width as u32, bias, y))
    }

    /// `dropout(relu(y + bias))` in place: `[n, width]`.
    pub fn relu(&self, [n, width]: [usize; 2], bias: u64, drop: DropoutArgument, y: u64) -> Result<()> {
        self.launch(&self.kernels.relu, n * width, ((n * width) as u32, width as u32, bias, drop, y))
    }

    /// Replaces the gradient of ReLU's (and dropout's) output `y` by that of its input.
    pub fn relu_backward(&self, len: usize, y: u64, scale: f32, d: u64) -> Result<()> {
        self.launch(&self.kernels.relu_backward, len, (len as u32, y, scale, d))
    }

    /// The sum over the rows of `[rows, c]`.
    pub fn sum_rows(&self, [rows, c]: [usize; 2], x: u64, sums: u64) -> Result<()> {
        let sum = |each: usize, x: u64, to: u64| {
            let len = rows.div_ceil(each) * c;
            self.launch(&self.kernels.sum_rows, len, (len as u32, rows as u32, c as u32, each as u32, x, to))
        };
        let (each, parts) = parts([rows, c]);
        if rows <= 64 || parts == 1 {
            return sum(rows, x, sums);
        }
        let sums_of_parts = self.floats(parts * c)?;
        sum(each, x, sums_of_parts.at())?;
        self.launch_sums(&self.kernels.totals, c, (parts as u32, c as u32, sums_of_parts.at(), sums))
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
        let (each, parts) = parts([rows, c]);
        let (len, sums, norm) = (parts * c, self.floats(2 * parts * c)?, self.floats(4 * c)?);
        let parameters = (len as u32, rows as u32, c as u32, each as u32, z, sums.at());
        self.launch(&self.kernels.moments, len, parameters)?;
        let parameters = (parts as u32, c as u32, rows as u32, sums.at(), arrays, epsilon, momentum, norm.at());
        self.launch_sums(&self.kernels.norm, c, parameters)?;
        Ok(norm)
    }

    /// The normalisation by the running moments: `[4, c]`.
    pub fn running_norm(&self, c: usize, arrays: NormArrays, epsilon: f32) -> Result<Floats> {
        let norm = self.floats(4 * c)?;
        self.launch(&self.kernels.running_norm, c, (c as u32, arrays, epsilon, norm.at()))?;
        Ok(norm)
    }

    /// `relu(norm(z))` of `[rows, c]`.
    pub fn norm_relu(&self, [rows, c]: [usize; 2], z: u64, norm: u64) -> Result<Floats> {
        let (len, y) = (rows * c, self.floats(rows * c)?);
        self.launch(&self.kernels.norm_relu, len, (len as u32, c as u32, z, norm, y.at()))?;
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
    ) -> Result<Floats> {
        let (len, y) = (rows * c, self.floats(rows * c)?);
        let parameters = (len as u32, c as u32, z, norm, shortcut, shortcut_norm.unwrap_or(0), y.at());
        self.launch(&self.kernels.shortcut, len, parameters)?;
        Ok(y)
    }

    /// Replaces the gradient `d` of a normalisation's output (with `relu`, of its ReLU's) by that of `z`, `[rows, c]`,
    /// and writes the gradients of gamma and beta.
    pub fn norm_backward(
        &self,
        [rows, c]: [usize; 2],
        z: u64,
        norm: u64,
        relu: bool,
        d: u64,
        [gamma, beta]: [u64; 2],
    ) -> Result<()> {
        let (each, parts) = parts([rows, c]);
        let (len, relu) = (parts * c, u32::from(relu));
        let (sums, slopes) = (self.floats(2 * len)?, self.floats(2 * c)?);
        let parameters = (len as u32, rows as u32, c as u32, each as u32, relu, z, norm, d, sums.at());
        self.launch(&self.kernels.norm_sums, len, parameters)?;
        let parameters = (parts as u32, c as u32, rows as u32, sums.at(), norm, gamma, beta, slopes.at());
        self.launch_sums(&self.kernels.norm_totals, c, parameters)?;
        let len = rows * c;
        self.launch(&self.kernels.norm_backward, len, (len as u32, c as u32, relu, z, norm, slopes.at(), d))
    }

    /// `max_pool_3x3(relu(norm(z)))` of `[n, h, w, c]`, and the codes for [`Gpu::pool3_backward`].
    pub fn pool3(&self, [n, h, w, c]: [usize; 4], z: u64, norm: u64) -> Result<(Floats, Codes)> {
        let len = n * h.div_ceil(2) * w.div_ceil(2) * c;
        let (y, codes): (Floats, Codes) = (self.floats(len)?, self.alloc(len)?);
        let parameters = (len as u32, h as u32, w as u32, c as u32, z, norm, y.at(), codes.at());
        self.launch(&self.kernels.pool3, len, parameters)?;
        Ok((y, codes))
    }

    /// The gradient of `norm(z)`.
    pub fn pool3_backward(&self, [n, h, w, c]: [usize; 4], dy: u64, codes: &Codes) -> Result<Floats> {
        let (len, dx) = (n * h * w * c, self.floats(n * h * w * c)?);
        let parameters = (len as u32, h as u32, w as u32, c as u32, dy, codes.at(), dx.at());
        self.launch(&self.kernels.pool3_backward, len, parameters)?;
        Ok(dx)
    }

    /// Mean over the pixels of each image: `[n, pixels, c]` → `[n, c]`.
    pub fn mean_pool(&self, [n, pixels, c]: [usize; 3], x: u64) -> Result<Floats> {
        let (len, y) = (n * c, self.floats(n * c)?);
        self.launch(&self.kernels.mean_pool, len, (len as u32, pixels as u32, c as u32, x, y.at()))?;
        Ok(y)
    }

    /// `[n, c]` → `[n, pixels, c]`.
    pub fn mean_pool_backward(&self, [n, pixels, c]: [usize; 3], dy: u64) -> Result<Floats> {
        let (len, dx) = (n * pixels * c, self.floats(n * pixels * c)?);
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

/// A convolution's shape, with `channels` of them taken as one.
fn conv(shape: &Conv2d, channels: usize) -> Conv {
    let Conv2d { h, w, c_in, kernel, stride, pad, .. } = *shape;
    Conv([h, w, c_in / channels, kernel, stride, pad, shape.out_h(), shape.out_w()].map(|v| v as u32))
}

/// How a sum over rows is divided: rows that one thread sums, and parts.
fn parts([rows, c]: [usize; 2]) -> (usize, usize) {
    let each = rows.div_ceil((SUMMING / c).max(1)).max(16);
    (each, rows.div_ceil(each))
}
