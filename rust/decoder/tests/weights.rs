//! Reading checkpoints and replacing weights.

mod common;

use apr_decoder::{CacheType, ComputeType, Decoder, Elements, Error, FinishReason, Options};
use common::*;
use serde_json::json;

fn tokens(decoder: &mut Decoder) -> (Vec<u32>, Vec<f32>) {
    let outcome = run(decoder, [greedy(0, prompt(20, 2), 30)]).remove(&0).unwrap();
    (outcome.tokens, outcome.logprobs)
}

#[test]
fn bfloat16_and_float32_of_the_same_values_agree() {
    for tied in [false, true] {
        let shape = Shape { tied, ..SMALL };
        let float = tokens(&mut open(&shape));
        assert_eq!(tokens(&mut open(&Shape { brain: true, ..shape })), float);
    }
}

#[test]
fn odd_sizes_run() {
    // Widths that fill no vector, and an odd width of the MLP, whose bfloat16 cannot be paired.
    for brain in [false, true] {
        let shape = Shape { hidden: 36, heads: 3, kv_heads: 1, inner: 51, vocabulary: 77, brain, ..SMALL };
        assert_eq!(tokens(&mut open(&shape)).0.len(), 30);
    }
}

#[test]
fn shards_are_read_by_their_index() {
    let whole = tokens(&mut open(&SMALL));
    let directory = write_model(&SMALL);
    std::fs::remove_file(directory.path().join("model.safetensors")).unwrap();
    let tensors = tensors(&SMALL);
    let mut map = serde_json::Map::new();
    for (index, part) in tensors.chunks(5).enumerate() {
        let file = format!("model-{index}.safetensors");
        write_tensors(&directory.path().join(&file), part, false);
        map.extend(part.iter().map(|(name, _, _)| (name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({"weight_map": map});
    let path = directory.path().join("model.safetensors.index.json");
    std::fs::write(path, index.to_string()).unwrap();
    let mut decoder = Decoder::open(directory.path(), &options()).unwrap();
    assert_eq!(tokens(&mut decoder), whole);
}

/// Opens a directory whose `config.json` differs in one key.
fn open_with(key: &str, value: serde_json::Value) -> Result<(), Error> {
    let directory = write_model(&SMALL);
    let mut changed = config(&SMALL);
    changed[key] = value;
    write_config(directory.path(), &changed);
    Decoder::open(directory.path(), &options()).map(|_| ())
}

#[test]
fn what_the_forward_pass_lacks_is_refused_by_its_key() {
    for (key, value) in [
        ("model_type", json!("gpt2")),
        ("model_type", json!("mistral")),
        ("model_type", json!(3)),
        ("architectures", json!(["MistralForCausalLM"])),
        ("architectures", json!(["Qwen2ForCausalLM"])),
        ("architectures", json!(["LlamaForCausalLM", "Other"])),
        ("architectures", json!("LlamaForCausalLM")),
        ("attention_bias", json!(true)),
        ("attention_bias", json!("true")),
        ("mlp_bias", json!(true)),
        ("mlp_bias", json!(1)),
        ("sliding_window", json!(4096)),
        ("quantization_config", json!({"bits": 4})),
        ("auto_map", json!({"AutoModelForCausalLM": "modeling.Mine"})),
        ("layer_types", json!(["full_attention", "sliding_attention"])),
        ("logit_scale", json!(0.5)),
        ("partial_rotary_factor", json!(0.5)),
        ("partial_rotary_factor", json!("1")),
        ("hidden_act", json!("gelu")),
        ("hidden_act", json!(3)),
        ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
        ("rope_scaling", json!({"factor": 4})),
        ("rope_scaling", json!({"type": 4, "factor": 1})),
        ("rope_parameters", json!({"rope_type": "yarn", "factor": 4.0})),
        ("rope_parameters", json!({"full_attention": {"rope_theta": 1e4}})),
    ] {
        let error = open_with(key, value.clone()).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(what) if what.contains(key)), "{key} = {value}: {error}");
    }
}

/// Llama 3's scaling, but for these keys.
fn llama3(changes: serde_json::Value) -> serde_json::Value {
    let mut rope = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    rope.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    rope
}

#[test]
fn what_is_no_shape_is_refused_by_its_key() {
    for (key, value) in [
        ("hidden_size", json!(0)),
        ("hidden_size", json!("48")),
        ("hidden_size", json!(50)),
        ("num_hidden_layers", json!(2.0)),
        ("num_hidden_layers", json!(1_u64 << 32)),
        ("num_hidden_layers", json!(u32::MAX)),
        ("num_hidden_layers", json!(1025)),
        ("vocab_size", json!(-61)),
        ("intermediate_size", json!(true)),
        ("max_position_embeddings", json!([128])),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(7)),
        ("tie_word_embeddings", json!("false")),
        ("tie_word_embeddings", json!(0)),
        ("rms_norm_eps", json!("1e-3")),
        ("rms_norm_eps", json!(-1e-6)),
        ("rms_norm_eps", json!(0)),
        ("rope_theta", json!(500.0)),
        ("rope_theta", json!(1e300)),
        ("rope_theta", json!("1e4")),
        ("rope_theta", json!(0)),
        ("rope_parameters", json!(4)),
        ("rope_parameters", json!({"rope_theta": 1e300})),
        ("rope_scaling", json!({"rope_theta": 500})),
        ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
        ("rope_parameters", llama3(json!({"low_freq_factor": 4.0, "high_freq_factor": 4.0}))),
        ("rope_parameters", llama3(json!({"original_max_position_embeddings": 8.5}))),
        ("rope_parameters", llama3(json!({"factor": 0}))),
    ] {
        let error = open_with(key, value.clone()).unwrap_err();
        let names = error.to_string();
        let named = names.contains(key) || (key.starts_with("rope") && names.contains("rope_theta"));
        assert!(matches!(&error, Error::Format { .. }) && named, "{key} = {value}: {error}");
    }
}

#[test]
fn claims_of_size_are_only_claims() {
    for (key, value) in [
        ("num_hidden_layers", json!(1024)),
        ("vocab_size", json!(u32::MAX)),
        ("intermediate_size", json!(u32::MAX)),
        ("num_attention_heads", json!(1)),
        ("head_dim", json!(u32::MAX - 1)),
        ("head_dim", json!(14)),
        ("hidden_size", json!(u32::MAX - 3)),
        ("tie_word_embeddings", json!(true)),
    ] {
        let error = open_with(key, value.clone()).unwrap_err();
        assert!(matches!(error, Error::Weight { .. } | Error::Format { .. }), "{key} = {value}: {error}");
    }
    let error = open_with("max_position_embeddings", json!(u32::MAX)).unwrap_err();
    assert!(matches!(error, Error::Option { name: "cache_bytes", .. }), "{error}");
}

#[test]
fn what_changes_nothing_is_read() {
    for (key, value) in [
        ("attention_bias", json!(false)),
        ("sliding_window", json!(null)),
        ("quantization_config", json!({})),
        ("head_dim", json!(null)),
        ("head_dim", json!(12)),
        ("layer_types", json!(["full_attention", "full_attention"])),
        ("partial_rotary_factor", json!(1)),
        ("rope_theta", json!(10000)),
        ("rope_scaling", json!({"type": "default", "factor": 1.0})),
        ("rope_scaling", json!({})),
        ("rope_parameters", json!(null)),
        ("rope_parameters", llama3(json!({}))),
        ("pretraining_tp", json!(2)),
        ("unknown", json!("of no account")),
    ] {
        open_with(key, value.clone()).unwrap_or_else(|error| panic!("{key} = {value}: {error}"));
    }
}

#[test]
fn options_beyond_any_machine_are_refused() {
    let directory = write_model(&SMALL);
    for wrong in [
        Options { threads: usize::MAX, ..options() },
        Options { max_batch: usize::MAX, ..options() },
        Options { max_batch: 0, ..options() },
        Options { cache_bytes: Some(0), ..options() },
    ] {
        assert!(matches!(Decoder::open(directory.path(), &wrong), Err(Error::Option { .. })), "{wrong:?}");
    }
    assert!(Decoder::open(directory.path(), &Options { cache_bytes: Some(usize::MAX), ..options() }).is_err());
}

#[cfg(unix)]
#[test]
fn only_files_are_opened() {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    for name in ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"] {
        let directory = write_model(&SMALL);
        let path = directory.path().join(name);
        let _ = std::fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = Decoder::open(directory.path(), &options()).map(|_| ()).unwrap_err();
        assert!(matches!(&error, Error::Format { path: named, .. } if *named == path), "{name}: {error}");
        std::fs::remove_file(&path).unwrap();
        symlink("/dev/zero", &path).unwrap();
        assert!(matches!(Decoder::open(directory.path(), &options()), Err(Error::Format { .. })), "{name}");
    }
}

