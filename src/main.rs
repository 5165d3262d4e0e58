//! Arguments in, exit code out.

use std::process::ExitCode;

/// Many small allocations on several threads are what this program makes; the system's allocator is slower at them
/// and gives less back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    message_webhook::cli::run(std::env::args_os())
}
