//! The `cyphonic` program; see the library of the same name.

use std::process::ExitCode;

/// The system's allocator gives memory back to the kernel between one batch of packets and the next, and asks for it
/// again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cyphonic::main()
}
