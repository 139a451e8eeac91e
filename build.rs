//! For `wbc doctor`: the compiler, and the versions of the two libraries that results depend on. With the feature `cuda`:
//! the kernels for CUDA devices, compiled by nvcc.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").and_then(|rustc| Command::new(rustc).arg("--version").output().ok());
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string());
    println!("cargo:rustc-env=BUILT_BY={}", rustc.unwrap_or_else(|| "unknown".into()));
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    for package in ["dfdx", "polars"] {
        let at = lock.split_once(&format!("name = \"{package}\"\nversion = \""));
        let version = at.and_then(|(_, rest)| rest.split_once('"')).map_or("unknown", |(version, _)| version);
        println!("cargo:rustc-env=VERSION_OF_{}={version}", package.to_uppercase());
    }
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        compile_kernels();
    }
}

/// Compiles the kernels for the same compute capability as dfdx's: that of `CUDA_COMPUTE_CAP`, such as 80, or of the
/// first GPU of this machine.
fn compile_kernels() {
    const KERNELS: &str = "src/nn/cuda/kernels.cu";
    /// The file for each way to store activations, and what chooses it.
    const FILES: [(&str, &[&str]); 2] = [("kernels.ptx", &[]), ("kernels_bf16.ptx", &["--define-macro=BF16"])];
    println!("cargo:rerun-if-changed={KERNELS}");
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo:rerun-if-env-changed=CUDA_PATH");
    let capability = std::env::var("CUDA_COMPUTE_CAP").ok().or_else(|| {
        let output = Command::new("nvidia-smi").args(["--query-gpu=compute_cap", "--format=csv,noheader"]).output();
        let text = String::from_utf8(output.ok()?.stdout).ok()?;
        Some(text.lines().next()?.trim().replace('.', ""))
    });
    let capability =
        capability.expect("no compute capability: set CUDA_COMPUTE_CAP, such as 80, or install nvidia-smi");
    let in_toolkit = std::env::var_os("CUDA_PATH").map(|root| PathBuf::from(root).join("bin/nvcc"));
    let nvcc = in_toolkit.filter(|nvcc| nvcc.is_file()).unwrap_or_else(|| "nvcc".into());
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    for (file, options) in FILES {
        let mut command = Command::new(&nvcc);
        command.arg(format!("--gpu-architecture=compute_{capability}")).args(options);
        // 177: functions that only the other of the files uses.
        command.args(["--diag-suppress=177", "--ptx", KERNELS, "--output-file"]).arg(folder.join(file));
        let status = command.status();
        let status = status.unwrap_or_else(|e| panic!("{}: {e}: the CUDA toolkit is missing", nvcc.display()));
        assert!(status.success(), "nvcc cannot compile {KERNELS} for compute capability {capability}");
    }
}
