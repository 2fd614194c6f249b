//! The shape of a model, read from `config.json`. Whatever the forward pass does not implement is refused here, so
//! that a checkpoint either runs as its authors meant it or not at all.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::files;
use crate::rope::{Llama3, Rope};

/// Models whose forward pass is a Llama's but for what is done to queries, keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Nothing else is done to them.
    Llama,
    /// They have biases.
    Qwen2,
    /// Each head's query and key is normalised.
    Qwen3,
}

/// Shape and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What kind of model it is.
    pub family: Family,
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
    /// Rotary positions.
    pub rope: Rope,
    /// Added to the mean square in each norm.
    pub rms_norm_eps: f32,
    /// Whether the output matrix is the embedding.
    pub tied_embeddings: bool,
}

impl Config {
    /// Reads `config.json` of a Hugging Face directory.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        files::check(directory)?;
        let path = directory.join("config.json");
        let value = files::read_json(&path)?;
        Self::parse(&value).map_err(|error| match error {
            Problem::Invalid(reason) => Error::Format { path, reason },
            Problem::Unsupported(what) => Error::Unsupported(what),
        })
    }

    fn parse(value: &Value) -> Result<Self, Problem> {
        let family = family(value)?;
        if let Some(key) = NEVER_NULL.iter().find(|&key| value.get(key).is_some_and(Value::is_null)) {
            return Err(Problem::Invalid(format!("{key} is null")));
        }
        for key in OFF {
            require(key, value.get(key), is_off)?;
        }
        // A Qwen's window is only in use where another key says so.
        if family == Family::Llama {
            require("sliding_window", value.get("sliding_window"), is_off)?;
        }
        for key in ONE {
            require(key, value.get(key), is_one)?;
        }
        for key in ["hidden_act", "hidden_activation"] {
            require(key, value.get(key), |name| name == "silu")?;
        }
        require("is_causal", value.get("is_causal"), |on| on == true)?;
        let full = |layers: &Value| layers.as_array().is_some_and(|all| all.iter().all(|one| one == "full_attention"));
        require("layer_types", value.get("layer_types"), full)?;
        let hidden_size = whole(value, "hidden_size", None)?;
        let heads = whole(value, "num_attention_heads", None)?;
        if !hidden_size.is_multiple_of(heads) {
            return Err(Problem::Invalid("hidden_size is not a multiple of num_attention_heads".into()));
        }
        let config = Self {
            family,
            vocab_size: whole(value, "vocab_size", None)?,
            hidden_size,
            intermediate_size: whole(value, "intermediate_size", None)?,
            layers: Some(whole(value, "num_hidden_layers", None)?)
                .filter(|&layers| layers <= MOST_LAYERS)
                .ok_or_else(|| Problem::Invalid(format!("num_hidden_layers must be at most {MOST_LAYERS}")))?,
            heads,
            kv_heads: whole(value, "num_key_value_heads", family.kv_heads(heads))?,
            head_dim: whole(value, "head_dim", Some(family.head_dim(hidden_size / heads)))?,
            context_length: whole(value, "max_position_embeddings", Some(family.context_length()))?,
            rope: rope(value)?,
            rms_norm_eps: number("rms_norm_eps", value.get("rms_norm_eps"), EPSILON)?.unwrap_or(1e-6) as f32,
            tied_embeddings: match value.get("tie_word_embeddings") {
                None => false,
                Some(Value::Bool(tied)) => *tied,
                Some(_) => return Err(Problem::Invalid("tie_word_embeddings must be true or false".into())),
            },
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

/// What else a checkpoint may say of its model, none of which the forward pass has.
const OFF: [&str; 25] = [
    "attention_bias",
    "mlp_bias",
    "qkv_bias",
    "bias",
    "use_qk_norm",
    "qk_norm",
    "use_sliding_window",
    "attention_chunk_size",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "query_pre_attn_scalar",
    "attention_multiplier",
    "clip_qkv",
    "alibi",
    "use_parallel_residual",
    "no_rope_layers",
    "rope_interleaved",
    "num_experts",
    "num_local_experts",
    "quantization",
    "quantization_config",
    "compression_config",
    "is_encoder_decoder",
    "add_cross_attention",
    "auto_map",
];
/// Null stands for no value of these, as it does for others.
const NEVER_NULL: [&str; 5] = ["hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "tie_word_embeddings"];
/// Factors that the forward pass does not multiply by.
const ONE: [&str; 6] = [
    "partial_rotary_factor",
    "rotary_pct",
    "embedding_multiplier",
    "residual_multiplier",
    "logits_scaling",
    "logit_scale",
];
/// Some times as many as any model has; whoever builds a model builds as many as it is told to.
const MOST_LAYERS: usize = 1024;
/// Beyond these, float32 holds neither the base nor its frequencies.
const THETA: RangeInclusive<f64> = 1.0..=1e30;
/// Of Llama 3's scaling.
const FACTOR: RangeInclusive<f64> = 1.0..=1e9;
const EPSILON: RangeInclusive<f64> = 1e-30..=1.0;

enum Problem {
    Invalid(String),
    Unsupported(String),
}

impl Family {
    const ALL: [Self; 3] = [Self::Llama, Self::Qwen2, Self::Qwen3];

    /// As `model_type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }

    /// As `architectures` has it: the name of its class in `transformers`.
    pub fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    /// What a configuration leaves out, as `transformers` fills it in; it does so with a fixed number of heads for Qwen,
    /// which fits hardly any model and is asked for instead.
    fn kv_heads(self, heads: usize) -> Option<usize> {
        (self == Self::Llama).then_some(heads)
    }

    fn head_dim(self, share: usize) -> usize {
        if self == Self::Qwen3 { 128 } else { share }
    }

    fn context_length(self) -> usize {
        if self == Self::Llama { 2048 } else { 32_768 }
    }
}

/// The family that `model_type` and `architectures`, or the one of them that is given, name.
fn family(value: &Value) -> Result<Family, Problem> {
    if !value.is_object() {
        return Err(Problem::Invalid("not a JSON object".into()));
    }
    let given = |key| value.get(key).filter(|found| !found.is_null());
    let (kind, classes) = (given("model_type"), given("architectures"));
    if kind.is_none() && classes.is_none() {
        return Err(Problem::Invalid("neither model_type nor architectures says which model it is".into()));
    }
    let of_kind = |family: &Family| kind.is_none_or(|name| name == family.name());
    require("model_type", kind, |_| Family::ALL.iter().any(of_kind))?;
    let of_class = |family: &Family| {
        classes.is_none_or(|names| names.as_array().is_some_and(|names| names == &[family.architecture()]))
    };
    let family = Family::ALL.into_iter().find(|family| of_kind(family) && of_class(family));
    require("architectures", classes, |_| family.is_some())?;
    family.ok_or_else(|| Problem::Invalid("model_type names no model".into()))
}

/// Null counts as absent, which is always fine.
fn require(key: &str, value: Option<&Value>, fine: impl Fn(&Value) -> bool) -> Result<(), Problem> {
    match value {
        Some(value) if !value.is_null() && !fine(value) => {
            let text: String = value.to_string().chars().take(60).collect();
            Err(Problem::Unsupported(format!("{key} = {text}")))
        }
        _ => Ok(()),
    }
}

fn is_off(value: &Value) -> bool {
    match value {
        Value::Bool(on) => !on,
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
        _ => false,
    }
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

/// A positive whole number that fits 32 bits; null counts as absent.
fn whole(value: &Value, key: &str, default: Option<usize>) -> Result<usize, Problem> {
    let number = match value.get(key) {
        None | Some(Value::Null) => default,
        Some(found) => found.as_u64().map(|number| number as usize),
    };
    number
        .filter(|&number| number > 0 && u32::try_from(number).is_ok())
        .ok_or_else(|| Problem::Invalid(format!("{key} must be a whole number from 1 to {}", u32::MAX)))
}

/// A number within bounds; null counts as absent.
fn number(key: &str, value: Option<&Value>, range: RangeInclusive<f64>) -> Result<Option<f64>, Problem> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    match value.as_f64().filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(Problem::Invalid(format!("{key} must be a number from {:e} to {:e}", range.start(), range.end()))),
    }
}

/// Rotary positions, from `rope_theta` and `rope_scaling` or from the newer `rope_parameters`; any scaling but Llama 3's
/// is refused.
fn rope(value: &Value) -> Result<Rope, Problem> {
    let mut bases = Vec::from_iter(number("rope_theta", value.get("rope_theta"), THETA)?);
    let mut scalings = Vec::new();
    for holder in ["rope_scaling", "rope_parameters"] {
        let rope = match value.get(holder) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(rope)) => rope,
            Some(_) => return Err(Problem::Invalid(format!("{holder} must be an object"))),
        };
        let kind = |key| rope.get(key).is_some_and(|kind: &Value| kind == "llama3");
        let scaled = kind("rope_type") || kind("type");
        for (key, value) in rope {
            let name = format!("{holder}.{key}");
            match key.as_str() {
                "rope_theta" if value.is_null() => return Err(Problem::Invalid(format!("{name} is null"))),
                "rope_theta" => bases.extend(number(&name, Some(value), THETA)?),
                "rope_type" | "type" if scaled => require(&name, Some(value), |kind| kind == "llama3")?,
                "rope_type" | "type" => require(&name, Some(value), |kind| kind == "default")?,
                "factor" | "low_freq_factor" | "high_freq_factor" | "original_max_position_embeddings" if scaled => {}
                "factor" | "partial_rotary_factor" => require(&name, Some(value), is_one)?,
                _ => require(&name, Some(value), |_| false)?,
            }
        }
        if scaled {
            scalings.push(llama3(holder, rope)?);
        }
    }
    if bases.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Problem::Invalid("rope_theta is given twice, and not the same".into()));
    }
    if scalings.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(Problem::Invalid("rope_scaling is given twice, and not the same".into()));
    }
    Ok(Rope { theta: bases.first().map_or(10_000.0, |base| *base as f32), scaling: scalings.pop() })
}

fn llama3(holder: &str, rope: &Map<String, Value>) -> Result<Llama3, Problem> {
    let part = |key: &str| {
        let name = format!("{holder}.{key}");
        let found = number(&name, rope.get(key), FACTOR)?;
        found.ok_or_else(|| Problem::Invalid(format!("{name} is missing")))
    };
    let (low, high) = (part("low_freq_factor")?, part("high_freq_factor")?);
    if low >= high {
        return Err(Problem::Invalid(format!("{holder}.low_freq_factor must be below high_freq_factor")));
    }
    let original = part("original_max_position_embeddings")?;
    if original.fract() != 0.0 {
        return Err(Problem::Invalid(format!("{holder}.original_max_position_embeddings must be whole")));
    }
    Ok(Llama3 {
        factor: part("factor")? as f32,
        low_turns: low as f32,
        high_turns: high as f32,
        original_context: original as usize,
    })
}
