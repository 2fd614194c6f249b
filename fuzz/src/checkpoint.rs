//! Checkpoints, nearly right, one file of them wrong: they are refused with an error, or decode.

use std::path::Path;

use apr_decoder::{Decoder, FinishReason, Options, Request};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::choices::Choices;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const HIDDEN: usize = 8;
const VOCABULARY: usize = 11;

/// `config.json`.
pub fn config(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut config = sound_config();
    choices.edit_json(&mut config);
    let mut text = config.to_string().into_bytes();
    if choices.byte().is_multiple_of(8) {
        choices.edit_bytes(&mut text);
    }
    let directory = directory(&text);
    write(directory.path(), WEIGHTS, &sound_weights());
    open(directory.path());
}

/// `model.safetensors`: the header as JSON, the values, the whole as bytes.
pub fn weights(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut file = sound_weights();
    if choices.byte().is_multiple_of(2) {
        let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
        let mut header: Value = serde_json::from_slice(&file[8..8 + length]).expect("a header is JSON");
        choices.edit_json(&mut header);
        let header = header.to_string().into_bytes();
        file.splice(..8 + length, (header.len() as u64).to_le_bytes().into_iter().chain(header));
    } else {
        choices.edit_bytes(&mut file);
    }
    let directory = directory(sound_config().to_string().as_bytes());
    write(directory.path(), WEIGHTS, &file);
    open(directory.path());
}

/// `model.safetensors.index.json`.
pub fn index(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut index = json!({"metadata": {"total_size": 1}, "weight_map": {
        "model.norm.weight": "a.safetensors", "lm_head.weight": "a.safetensors", "other": "b.safetensors",
    }});
    choices.edit_json(&mut index);
    let mut text = index.to_string().into_bytes();
    if choices.byte().is_multiple_of(8) {
        choices.edit_bytes(&mut text);
    }
    let directory = directory(sound_config().to_string().as_bytes());
    write(directory.path(), "a.safetensors", &sound_weights());
    write(directory.path(), INDEX, &text);
    open(directory.path());
}

fn open(directory: &Path) {
    let options = Options { cache_bytes: Some(1 << 20), threads: 1, max_batch: 4, ..Options::default() };
    let Ok(mut decoder) = Decoder::open(directory, &options) else {
        return;
    };
    let prompt = vec![1, 2, 3];
    let request = Request { id: 0, prompt, temperature: 0.7, max_tokens: Some(3), stop_tokens: Vec::new(), seed: 5 };
    // A vocabulary or a context may have become too small for it.
    if decoder.submit(request).is_err() {
        return;
    }
    let mut finished = None;
    while decoder.has_work() {
        for update in decoder.step() {
            assert!(update.tokens.iter().all(|token| (*token as usize) < decoder.config().vocab_size));
            assert!(update.logprobs.iter().all(|logprob| logprob.is_finite() && *logprob < 1e-3));
            finished = finished.or(update.finished);
        }
    }
    assert!(matches!(finished, Some(FinishReason::Length | FinishReason::Error)));
}

fn sound_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
        "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 12, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "max_position_embeddings": 32,
        "rms_norm_eps": 1e-6, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "rope_scaling": null, "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": false,
        "sliding_window": null, "quantization_config": null, "partial_rotary_factor": 1.0,
    })
}

fn sound_weights() -> Vec<u8> {
    let shapes = [
        ("model.embed_tokens", vec![VOCABULARY, HIDDEN]),
        ("model.layers.0.input_layernorm", vec![HIDDEN]),
        ("model.layers.0.self_attn.q_proj", vec![HIDDEN, HIDDEN]),
        ("model.layers.0.self_attn.k_proj", vec![4, HIDDEN]),
        ("model.layers.0.self_attn.v_proj", vec![4, HIDDEN]),
        ("model.layers.0.self_attn.o_proj", vec![HIDDEN, HIDDEN]),
        ("model.layers.0.post_attention_layernorm", vec![HIDDEN]),
        ("model.layers.0.mlp.gate_proj", vec![12, HIDDEN]),
        ("model.layers.0.mlp.up_proj", vec![12, HIDDEN]),
        ("model.layers.0.mlp.down_proj", vec![HIDDEN, 12]),
        ("model.norm", vec![HIDDEN]),
        ("lm_head", vec![VOCABULARY, HIDDEN]),
    ];
    let values: Vec<u8> =
        (0..VOCABULARY * HIDDEN + 16).flat_map(|n| ((n % 13) as f32 / 7.0 - 0.8).to_le_bytes()).collect();
    let views = shapes.into_iter().map(|(name, shape)| {
        let length = 4 * shape.iter().product::<usize>();
        let view = TensorView::new(Dtype::F32, shape, &values[..length]).expect("a view of its length");
        (format!("{name}.weight"), view)
    });
    serialize(views, None).expect("sound tensors")
}

fn directory(config: &[u8]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "config.json", config);
    directory
}

fn write(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join(name), bytes).expect("a file");
}
