//! The compact tokenizer, and Llama-2 token counts.

use apr_countdown::{llama2, tokens, trace};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyString;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Tokenizer>()?;
    module.add_function(wrap_pyfunction!(llama2_tokens, module)?)?;
    Ok(())
}

/// The compact tokenizer, of traces or of a language with phrases of its own.
#[pyclass(frozen, module = "apr")]
pub(super) struct Tokenizer(tokens::Tokenizer);

#[pymethods]
impl Tokenizer {
    /// The built-in vocabulary, that of traces.
    #[new]
    fn new() -> Tokenizer {
        Tokenizer(tokens::Tokenizer::default())
    }

    /// The vocabulary with these phrases; ValueError for one that can be no token among the others.
    #[staticmethod]
    fn of(phrases: Vec<String>) -> PyResult<Tokenizer> {
        tokens::Tokenizer::of(&phrases).map(Tokenizer).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// Reads the text of a `tokenizer.json` of this kind; ValueError for any other.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Tokenizer> {
        tokens::Tokenizer::from_json(text).map(Tokenizer).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// The text of the `tokenizer.json` that holds this vocabulary.
    fn to_json(&self) -> String {
        self.0.to_json()
    }

    /// Token ids of any text; no begin or end token is added. Without `specials` the names of special tokens in the
    /// text are text like any other.
    #[pyo3(signature = (text, specials=true))]
    fn encode(&self, text: &Bound<'_, PyString>, specials: bool) -> Vec<u32> {
        let text = text.to_string_lossy();
        if specials { self.0.encode(&text) } else { self.0.encode_plain(&text) }
    }

    /// The text of token ids; ValueError for an id outside the vocabulary. Unless they are `whole`, what may yet
    /// become a character is left out at the end.
    #[pyo3(signature = (ids, skip_special=false, whole=true))]
    fn decode(&self, ids: Vec<u32>, skip_special: bool, whole: bool) -> PyResult<String> {
        let text = if whole { self.0.decode(&ids, skip_special) } else { self.0.decode_open(&ids, skip_special) };
        text.map_err(|e| PyValueError::new_err(e.to_string()))
    }

    /// The id of a special token, a phrase or a character; None if it is no token.
    fn token_id(&self, token: &str) -> Option<u32> {
        self.0.id(token)
    }

    /// Of a state line: what opens it, what begins its numbers, and the two phrases that end it.
    #[getter]
    fn state_tokens(&self) -> Vec<u32> {
        let phrases = [trace::STATE, trace::TARGET_LIST, trace::NO_OPERATIONS, trace::END_OPERATIONS];
        phrases.iter().filter_map(|phrase| self.0.id(phrase)).collect()
    }

    /// The two phrases that end a comparison with the target.
    #[getter]
    fn verdict_tokens(&self) -> Vec<u32> {
        [trace::UNEQUAL, trace::EQUAL].iter().filter_map(|phrase| self.0.id(phrase)).collect()
    }

    /// The phrase that ends a join block.
    #[getter]
    fn join_end(&self) -> Option<u32> {
        self.0.id(trace::END_JOIN)
    }

    /// How many token ids there are, from 0 on.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.0.vocab_size()
    }

    /// Id of the token that fills up a batch.
    #[getter]
    fn pad(&self) -> Option<u32> {
        self.0.id(tokens::PAD)
    }

    /// Id of the token that a sequence begins with.
    #[getter]
    fn bos(&self) -> Option<u32> {
        self.0.id(tokens::BOS)
    }

    /// Id of the token that a thread ends with.
    #[getter]
    fn eos(&self) -> Option<u32> {
        self.0.id(tokens::EOS)
    }
}

/// How many tokens a text has for Llama 2, without begin and end: the unit of the paper's token counts.
#[pyfunction]
pub(super) fn llama2_tokens(text: &Bound<'_, PyString>) -> usize {
    llama2::llama2_tokens(&text.to_string_lossy())
}
