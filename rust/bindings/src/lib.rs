//! The extension module `apr._core`: one file per crate, nothing but translation.

mod countdown;
mod decoder;
mod parallel;
mod sudoku;

use mimalloc::MiMalloc;
use pyo3::prelude::*;

/// Traces and verdicts are many small allocations: a fifth of their time with the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    countdown::register(module)?;
    decoder::register(module)?;
    sudoku::register(module)
}
