//! What can go wrong, one enum for the crate.

use std::path::PathBuf;

/// An error of the decoder. A failed call leaves the decoder as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The checkpoint is valid, but of a model this decoder does not run.
    #[error("unsupported model: {0}")]
    Unsupported(String),
    /// A tensor is missing, unknown, or of the wrong shape or type.
    #[error("weight {name}: {reason}")]
    Weight {
        /// The tensor's Hugging Face name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An option is out of range.
    #[error("option {name}: {reason}")]
    Option {
        /// The option.
        name: &'static str,
        /// What it must be.
        reason: String,
    },
    /// A request cannot run; the others are untouched.
    #[error("request {id}: {reason}")]
    Request {
        /// The request.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The call needs a decoder with no request in it.
    #[error("{requests} requests are still open")]
    Busy {
        /// How many.
        requests: usize,
    },
}

impl Error {
    pub(crate) fn weight(name: &str, reason: impl Into<String>) -> Self {
        Self::Weight { name: name.to_owned(), reason: reason.into() }
    }
}
