//! Tiny random models and a way to run requests on them.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use apr_decoder::{CacheType, Decoder, Elements, FinishReason, Options, Request, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};
use tempfile::TempDir;

/// What a test may want different about a model.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub vocabulary: usize,
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub context: usize,
    pub tied: bool,
    pub brain: bool,
    pub seed: u64,
}

pub const SMALL: Shape = Shape {
    vocabulary: 61,
    hidden: 48,
    inner: 72,
    layers: 2,
    heads: 4,
    kv_heads: 2,
    context: 128,
    tied: false,
    brain: false,
    seed: 7,
};

/// Every tensor of the model with its values; those of a bfloat16 model are exact in it.
pub fn tensors(shape: &Shape) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let (hidden, inner) = (shape.hidden, shape.inner);
    let dimension = hidden / shape.heads;
    let keys = shape.kv_heads * dimension;
    let mut shapes = vec![
        ("model.embed_tokens".to_owned(), vec![shape.vocabulary, hidden]),
        ("model.norm".to_owned(), vec![hidden]),
    ];
    if !shape.tied {
        shapes.push(("lm_head".to_owned(), vec![shape.vocabulary, hidden]));
    }
    for layer in 0..shape.layers {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}"), shape));
        }
    }
    let mut state = shape.seed;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Sixteen bits below one: exact in float32, and after the cut below in bfloat16.
        let value = (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5;
        f32::from_bits(value.to_bits() & 0xffff_0000)
    };
    shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product()).map(|_| random()).collect();
            (format!("{name}.weight"), shape, values)
        })
        .collect()
}

pub fn config(shape: &Shape) -> serde_json::Value {
    serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "tie_word_embeddings": shape.tied,
    })
}

pub fn write_config(directory: &Path, value: &serde_json::Value) {
    std::fs::write(directory.join("config.json"), value.to_string()).unwrap();
}

pub fn write_tensors(file: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)], brain: bool) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, _, values)| {
            let bits = values.iter().map(|value| value.to_bits());
            if brain {
                bits.flat_map(|bits| ((bits >> 16) as u16).to_le_bytes()).collect()
            } else {
                bits.flat_map(u32::to_le_bytes).collect()
            }
        })
        .collect();
    let dtype = if brain { Dtype::BF16 } else { Dtype::F32 };
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let view = TensorView::new(dtype, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    serialize_to_file(views, None, file).unwrap();
}

pub fn write_model(shape: &Shape) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    write_config(directory.path(), &config(shape));
    let file = directory.path().join("model.safetensors");
    write_tensors(&file, &tensors(shape), shape.brain);
    directory
}

/// The model's tensors as a caller of `update_weights` holds them.
pub fn state(shape: &Shape) -> HashMap<String, Tensor<'static>> {
    tensors(shape)
        .into_iter()
        .map(|(name, shape, values)| {
            let elements = Elements::Float(values.into());
            (name, Tensor { shape, elements })
        })
        .collect()
}

pub fn options() -> Options {
    Options {
        cache_bytes: Some(4 << 20),
        cache_type: CacheType::Float32,
        threads: 2,
        max_batch: 64,
        ..Options::default()
    }
}

pub fn open(shape: &Shape) -> Decoder {
    Decoder::open(write_model(shape).path(), &options()).unwrap()
}

/// A prompt that differs from those of other salts at its first token.
pub fn prompt(len: usize, salt: u32) -> Vec<u32> {
    (0..len as u32).map(|index| (salt + index * (salt + 3)) % 61).collect()
}

pub fn greedy(id: u64, prompt: Vec<u32>, max_tokens: usize) -> Request {
    Request { id, prompt, temperature: 0.0, max_tokens: Some(max_tokens), stop_tokens: Vec::new(), seed: 0 }
}

pub fn warm(id: u64, prompt: Vec<u32>, max_tokens: usize, seed: u64) -> Request {
    Request { temperature: 1.0, seed, ..greedy(id, prompt, max_tokens) }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub tokens: Vec<u32>,
    pub logprobs: Vec<f32>,
    pub finished: FinishReason,
    pub cached_tokens: usize,
}

/// Steps until nothing is open.
pub fn finish(decoder: &mut Decoder) -> BTreeMap<u64, Outcome> {
    let mut open: BTreeMap<u64, (Vec<u32>, Vec<f32>)> = BTreeMap::new();
    let mut outcomes = BTreeMap::new();
    while decoder.has_work() {
        for update in decoder.step() {
            assert!(!outcomes.contains_key(&update.id), "an update after the last");
            assert_eq!(update.tokens.len(), update.logprobs.len());
            let (tokens, logprobs) = open.entry(update.id).or_default();
            tokens.extend(update.tokens);
            logprobs.extend(update.logprobs);
            if let Some(finished) = update.finished {
                let outcome = Outcome {
                    tokens: std::mem::take(tokens),
                    logprobs: std::mem::take(logprobs),
                    finished,
                    cached_tokens: update.cached_tokens,
                };
                outcomes.insert(update.id, outcome);
            }
        }
    }
    outcomes
}

/// Runs requests, all submitted at once.
pub fn run(decoder: &mut Decoder, requests: impl IntoIterator<Item = Request>) -> BTreeMap<u64, Outcome> {
    for request in requests {
        decoder.submit(request).unwrap();
    }
    finish(decoder)
}
