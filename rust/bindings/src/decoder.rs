//! `apr._core.Decoder`: the crate `apr-decoder` for Python. Every call that computes or waits leaves the interpreter
//! lock to others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use apr_decoder::{CacheType, ComputeType, Config, Elements, Error, FinishReason, Options, Request, Tensor, Timing};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyFileNotFoundError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyMapping};

/// Adds this file's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Decoder>()?;
    module.add_function(wrap_pyfunction!(architecture, module)?)
}

/// The one place where the decoder's errors become Python's.
fn raise(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => PyFileNotFoundError::new_err(text),
        Error::Io { .. } | Error::Busy { .. } => PyRuntimeError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// The architecture of a Hugging Face directory, by the name of its class in `transformers`. Refuses one whose
/// `config.json` asks for more than the forward pass has, and one that holds anything but files and directories.
#[pyfunction]
fn architecture(directory: PathBuf) -> PyResult<&'static str> {
    Config::read(&directory).map(|config| config.family.architecture()).map_err(raise)
}

/// What one call of `run` brought for one request: id, tokens, log-probabilities, finish reason or None, cached
/// tokens, policy version, and the seconds spent in the queue, until the first token and since.
type Update = (u64, Vec<u32>, Vec<f32>, Option<&'static str>, usize, u64, (f64, f64, f64));

/// A model on the CPU that decodes many requests at once.
#[pyclass(frozen, module = "apr._core")]
struct Decoder {
    inner: Mutex<apr_decoder::Decoder>,
    context_length: usize,
    vocab_size: usize,
    policy_version: AtomicU64,
    /// Whose threads decode.
    process: u32,
}

impl Decoder {
    /// RuntimeError after a panic, which leaves pages in the tree that were never computed, and in a process that was
    /// forked off, where nobody would ever give the lock back.
    fn lock(&self) -> PyResult<MutexGuard<'_, apr_decoder::Decoder>> {
        if std::process::id() != self.process {
            return Err(PyRuntimeError::new_err("the decoder belongs to the process that was forked"));
        }
        self.inner.lock().map_err(|_| PyRuntimeError::new_err("the decoder broke down in an earlier call"))
    }
}

#[pymethods]
impl Decoder {
    /// Loads a Hugging Face directory.
    #[new]
    #[pyo3(signature = (directory, *, cache_bytes=None, cache_dtype=None, compute_dtype=None, threads=None, max_batch=None))]
    fn new(
        py: Python<'_>,
        directory: PathBuf,
        cache_bytes: Option<usize>,
        cache_dtype: Option<&str>,
        compute_dtype: Option<&str>,
        threads: Option<usize>,
        max_batch: Option<usize>,
    ) -> PyResult<Self> {
        let default = Options::default();
        let options = Options {
            cache_bytes,
            cache_type: match cache_dtype {
                None => default.cache_type,
                Some("int8") => CacheType::Int8,
                Some("bfloat16") => CacheType::Bfloat16,
                Some("float32") => CacheType::Float32,
                Some(other) => {
                    let reason = format!("cache_dtype must be \"bfloat16\", \"float32\" or \"int8\", not {other:?}");
                    return Err(PyValueError::new_err(reason));
                }
            },
            compute_type: match compute_dtype {
                None => default.compute_type,
                Some("bfloat16") => ComputeType::Bfloat16,
                Some("float32") => ComputeType::Float32,
                Some(other) => {
                    let reason = format!("compute_dtype must be \"bfloat16\" or \"float32\", not {other:?}");
                    return Err(PyValueError::new_err(reason));
                }
            },
            threads: threads.unwrap_or(default.threads),
            max_batch: max_batch.unwrap_or(default.max_batch),
        };
        let inner = py.detach(|| apr_decoder::Decoder::open(directory, &options)).map_err(raise)?;
        Ok(Self {
            context_length: inner.config().context_length,
            vocab_size: inner.config().vocab_size,
            policy_version: AtomicU64::new(inner.policy_version()),
            inner: Mutex::new(inner),
            process: std::process::id(),
        })
    }

    /// The longest sequence, in tokens.
    #[getter]
    fn context_length(&self) -> usize {
        self.context_length
    }

