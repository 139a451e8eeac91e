//! A CUDA device: its memory, and the kernels that are loaded.

use crate::nn::Precision;
use crate::nn::fused::lock;
use crate::nn::kernel::Dropout;
use cudarc::cublas::{self, CudaBlas, sys::cublasMath_t};
use cudarc::driver::{self, sys};
use cudarc::driver::{CudaDevice, CudaFunction, CudaStream, DeviceRepr};
use dfdx::tensor::{Cuda, CudaError, Storage};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// A result of the device.
pub type Result<T> = std::result::Result<T, CudaError>;

/// An array on the device. Its memory is given back when it is dropped, after the work that was asked for before.
pub struct Array<T> {
    start: u64,
    len: usize,
    device: Arc<CudaDevice>,
    of: PhantomData<T>,
}

/// Numbers on the device.
pub type Floats = Array<f32>;

/// How numbers are stored on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    F32,
    Bf16,
}

impl Stored {
    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Stored::F32 => 4,
            Stored::Bf16 => 2,
        }
    }
}

/// What activations and their gradients are stored as: [`Gpu::stored`] says.
#[derive(Debug)]
pub struct Activation;

/// Activations or their gradients on the device.
pub type Activations = Array<Activation>;

impl<T> Array<T> {
    /// Where it starts on the device.
    pub fn at(&self) -> u64 {
        self.start
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // A device that failed keeps its memory; there is nothing else to be done.
        if self.device.bind_to_thread().is_ok() {
            // SAFETY: the memory is this array's, and the kernels that use it are in the same stream.
            let _ = unsafe { driver::result::free_async(self.start, stream(&self.device)) };
        }
    }
}

/// An array on the device with the values it is copied from, which the copy may still read.
pub struct Sent<T> {
    pub array: Array<T>,
    _values: Vec<T>,
}

/// Declares the kernels, and loads them.
macro_rules! kernels {
    ($($name:ident)*) => {
        pub struct Kernels { $(pub $name: CudaFunction),* }

        impl Kernels {
            fn load(device: &Arc<CudaDevice>, stored: Stored) -> Result<Self> {
                let (ptx, names) = match stored {
                    Stored::F32 => (
                        include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx")),
                        [$(concat!("wbc_", stringify!($name))),*],
                    ),
                    Stored::Bf16 => (
                        include_str!(concat!(env!("OUT_DIR"), "/kernels_bf16.ptx")),
                        [$(concat!("wbc_bf16_", stringify!($name))),*],
                    ),
                };
                device.load_ptx(ptx.into(), "wbc", &names)?;
                let kernel = |name| device.get_func("wbc", name).expect("the module has every kernel that was loaded");
                let mut kernels = names.into_iter().map(kernel);
                Ok(Self { $($name: kernels.next().expect("there is one for each name")),* })
            }
        }
    };
}

kernels!(first_block first_block_backward windows image_windows windows_backward stored pool2 pool2_backward bias
    loss hidden hidden_backward relu_backward sum_rows sum_float_rows totals moments norm running_norm norm_relu
    shortcut norm_sums norm_totals norm_backward pool3 pool3_backward mean_pool mean_pool_backward adam sgd);

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

