//! The extension module `apr._core`: one file per crate, nothing but translation.

mod countdown;
mod decoder;

use pyo3::prelude::*;

#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    countdown::register(module)?;
    decoder::register(module)
}
