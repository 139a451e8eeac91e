//! For `wbc doctor`: the compiler, and the versions of the two libraries that results depend on.

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
}