/// Memory of the host that the device reads without a copy, and its length.
#[derive(Debug)]
struct Block {
    start: *mut f32,
    len: usize,
    /// The memory is the device's: it lives as long.
    _device: Arc<CudaDevice>,
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

/// Numbers in memory of the host that the device reads without a copy. The memory is used again.
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

/// How images come to the device: on their own stream, beside the device's work, into one of two arrays in turn.
struct Upload {
    stream: CudaStream,
    arrays: [Option<Floats>; 2],
    next: usize,
    /// What was last copied to each.
    sources: [Option<Images>; 2],
}

/// Images in the host's memory.
pub type Images = Box<dyn Deref<Target = [f32]>>;

/// Numbers that are being copied from the device.
pub struct Coming {
    values: Box<dyn DerefMut<Target = [f32]>>,
    /// Happens when they are there.
    event: sys::CUevent,
    /// Whether it has happened.
    happened: bool,
}

impl Coming {
    /// Waits for the numbers.
    ///
    /// # Errors
    /// The driver's, also of the work before.
    pub fn wait(mut self) -> Result<Vec<f32>> {
        self.happened = true;
        // SAFETY: the event was made by `Gpu::fetch`.
        unsafe { sys::cuEventSynchronize(self.event) }.result()?;
        Ok(self.values.to_vec())
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        // The memory is in use until the event has happened. Errors cannot be helped here.
        // SAFETY: the event was made by `Gpu::fetch`, and nothing uses it afterwards.
        unsafe {
            if !self.happened {
                let _ = sys::cuEventSynchronize(self.event);
            }
            let _ = driver::result::event::destroy(self.event);
        }
    }
}

/// A CUDA device.
pub struct Gpu {
    /// What does not bear to be dropped after the device has failed: cudarc would panic.
    handles: ManuallyDrop<Handles>,
    pub(super) kernels: Kernels,
    stored: Stored,
    blocks: Blocks,
    device: Arc<CudaDevice>,
}

struct Handles {
    blas: CudaBlas,
    upload: Mutex<Upload>,
    /// dfdx's device.
    _dfdx: Cuda,
}

impl Drop for Gpu {
    fn drop(&mut self) {
        match self.device.synchronize() {
            // SAFETY: nothing uses them afterwards.
            Ok(()) => unsafe { ManuallyDrop::drop(&mut self.handles) },
            Err(_) => std::mem::forget(self.device.clone()),
        }
    }
}

/// Where the value after `offset` others starts.
pub fn offset(start: u64, offset: usize) -> u64 {
    start + (offset * size_of::<f32>()) as u64
}

impl Gpu {
    /// Starts CUDA device `ordinal`, which [`super::driver::check`] has found. With [`Precision::Tf32`], matrix
    /// products are of numbers with a mantissa of 10 bits; with [`Precision::Bf16`], activations and their gradients
    /// are stored as bf16.
    ///
    /// # Errors
    /// The driver's, such as too little memory.
    pub fn new(ordinal: usize, precision: Precision) -> Result<Self> {
        let dfdx = Cuda::try_build(ordinal, 0)?;
        let device = Storage::<f32>::try_alloc_len(&dfdx, 1)?.device();
        let mut pool = std::ptr::null_mut();
        // Freed memory stays with the program: the next step takes it again. Without this, steps are only slower.
        // SAFETY: both pointers are to values of the types that the driver expects.
        unsafe {
            if sys::cuDeviceGetDefaultMemPool(&mut pool, *device.cu_device()).result().is_ok() {
                let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
                let mut all = u64::MAX;
                let _ = sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut all).cast());
            }
        }
        let (stored, mode) = match precision {
            Precision::F32 => (Stored::F32, cublasMath_t::CUBLAS_DEFAULT_MATH),
            Precision::Tf32 => (Stored::F32, cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH),
            // Parts of a sum are not rounded to bf16 before they are added.
            Precision::Bf16 => (Stored::Bf16, cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION),
        };
        let (blas, kernels) = (CudaBlas::new(device.clone())?, Kernels::load(&device, stored)?);
        // SAFETY: the handle is that of `blas`.
        unsafe { cublas::sys::cublasSetMathMode(*blas.handle(), mode) }.result()?;
        let upload =
            Upload { stream: device.fork_default_stream()?, arrays: [None, None], next: 0, sources: [None, None] };
        let handles = Handles { blas, upload: Mutex::new(upload), _dfdx: dfdx };
        Ok(Self { handles: ManuallyDrop::new(handles), kernels, stored, blocks: Arc::default(), device })
    }

    /// How activations and their gradients are stored.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// Whether the device has products of rounded numbers: from compute capability 8.0 on.
    pub fn rounds(&self) -> bool {
        let major = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        self.device.attribute(major).is_ok_and(|major| major >= 8)
    }

    /// The handle of cuBLAS.
    pub(super) fn blas(&self) -> cublas::sys::cublasHandle_t {
        *self.handles.blas.handle()
    }

    /// Waits until the device has done all that it was asked for.
    ///
    /// # Errors
    /// The driver's, also of the work.
    pub fn wait(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }

    /// Memory for `len` values, which are not set.
    ///
    /// # Errors
    /// Too little memory; also from 2^32 values on, which the kernels cannot count.
    pub(super) fn alloc<T>(&self, len: usize) -> Result<Array<T>> {
        self.allocate(len, size_of::<T>())
    }

    /// [`Gpu::alloc`] for values of `size` bytes.
    fn allocate<T>(&self, len: usize, size: usize) -> Result<Array<T>> {
        if u32::try_from(len).is_err() {
            return Err(driver::DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY).into());
        }
        self.device.bind_to_thread()?;
        // SAFETY: whoever takes the array writes all of it before it is read.
        let start = unsafe { driver::result::malloc_async(stream(&self.device), len * size)? };
        Ok(Array { start, len, device: self.device.clone(), of: PhantomData })
    }

    /// Memory for `len` numbers, which are not set.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn floats(&self, len: usize) -> Result<Floats> {
        self.alloc(len)
    }

    /// Memory for `len` activations, which are not set.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn activations(&self, len: usize) -> Result<Activations> {
        self.allocate(len, self.stored.size())
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn zeros(&self, len: usize) -> Result<Floats> {
        let array = self.floats(len)?;
        // SAFETY: the array has this length.
        unsafe { driver::result::memset_d8_async(array.at(), 0, len * size_of::<f32>(), stream(&self.device))? };
        Ok(array)
    }

    /// Copies values to a new array.
    ///
    /// # Errors
    /// As [`Gpu::alloc`].
    pub fn send<T>(&self, values: Vec<T>) -> Result<Sent<T>> {
        let array = self.alloc(values.len())?;
        // SAFETY: the array has this length, and the values stay with it.
        unsafe { driver::result::memcpy_htod_async(array.at(), &values, stream(&self.device))? };
        Ok(Sent { array, _values: values })
    }

    /// Copies values to the device, and waits.
    pub fn upload(&self, values: &[f32], to: u64) -> Result<()> {
        // SAFETY: `to` is the start of at least as many values, and the copy is over when this returns.
        unsafe { driver::result::memcpy_htod_async(to, values, stream(&self.device))? };
        Ok(self.device.synchronize()?)
    }

    /// Room for `len` numbers in memory of the host that the device reads without a copy; their values are unspecified.
    ///
    /// # Errors
    /// The driver's, such as too little memory of that kind.
    pub fn pinned(&self, len: usize) -> Result<Pinned> {
        let mut blocks = lock(&self.blocks);
        // The smallest: a few numbers must not take the room of images.
        let enough = blocks.iter().enumerate().filter(|(_, block)| block.len >= len);
        let free = enough.min_by_key(|(_, block)| block.len).map(|(index, _)| index);
        let block = match free {
            Some(free) => blocks.swap_remove(free),
            None => {
                let mut start = std::ptr::null_mut();
                // SAFETY: the block that is made of it frees it, and keeps its length.
                unsafe { sys::cuMemHostAlloc(&mut start, len * size_of::<f32>(), 0) }.result()?;
                let start: *mut f32 = start.cast();
                // SAFETY: there are `len` numbers from `start`.
                unsafe { start.write_bytes(0, len) };
                Block { start, len, _device: self.device.clone() }
            }
        };
        Ok(Pinned { block: Some(block), len, home: self.blocks.clone() })
    }

    /// Copies images to the device, beside its work, and returns where they are until the call after the next. When
    /// this is called, the device must be done with the images of the call before the last.
    ///
    /// # Errors
    /// The driver's.
    pub fn upload_images(&self, images: Images) -> Result<u64> {
        let mut upload = lock(&self.handles.upload);
        let next = upload.next;
        if upload.arrays[next].as_ref().is_none_or(|array| array.len < images.len()) {
            upload.arrays[next] = Some(self.alloc(images.len())?);
            upload.stream.wait_for_default()?;
        }
        let to = upload.arrays[next].as_ref().map_or(0, Array::at);
        let stream = upload.stream.stream;
        // SAFETY: the array is long enough, and the images are kept until the call after the next.
        unsafe { driver::result::memcpy_htod_async(to, &images, stream)? };
        upload.sources[next] = Some(images);
        self.device.wait_for(&upload.stream)?;
        upload.next = 1 - next;
        Ok(to)
    }

    /// The dropout of some layers, each with one key per image. The keys must live until the kernels are launched.
    ///
    /// # Errors
    /// The driver's.
    pub fn dropout<const LAYERS: usize>(
        &self,
        dropout: Dropout,
        keys: &[Vec<u64>; LAYERS],
    ) -> Result<(Sent<u64>, [DropoutArgument; LAYERS])> {
        let sent = self.send(keys.concat())?;
        let argument = |layer: usize| DropoutArgument {
            keys: sent.array.at() + (layer * size_of_val(keys[layer].as_slice())) as u64,
            threshold: dropout.threshold(),
            scale: dropout.scale(),
        };
        let arguments = std::array::from_fn(argument);
        Ok((sent, arguments))
    }

    /// The values of an array; waits for the device.
    pub fn download(&self, start: u64, len: usize) -> Result<Vec<f32>> {
        let mut values = vec![0.0; len];
        // SAFETY: `start` is the start of at least `len` values, and the copy is over when this returns.
        unsafe { driver::result::memcpy_dtoh_async(&mut values, start, stream(&self.device))? };
        self.device.synchronize()?;
        Ok(values)
    }

    /// Begins to copy `len` numbers from the device, after the work so far.
    ///
    /// # Errors
    /// The driver's.
    pub fn fetch(&self, start: u64, len: usize) -> Result<Coming> {
        let event = driver::result::event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)?;
        // Where the system locks no memory, the driver copies to any.
        let values: Box<dyn DerefMut<Target = [f32]>> = match self.pinned(len) {
            Ok(values) => Box::new(values),
            Err(_) => Box::new(vec![0.0; len]),
        };
        let mut coming = Coming { values, event, happened: false };
        // SAFETY: `start` is the start of at least `len` values, and `coming` keeps the memory until the event.
        unsafe {
            driver::result::memcpy_dtoh_async(&mut coming.values, start, stream(&self.device))?;
            driver::result::event::record(event, stream(&self.device))?;
        }
        Ok(coming)
    }

    /// A copy of images in memory that the device reads without another copy.
    pub fn staged(&self, images: &[f32]) -> Images {
        const PART: usize = 1 << 18;
        let Ok(mut copy) = self.pinned(images.len()) else { return Box::new(images.to_vec()) };
        copy.par_chunks_mut(PART).zip(images.par_chunks(PART)).for_each(|(to, from)| to.copy_from_slice(from));
        Box::new(copy)
    }

    /// Copies `len` values on the device.
    pub fn copy(&self, from: u64, to: u64, len: usize) -> Result<()> {
        // SAFETY: both are the starts of at least `len` values.
        unsafe {
            driver::result::memcpy_dtod_async(to, from, len * size_of::<f32>(), stream(&self.device))?;
        }
        Ok(())
    }
}

/// The stream that the device's work is in.
fn stream(device: &CudaDevice) -> sys::CUstream {
    *device.cu_stream()
}