#[test]
fn an_index_names_files_of_its_directory_each_weight_once() {
    let directory = write_model(&SMALL);
    let whole = directory.path().join("model.safetensors");
    let index = directory.path().join("model.safetensors.index.json");
    let [first, second] = ["a", "b"].map(|name| directory.path().join(name));
    std::fs::rename(&whole, &first).unwrap();
    std::fs::copy(&first, &second).unwrap();
    for (map, reason) in [
        (json!({"x": "../a"}), "no file of this directory"),
        (json!({"x": first.to_str()}), "no file of this directory"),
        (json!({"x": 3}), "no file of this directory"),
        (json!({"x": ".."}), "no file of this directory"),
        (json!(["a"]), "no weight_map"),
        (json!({}), "missing"),
        (json!({"x": "a", "y": "b"}), "in two files"),
    ] {
        std::fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
        let error = Decoder::open(directory.path(), &options()).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(reason), "{map}: {error}");
    }
    std::fs::write(&index, "[".repeat(100_000)).unwrap();
    assert!(matches!(Decoder::open(directory.path(), &options()), Err(Error::Format { .. })));
}

#[test]
fn a_tied_output_is_the_embedding_or_nothing() {
    let tied = Shape { tied: true, ..SMALL };
    let mut decoder = open(&tied);
    let mut state = state(&tied);
    let embedding = state["model.embed_tokens.weight"].clone();
    state.insert("lm_head.weight".into(), embedding.clone());
    decoder.update_weights(&state).unwrap();
    let Elements::Float(values) = embedding.elements else { unreachable!() };
    let mut values = values.into_owned();
    values[0] += 1.0;
    state.get_mut("lm_head.weight").unwrap().elements = Elements::Float(values.into());
    let error = decoder.update_weights(&state).unwrap_err();
    assert!(error.to_string().contains("tie_word_embeddings"), "{error}");
}

