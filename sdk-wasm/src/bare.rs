//! What the core has in a browser in the place of the standard library: memory, and an end.
//!
//! The standard library's own weigh 8 KiB of gzip there: it formats the message of a panic, for a console that the core does not have.

use core::panic::PanicInfo;
use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

#[global_allocator]
static MEMORY: WasmDynamicTalc = new_wasm_dynamic_allocator();

/// A trap. The shell drops this instance, and begins anew with another.
#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
