//! `apr-countdown` for Python. Work of any length runs with the interpreter lock released.

mod problem;
mod problems;
mod teacher;
mod text;
mod tokenizer;

use apr_countdown::{Error, trace};
use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// Adds everything to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("GrammarError", module.py().get_type::<text::GrammarError>())?;
    module.add("SPAWN_OPEN", trace::SPAWN)?;
    module.add("SPAWN_END", trace::END_SPAWN)?;
    module.add("JOIN_OPEN", trace::JOIN)?;
    problem::register(module)?;
    problems::register(module)?;
    teacher::register(module)?;
    text::register(module)?;
    tokenizer::register(module)
}

/// The one map from this crate's errors to Python's.
fn raise(error: Error) -> PyErr {
    match error {
        Error::Overflow => PyOverflowError::new_err(error.to_string()),
        _ => PyValueError::new_err(error.to_string()),
    }
}

fn unknown_method(name: &str) -> PyErr {
    PyValueError::new_err(format!("method is \"sos\", \"sos+\" or \"apr\", not {name:?}"))
}