#[test]
fn logits_that_are_not_finite_end_a_request() {
    // The second fills no vector: what stands behind its rows must not spread either.
    for shape in [SMALL, Shape { hidden: 36, heads: 3, kv_heads: 1, ..SMALL }] {
        logits_of_a_shape_that_are_not_finite(&shape);
    }
}

fn logits_of_a_shape_that_are_not_finite(shape: &Shape) {
    let fine = tokens(&mut open(shape));
    for (name, value) in [
        ("model.embed_tokens.weight", f32::NAN),
        ("model.norm.weight", f32::INFINITY),
        ("lm_head.weight", f32::NEG_INFINITY),
        ("model.layers.1.self_attn.q_proj.weight", f32::NAN),
        ("model.layers.1.self_attn.k_proj.weight", f32::INFINITY),
        ("model.layers.1.self_attn.v_proj.weight", f32::NAN),
    ] {
        let mut decoder = open(shape);
        let mut broken = state(shape);
        let tensor = broken.get_mut(name).unwrap();
        tensor.elements = Elements::Float(vec![value; tensor.shape.iter().product()].into());
        decoder.update_weights(&broken).unwrap();
        for (id, outcome) in run(&mut decoder, [greedy(0, prompt(20, 2), 30), warm(1, prompt(20, 3), 30, 1)]) {
            assert_eq!((outcome.finished, outcome.tokens), (FinishReason::Error, vec![]), "{name} {id}");
        }
        // What was computed with them is gone with them.
        decoder.update_weights(&state(shape)).unwrap();
        assert_eq!(tokens(&mut decoder), fine);
        for cache_type in [CacheType::Int8, CacheType::Bfloat16] {
            for compute_type in [ComputeType::Float32, ComputeType::Bfloat16] {
                let options = Options { cache_type, compute_type, ..options() };
                let mut decoder = Decoder::open(write_model(shape).path(), &options).unwrap();
                decoder.update_weights(&broken).unwrap();
                for (id, outcome) in run(&mut decoder, [greedy(0, prompt(20, 2), 30), warm(1, prompt(20, 3), 30, 1)]) {
                    assert_eq!(outcome.finished, FinishReason::Error, "{name} {id} {cache_type:?} {compute_type:?}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Decoder::open(directory.path(), &options()).map(|_| ());
    assert!(matches!(open(), Err(Error::Io { .. })));
    let fine = config(&SMALL);
    write_config(directory.path(), &fine);
    assert!(matches!(open(), Err(Error::Io { .. })), "no weights");
    let file = directory.path().join("model.safetensors");
    std::fs::write(&file, b"not safetensors").unwrap();
    assert!(matches!(open(), Err(Error::Format { .. })));
    let mut tensors = tensors(&SMALL);
    let last = tensors.pop().unwrap();
    write_tensors(&file, &tensors, false);
    assert!(matches!(open(), Err(Error::Weight { .. })), "one missing");
    tensors.push(last);
    tensors.push(("model.layers.0.self_attn.q_proj.bias".into(), vec![2], vec![0.0; 2]));
    write_tensors(&file, &tensors, false);
    assert!(matches!(open(), Err(Error::Weight { .. })), "one too many");
}

#[test]
fn new_weights_serve_as_if_loaded() {
    let other = Shape { seed: 99, ..SMALL };
    let expected = tokens(&mut open(&other));
    let mut decoder = open(&SMALL);
    let before = tokens(&mut decoder);
    assert_ne!(before, expected);
    decoder.update_weights(&state(&other)).unwrap();
    assert_eq!((decoder.policy_version(), decoder.stats().used_pages), (1, 0));
    assert_eq!(tokens(&mut decoder), expected);
}

#[test]
fn a_failed_update_leaves_the_old_weights() {
    let mut decoder = open(&SMALL);
    let before = tokens(&mut decoder);
    let good = state(&Shape { seed: 99, ..SMALL });
    let mut missing = good.clone();
    missing.remove("model.norm.weight");
    let mut unknown = good.clone();
    unknown.insert("model.extra.weight".into(), good["model.norm.weight"].clone());
    let mut turned = good.clone();
    turned.get_mut("model.layers.0.mlp.up_proj.weight").unwrap().shape.reverse();
    let mut short = good.clone();
    short.get_mut("model.norm.weight").unwrap().elements = Elements::Float(vec![0.0; 3].into());
    for bad in [missing, unknown, turned, short] {
        assert!(matches!(decoder.update_weights(&bad), Err(Error::Weight { .. })));
    }
    assert_eq!((decoder.policy_version(), tokens(&mut decoder)), (0, before));
    decoder.submit(greedy(1, prompt(5, 1), 5)).unwrap();
    assert!(matches!(decoder.update_weights(&good), Err(Error::Busy { requests: 1 })));
}
