//! NVIDIA's libraries, loaded when a CUDA device is asked for.
//!
//! cudarc, which dfdx uses, is linked with them, so that a program built with CUDA would not start on a machine without
//! a driver, not even for `--help`. The functions here have the same names: the linker takes them instead, and each
//! calls the one in the library that is loaded on the first call.

use cudarc::driver::{self, result};
use dfdx::tensor::CudaError;
use libloading::Library;
use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A library, or why none of its files could be loaded.
type Loaded = Result<Library, String>;

/// The driver; a part of the system.
fn cuda() -> &'static Loaded {
    static LIBRARY: OnceLock<Loaded> = OnceLock::new();
    LIBRARY.get_or_init(|| load(&["libcuda.so.1", "nvcuda.dll"]))
}

/// Matrix products; a part of the CUDA toolkit.
fn cublas() -> &'static Loaded {
    static LIBRARY: OnceLock<Loaded> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        load(&[
            "libcublas.so.13",
            "libcublas.so.12",
            "libcublas.so.11",
            "cublas64_13.dll",
            "cublas64_12.dll",
            "cublas64_11.dll",
        ])
    })
}

/// The compiler; dfdx's operations that need it are not used.
fn nvrtc() -> &'static Loaded {
    static LIBRARY: OnceLock<Loaded> = OnceLock::new();
    LIBRARY.get_or_init(|| load(&["libnvrtc.so.13", "libnvrtc.so.12", "nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]))
}

/// The first of these files that can be loaded, from the system's places or the toolkit's.
fn load(names: &[&str]) -> Loaded {
    let roots = ["CUDA_PATH", "CUDA_ROOT", "CUDA_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let roots = roots.chain(["/usr/local/cuda".into(), "/opt/cuda".into()]);
    let folders: Vec<PathBuf> =
        roots.flat_map(|root| ["lib64", "lib", "bin"].map(|folder| root.join(folder))).collect();
    let mut errors = Vec::new();
    for name in names {
        for path in std::iter::once(PathBuf::from(name)).chain(folders.iter().map(|folder| folder.join(name))) {
            // SAFETY: the library's initialisation is NVIDIA's.
            match unsafe { Library::new(&path) } {
                Ok(library) => return Ok(library),
                Err(error) => {
                    errors.push(std::error::Error::source(&error).map_or_else(|| error.to_string(), |e| e.to_string()))
                }
            }
        }
    }
    Err(errors.swap_remove(0))
}

/// The address of a function, or 0.
fn address(library: &Loaded, name: &str) -> usize {
    let Ok(library) = library else { return 0 };
    // SAFETY: only the address is taken; whoever calls it knows the type.
    let symbol = unsafe { library.get::<*const c_void>(name).map(|symbol| symbol.try_as_raw_ptr()) };
    symbol.ok().flatten().map_or(0, |address| address as usize)
}

/// Functions that pass their arguments on, each an integer or a pointer, and return `missing` where the library has
/// none of that name.
macro_rules! forward {
    ($library:ident, $missing:literal: $($name:ident($($argument:ident)*))*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($($argument: usize),*) -> usize {
                static ADDRESS: OnceLock<usize> = OnceLock::new();
                match *ADDRESS.get_or_init(|| address($library(), stringify!($name))) {
                    0 => $missing,
                    address => {
                        // SAFETY: the function has this name, and cudarc's declaration of it has as many arguments.
                        let function: extern "C" fn($($argument: usize),*) -> usize =
                            unsafe { std::mem::transmute(address) };
                        function($($argument),*)
                    }
                }
            }
        )*
    };
}

#[allow(non_snake_case)]
mod functions {
    use super::{OnceLock, address, cublas, cuda, nvrtc};

    // 100: no device.
    forward!(cuda, 100:
        cuInit(a) cuDriverGetVersion(a) cuDeviceGet(a b) cuDeviceGetCount(a) cuDeviceGetName(a b c)
        cuDeviceGetAttribute(a b c) cuDevicePrimaryCtxRetain(a b) cuDevicePrimaryCtxRelease_v2(a) cuCtxSetCurrent(a)
        cuGetErrorString(a b) cuGetErrorName(a b) cuEventCreate(a b) cuEventDestroy_v2(a) cuEventRecord(a b)
        cuEventSynchronize(a)
        cuStreamCreate(a b) cuStreamDestroy_v2(a) cuStreamSynchronize(a) cuStreamWaitEvent(a b c) cuMemGetInfo_v2(a b)
        cuMemAllocAsync(a b c) cuMemAlloc_v2(a b) cuMemFreeAsync(a b) cuMemFree_v2(a) cuMemHostAlloc(a b c)
        cuMemFreeHost(a) cuDeviceGetDefaultMemPool(a b) cuMemPoolSetAttribute(a b c)
        cuMemcpyDtoDAsync_v2(a b c d) cuMemcpyDtoD_v2(a b c) cuMemcpyDtoHAsync_v2(a b c d) cuMemcpyDtoH_v2(a b c)
        cuMemcpyHtoDAsync_v2(a b c d) cuMemcpyHtoD_v2(a b c) cuMemsetD8Async(a b c d) cuMemsetD8_v2(a b c)
        cuModuleLoad(a b) cuModuleLoadData(a b) cuModuleUnload(a) cuModuleGetFunction(a b c)
        cuLaunchKernel(a b c d e f g h i j k));
    // 1: not initialised.
    forward!(cublas, 1:
        cublasCreate_v2(a) cublasDestroy_v2(a) cublasSetStream_v2(a b) cublasSetMathMode(a b)
        cublasGemmEx(a b c d e f g h i j k l m n o p q r s)
        cublasSgemmStridedBatched(a b c d e f g h i j k l m n o p q r));
    forward!(nvrtc, 1:
        nvrtcCreateProgram(a b c d e f) nvrtcCompileProgram(a b c) nvrtcDestroyProgram(a) nvrtcGetPTX(a b)
        nvrtcGetPTXSize(a b) nvrtcGetProgramLog(a b) nvrtcGetProgramLogSize(a b));
}

/// Whether CUDA device `ordinal` can be used. cudarc would panic where it cannot.
///
/// # Errors
/// What is missing, in words.
pub fn check(ordinal: usize) -> Result<(), String> {
    cuda().as_ref().map_err(|error| format!("no NVIDIA driver ({error})"))?;
    let failed = |error: driver::DriverError| format!("the NVIDIA driver reports: {}", text(&error.into()));
    result::init().map_err(failed)?;
    let count = result::device::get_count().map_err(failed)? as usize;
    if ordinal >= count {
        return Err(match count {
            0 => "no CUDA device in this machine".into(),
            1 => "one CUDA device in this machine, cuda:0".into(),
            _ => format!("{count} CUDA devices in this machine, cuda:0 to cuda:{}", count - 1),
        });
    }
    let cublas = cublas().as_ref().map(drop);
    cublas.map_err(|error| format!("no cuBLAS of CUDA 11 to 13, which the CUDA toolkit has ({error})"))
}

/// An error in the driver's words, where it has some.
pub fn text(error: &CudaError) -> String {
    let code = match error {
        CudaError::Driver(error) => match error.error_string() {
            Ok(text) => return text.to_string_lossy().into_owned(),
            Err(_) => error.0 as u32,
        },
        CudaError::Blas(error) => return format!("cuBLAS: {:?}", error.0),
        CudaError::Cpu(error) => return error.to_string(),
    };
    format!("error {code} of the driver")
}

/// What the simulated device of `tests/cuda` has counted: launches, matrix products, bytes copied in, waits, and bytes
/// at the peak. None on a GPU.
#[cfg(test)]
pub fn simulated_counts() -> Option<[usize; 5]> {
    let address = address(cuda(), "simulatorCounts");
    (address != 0).then(|| {
        let mut counts = [0; 5];
        // SAFETY: the simulator declares it like this.
        let write: extern "C" fn(*mut usize) = unsafe { std::mem::transmute(address) };
        write(counts.as_mut_ptr());
        counts
    })
}
