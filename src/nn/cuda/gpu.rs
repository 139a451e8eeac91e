//! A CUDA device: its memory, and the kernels that are loaded.

use crate::nn::kernel::Dropout;
use cudarc::cublas::{self, CudaBlas};
use cudarc::driver::{self, sys};
use cudarc::driver::{CudaDevice, CudaFunction, CudaSlice, CudaStream, DevicePtr, DeviceRepr, DeviceSlice};
use dfdx::prelude::*;
use dfdx::tensor::CudaError;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// A result of the device.
pub type Result<T> = std::result::Result<T, CudaError>;

/// Numbers on the device. Their memory is not set when they are made.
pub type Floats = CudaSlice<f32>;

/// Declares the kernels, and loads them.
macro_rules! kernels {
    ($($name:ident)*) => {
        pub struct Kernels { $(pub $name: CudaFunction),* }

        impl Kernels {
            fn load(device: &Arc<CudaDevice>) -> Result<Self> {
                let ptx = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
                device.load_ptx(ptx.into(), "wbc", &[$(concat!("wbc_", stringify!($name))),*])?;
                let kernel = |name| device.get_func("wbc", name).expect("the module has every kernel that was loaded");
                Ok(Self { $($name: kernel(concat!("wbc_", stringify!($name)))),* })
            }
        }
    };
}

kernels!(first_block first_block_backward windows windows4 windows_backward windows4_backward pool2 pool2_backward relu relu_backward sum_rows totals moments
    norm running_norm norm_relu shortcut norm_sums norm_totals norm_backward pool3 pool3_backward mean_pool
    mean_pool_backward adam sgd);

/// `Dropout` in `kernels.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct DropoutArgument {
    keys: u64,
    threshold: u32,
    scale: f32,
}
// SAFETY: it is a plain value of this layout on the device too.
unsafe impl DeviceRepr for DropoutArgument {}

impl DropoutArgument {
    /// Keeps every value.
    pub const NONE: Self = Self { keys: 0, threshold: 0, scale: 1.0 };

    /// The factor of the values that are kept.
    pub fn scale(self) -> f32 {
        self.scale
    }
}

/// Memory of the host that the device reads by itself, and its length.
#[derive(Debug)]
struct Block {
    start: *mut f32,
    len: usize,
}

// SAFETY: the memory belongs to the block alone.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `Gpu::pinned` allocated it. An error cannot be helped here.
        let _ = unsafe { sys::cuMemFreeHost(self.start.cast()) };
    }
}

/// Blocks that are not in use.
type Blocks = Arc<Mutex<Vec<Block>>>;

/// Numbers in memory of the host that the device reads by itself. The memory is used again.
#[derive(Debug)]
pub struct Pinned {
    block: Option<Block>,
    len: usize,
    home: Blocks,
}

impl Pinned {
    fn block(&self) -> &Block {
        self.block.as_ref().expect("only drop takes it")
    }
}

impl Deref for Pinned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the block has at least this length, and its numbers were set when it was made.
        unsafe { std::slice::from_raw_parts(self.block().start, self.len) }
    }
}

impl DerefMut for Pinned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and nothing else refers to the block.
        unsafe { std::slice::from_raw_parts_mut(self.block().start, self.len) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        lock(&self.home).extend(self.block.take());
    }
}

/// Locks a mutex. Whether a thread panicked while it held the lock does not matter: the panic ends the program anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

/// How images come to the device: on their own stream, beside the device's work, into one of two arrays in turn.
struct Upload {
    stream: CudaStream,
    arrays: [Floats; 2],
    next: usize,
    /// What is being copied.
    source: Option<Pinned>,
}

/// A CUDA device.
pub struct Gpu {
    /// dfdx's device.
    pub dfdx: Cuda,
    device: Arc<CudaDevice>,
    pub(super) blas: CudaBlas,
    pub(super) kernels: Kernels,
    blocks: Blocks,
    upload: Mutex<Upload>,
}

/// Where an array starts on the device.
pub fn at(array: &impl DevicePtr<f32>) -> u64 {
    *array.device_ptr()
}

/// Where the value after `offset` others starts.
pub fn offset(start: u64, offset: usize) -> u64 {
    start + (offset * size_of::<f32>()) as u64
}