    /// Tokens the model knows.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Counts the weight updates.
    #[getter]
    fn policy_version(&self) -> u64 {
        self.policy_version.load(Ordering::Relaxed)
    }

    /// Queues a request.
    #[pyo3(signature = (id, prompt, *, temperature, max_tokens, stop_token_ids, seed))]
    #[allow(clippy::too_many_arguments)]
    fn submit(
        &self,
        py: Python<'_>,
        id: u64,
        prompt: Vec<u32>,
        temperature: f32,
        max_tokens: Option<usize>,
        stop_token_ids: Vec<u32>,
        seed: u64,
    ) -> PyResult<()> {
        let request = Request { id, prompt, temperature, max_tokens, stop_tokens: stop_token_ids, seed };
        py.detach(|| self.lock()?.submit(request).map_err(raise))
    }

    /// Ends a request with the next call of `run`; False if no such request is open.
    fn abort(&self, py: Python<'_>, id: u64) -> PyResult<bool> {
        py.detach(|| Ok(self.lock()?.abort(id)))
    }

    /// Steps until the time is over, a request ends, or nothing is left to do.
    fn run(&self, py: Python<'_>, seconds: f64) -> PyResult<Vec<Update>> {
        let time = Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))?;
        let updates = py.detach(|| self.lock().map(|mut inner| inner.run(time)))?;
        Ok(updates
            .into_iter()
            .map(|update| {
                let finished = update.finished.map(|reason| match reason {
                    FinishReason::Stop => "stop",
                    FinishReason::Length => "length",
                    FinishReason::Abort => "abort",
                    FinishReason::Error => "error",
                });
                let Timing { queue, prefill, decode } = update.timing;
                let seconds = (queue, prefill, decode);
                (
                    update.id,
                    update.tokens,
                    update.logprobs,
                    finished,
                    update.cached_tokens,
                    update.policy_version,
                    seconds,
                )
            })
            .collect())
    }

    /// Replaces all weights by name: float32 buffers, or bfloat16 as buffers of 16-bit unsigned integers. Returns the
    /// new policy version.
    fn update_weights(&self, py: Python<'_>, state: &Bound<'_, PyMapping>) -> PyResult<u64> {
        let mut tensors = HashMap::new();
        for item in state.items()?.iter() {
            let (name, array): (String, Bound<'_, PyAny>) = item.extract()?;
            let tensor = tensor(py, &name, &array)?;
            tensors.insert(name, tensor);
        }
        let version = py.detach(|| {
            let mut inner = self.lock()?;
            inner.update_weights(&tensors).map(|()| inner.policy_version()).map_err(raise)
        })?;
        self.policy_version.store(version, Ordering::Relaxed);
        Ok(version)
    }

    /// Counters since the start, and the state now.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.lock().map(|inner| inner.stats()))?;
        let dict = PyDict::new(py);
        dict.set_item("steps", stats.steps)?;
        dict.set_item("computed_tokens", stats.computed_tokens)?;
        dict.set_item("prompt_tokens", stats.prompt_tokens)?;
        dict.set_item("cached_tokens", stats.cached_tokens)?;
        dict.set_item("sampled_tokens", stats.sampled_tokens)?;
        dict.set_item("preemptions", stats.preemptions)?;
        dict.set_item("waiting", stats.waiting)?;
        dict.set_item("running", stats.running)?;
        dict.set_item("used_pages", stats.used_pages)?;
        dict.set_item("pages", stats.pages)?;
        Ok(dict)
    }
}

/// Copies a buffer, since its owner may change it once the interpreter lock is given up.
fn tensor(py: Python<'_>, name: &str, array: &Bound<'_, PyAny>) -> PyResult<Tensor<'static>> {
    if let Ok(buffer) = PyBuffer::<f32>::get(array) {
        return Ok(Tensor {
            shape: buffer.shape().to_vec(),
            elements: Elements::Float(Cow::Owned(buffer.to_vec(py)?)),
        });
    }
    let buffer = PyBuffer::<u16>::get(array).map_err(|_| {
        PyValueError::new_err(format!("weight {name}: expected a buffer of float32, or of uint16 that holds bfloat16"))
    })?;
    Ok(Tensor { shape: buffer.shape().to_vec(), elements: Elements::Brain(Cow::Owned(buffer.to_vec(py)?)) })
}
