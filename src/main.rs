//! The `wbc` program: everything is in [`wbc::cmd`].

fn main() -> std::process::ExitCode {
    wbc::cmd::main()
}
