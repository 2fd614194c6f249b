//! The shape of a model, read from `config.json`. Whatever the forward pass does not implement is refused here, so
//! that a checkpoint either runs as its authors meant it or not at all.

use std::path::Path;

use serde_json::Value;

use crate::error::Error;

/// Shape and constants of a `LlamaForCausalLM`.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of one head; even.
    pub head_dim: usize,
    /// The longest sequence, in tokens.
    pub context_length: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added to the mean square in each norm.
    pub rms_norm_eps: f32,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
}

impl Config {
    /// Reads `config.json` of a Hugging Face directory.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Io { path: path.clone(), source })?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Format { path: path.clone(), reason: error.to_string() })?;
        Self::parse(&value).map_err(|error| match error {
            Problem::Invalid(reason) => Error::Format { path, reason },
            Problem::Unsupported(what) => Error::Unsupported(what),
        })
    }

    fn parse(value: &Value) -> Result<Self, Problem> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        let model_type = text("model_type").unwrap_or("llama");
        let architecture = value.pointer("/architectures/0").and_then(Value::as_str).unwrap_or("LlamaForCausalLM");
        if model_type != "llama" || architecture != "LlamaForCausalLM" {
            return Err(Problem::Unsupported(format!("{architecture} ({model_type})")));
        }
        for key in ["attention_bias", "mlp_bias"] {
            if value.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(Problem::Unsupported(format!("{key} = true")));
            }
        }
        if let Some(activation) = text("hidden_act").filter(|&name| name != "silu") {
            return Err(Problem::Unsupported(format!("hidden_act = {activation:?}")));
        }
        let hidden_size = whole(value, "hidden_size", None)?;
        let heads = whole(value, "num_attention_heads", None)?;
        let config = Self {
            vocab_size: whole(value, "vocab_size", None)?,
            hidden_size,
            intermediate_size: whole(value, "intermediate_size", None)?,
            layers: whole(value, "num_hidden_layers", None)?,
            heads,
            kv_heads: whole(value, "num_key_value_heads", Some(heads))?,
            head_dim: whole(value, "head_dim", Some(hidden_size / heads))?,
            context_length: whole(value, "max_position_embeddings", Some(2048))?,
            rope_theta: rope_theta(value)?,
            rms_norm_eps: value.get("rms_norm_eps").and_then(Value::as_f64).unwrap_or(1e-6) as f32,
            tied_embeddings: value.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
        };
        if !config.heads.is_multiple_of(config.kv_heads) {
            return Err(Problem::Invalid("num_attention_heads is not a multiple of num_key_value_heads".into()));
        }
        if !config.head_dim.is_multiple_of(2) {
            return Err(Problem::Invalid("head_dim is odd".into()));
        }
        Ok(config)
    }

    /// Width of the keys of one token.
    pub(crate) fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

enum Problem {
    Invalid(String),
    Unsupported(String),
}

/// A positive whole number that fits 32 bits; null counts as absent.
fn whole(value: &Value, key: &str, default: Option<usize>) -> Result<usize, Problem> {
    let number = match value.get(key) {
        None | Some(Value::Null) => default,
        Some(found) => found.as_u64().map(|number| number as usize),
    };
    number
        .filter(|&number| number > 0 && u32::try_from(number).is_ok())
        .ok_or_else(|| Problem::Invalid(format!("{key} must be a positive whole number")))
}

/// The rotary base, from `rope_theta` or from the newer `rope_parameters`; any scaling is refused.
fn rope_theta(value: &Value) -> Result<f32, Problem> {
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(rope) = value.get(key).filter(|rope| !rope.is_null()) else {
            continue;
        };
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        let kind = kind.and_then(Value::as_str).unwrap_or("default");
        if kind != "default" {
            return Err(Problem::Unsupported(format!("rope type {kind:?}")));
        }
        if rope.get("partial_rotary_factor").and_then(Value::as_f64).unwrap_or(1.0) != 1.0 {
            return Err(Problem::Unsupported("partial rotary embedding".into()));
        }
    }
    let theta = value.pointer("/rope_parameters/rope_theta").or_else(|| value.get("rope_theta"));
    match theta {
        None | Some(Value::Null) => Ok(10_000.0),
        Some(theta) => theta
            .as_f64()
            .filter(|&theta| theta > 0.0)
            .map(|theta| theta as f32)
            .ok_or_else(|| Problem::Invalid("rope_theta must be a positive number".into())),
    }
}