impl Gpu {
    /// Starts CUDA device `ordinal`, which [`super::driver::check`] has found. With `tf32`, matrix products round their
    /// numbers to 10 bits.
    ///
    /// # Errors
    /// The driver's, such as too little memory.
    pub fn new(ordinal: usize, tf32: bool) -> Result<Self> {
        let dfdx = Cuda::try_build(ordinal, 0)?;
        let device = Storage::<f32>::try_alloc_len(&dfdx, 1)?.device();
        let mut pool = std::ptr::null_mut();
        // Freed memory stays with the program: the next step takes it again. Drivers without this are slower, no more.
        // SAFETY: both pointers are to values of the types that the driver expects.
        unsafe {
            if sys::cuDeviceGetDefaultMemPool(&mut pool, *device.cu_device()).result().is_ok() {
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                let mut all = u64::MAX;
                let _ = sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast());
            }
        }
        let (blas, kernels) = (CudaBlas::new(device.clone())?, Kernels::load(&device)?);
        if tf32 {
            // SAFETY: the handle is that of `blas`.
            unsafe {
                cublas::sys::cublasSetMathMode(*blas.handle(), cublas::sys::cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH)
            }
            .result()?;
        }
        // SAFETY: it has no values.
        let arrays = unsafe { [device.alloc(0)?, device.alloc(0)?] };
        let upload = Upload { stream: device.fork_default_stream()?, arrays, next: 0, source: None };
        Ok(Self { dfdx, device, blas, kernels, blocks: Arc::default(), upload: Mutex::new(upload) })
    }

    /// `len` numbers that are not set yet.
    ///
    /// # Errors
    /// Too little memory; also from 2^32 numbers on, which the kernels cannot count.
    pub fn alloc(&self, len: usize) -> Result<Floats> {
        if u32::try_from(len).is_err() {
            return Err(driver::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY).into());
        }
        // SAFETY: whoever takes them writes all of them before they are read.
        Ok(unsafe { self.device.alloc(len) }?)
    }

    pub(super) fn alloc_bytes(&self, len: usize) -> Result<CudaSlice<u8>> {
        // SAFETY: as in `alloc`.
        Ok(unsafe { self.device.alloc(len) }?)
    }

    /// `len` zeros.
    pub fn zeros(&self, len: usize) -> Result<Floats> {
        Ok(self.device.alloc_zeros(len)?)
    }

    /// Copies values to the device, and waits.
    pub fn upload(&self, values: &[f32], to: u64) -> Result<()> {
        // SAFETY: `to` is the start of at least as many values, and the copy is over when this returns.
        unsafe { driver::result::memcpy_htod_async(to, values, stream(&self.device))? };
        Ok(self.device.synchronize()?)
    }

    /// `len` numbers in memory of the host that the device reads by itself; their values are any.
    ///
    /// # Errors
    /// The driver's.
    pub fn pinned(&self, len: usize) -> Result<Pinned> {
        let mut blocks = lock(&self.blocks);
        let free = blocks.iter().position(|block| block.len >= len);
        let block = match free {
            Some(free) => blocks.swap_remove(free),
            None => {
                let mut start = std::ptr::null_mut();
                // SAFETY: the block that is made of it frees it, and keeps its length.
                unsafe { sys::cuMemHostAlloc(&mut start, len * size_of::<f32>(), 0) }.result()?;
                let start: *mut f32 = start.cast();
                // SAFETY: there are `len` numbers from `start`.
                unsafe { start.write_bytes(0, len) };
                Block { start, len }
            }
        };
        Ok(Pinned { block: Some(block), len, home: self.blocks.clone() })
    }

    /// Copies images to the device, beside its work, and returns where they are until the call after the next. When this
    /// is called, the device must be done with the images of the call before the last.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload_images(&self, images: Pinned) -> Result<u64> {
        let mut upload = lock(&self.upload);
        let next = upload.next;
        if upload.arrays[next].len() < images.len() {
            upload.arrays[next] = self.alloc(images.len())?;
            upload.stream.wait_for_default()?;
        }
        let to = at(&upload.arrays[next]);
        // SAFETY: the array is long enough, and the images are kept until the next call.
        unsafe { driver::result::memcpy_htod_async(to, &images, upload.stream.stream)? };
        self.device.wait_for(&upload.stream)?;
        (upload.next, upload.source) = (1 - next, Some(images));
        Ok(to)
    }

    /// The dropout of some layers, each with one key per image. The keys must live until the kernels are launched.
    pub fn dropout<const LAYERS: usize>(
        &self,
        dropout: Dropout,
        keys: &[Vec<u64>; LAYERS],
    ) -> Result<(CudaSlice<u64>, [DropoutArgument; LAYERS])> {
        let on_device = self.device.htod_copy(keys.concat())?;
        let start = *on_device.device_ptr();
        let argument = |layer: usize| DropoutArgument {
            keys: start + (layer * size_of_val(keys[layer].as_slice())) as u64,
            threshold: dropout.threshold(),
            scale: dropout.scale(),
        };
        Ok((on_device, std::array::from_fn(argument)))
    }

    /// The values of an array; waits for the device.
    pub fn download(&self, start: u64, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; len];
        // SAFETY: `start` is the start of at least `len` values, and the copy is over when this returns.
        unsafe { driver::result::memcpy_dtoh_async(&mut values, start, stream(&self.device))? };
        self.device.synchronize()?;
        Ok(values)
    }

    /// Copies `len` values on the device.
    pub fn copy(&self, from: u64, to: u64, len: usize) -> Result<()> {
        // SAFETY: both are the starts of at least `len` values.
        unsafe {
            driver::result::memcpy_dtod_async(to, from, len * size_of::<f32>(), stream(&self.device))?;
        }
        Ok(())
    }

    /// A dfdx tensor with the values that start at `from`.
    pub fn tensor<S: Shape>(&self, from: u64, shape: S) -> Result<Tensor<S, f32, Cuda>> {
        // A tensor's memory cannot be had from dfdx, but that of a gradient can.
        let like = self.dfdx.try_zeros_like(&shape)?;
        let mut gradients = Gradients::leaky();
        let values = gradients.get_or_alloc_mut(&like)?;
        self.copy(from, at(values), shape.num_elements())?;
        Ok(gradients.get(&like))
    }
}

/// The stream that the device's work is in.
fn stream(device: &CudaDevice) -> sys::CUstream {
    *device.cu_stream()
}
