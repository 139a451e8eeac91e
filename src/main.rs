//! The `wbc` program: see [`wbc::cmd`].

/// Training allocates the same large blocks in every step; mimalloc keeps them, which saves page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    wbc::memory::keep();
    wbc::cmd::main()
}
