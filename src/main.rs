//! The `wbc` program: everything is in [`wbc::cmd`].

/// Training asks for the same large blocks again and again: an allocator that keeps them saves the page faults.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    wbc::memory::keep();
    wbc::cmd::main()
}
