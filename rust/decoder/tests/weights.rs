//! Reading checkpoints and replacing weights.

mod common;

use apr_decoder::{Decoder, Elements, Error};
use common::*;

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

#[test]
fn what_cannot_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Decoder::open(directory.path(), &options()).map(|_| ());
    assert!(matches!(open(), Err(Error::Io { .. })));
    let fine = config(&SMALL);
    for (key, value) in [
        ("model_type", "gpt2".into()),
        ("architectures", serde_json::json!(["MistralForCausalLM"])),
        ("attention_bias", true.into()),
        ("mlp_bias", true.into()),
        ("hidden_act", "gelu".into()),
        ("rope_scaling", serde_json::json!({"type": "linear", "factor": 2.0})),
        ("rope_parameters", serde_json::json!({"rope_type": "llama3", "rope_theta": 1e4})),
    ] {
        let mut changed = fine.clone();
        changed[key] = value;
        write_config(directory.path(), &changed);
        assert!(matches!(open(), Err(Error::Unsupported(_))), "{key}");
    }
    for (key, value) in [("hidden_size", 0), ("num_key_value_heads", 3), ("head_dim", 7)] {
        let mut changed = fine.clone();
        changed[key] = value.into();
        write_config(directory.path(), &changed);
        assert!(matches!(open(), Err(Error::Format { .. })), "{key}");
    }
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
