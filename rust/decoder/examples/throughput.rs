//! Measures the decoder on random weights.
//!
//! `cargo run --release -p apr-decoder --example throughput -- [threads]` prints, for products of one to 128 rows, this
//! crate's time and that of the `gemm` crate, and then tokens a second of a model of 3.2 million parameters. With a
//! directory after the number of threads it measures that checkpoint instead.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use apr_decoder::bench::Product;
use apr_decoder::{Decoder, Options, Request};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let threads = arguments.next().map_or(1, |text| text.parse().expect("threads"));
    let directory = arguments.next().map(PathBuf::from);
    products(threads);
    match directory {
        Some(directory) => streams(&directory, threads),
        None => {
            let directory = tempfile::tempdir().expect("a temporary directory");
            write_model(directory.path());
            streams(directory.path(), threads);
        }
    }
}

/// Numbers in [-0.5, 0.5).
fn random(len: usize, mut seed: u64) -> Vec<f32> {
    let next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The best of a number of rounds, in seconds, of one call.
fn time(mut call: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let start = Instant::now();
        let mut calls = 0;
        while start.elapsed().as_millis() < 10 {
            call();
            calls += 1;
        }
        best = best.min(start.elapsed().as_secs_f64() / f64::from(calls));
    }
    best
}

fn products(threads: usize) {
    println!("{threads} threads; microseconds; 12 matrices in turn, so that they come from the second level down");
    println!("{:>5} {:>5} {:>5} {:>9} {:>9} {:>9} {:>7}", "rows", "in", "out", "ours", "bfloat16", "gemm", "ratio");
    for (inputs, outputs) in [(256, 768), (256, 2048), (1024, 256)] {
        for rows in [1, 8, 32, 128] {
            let x = random(rows * inputs, 1);
            let raw: Vec<Vec<f32>> = (0..12).map(|seed| random(inputs * outputs, seed)).collect();
            let mut out = vec![0.0; rows * outputs];
            let mut ours = [false, true].map(|brain| {
                let mut product = Product::new(threads, inputs, outputs, &raw, brain);
                time(|| {
                    for index in 0..raw.len() {
                        product.run(index, &x, rows, &mut out);
                    }
                    black_box(&out);
                })
            });
            ours.iter_mut().for_each(|seconds| *seconds *= 1e6 / raw.len() as f64);
            let parallelism = match threads {
                1 => gemm::Parallelism::None,
                threads => gemm::Parallelism::Rayon(threads),
            };
            let theirs = time(|| {
                for weights in &raw {
                    // SAFETY: three row-major operands of the sizes given; the weights are read transposed.
                    unsafe {
                        gemm::gemm(
                            rows,
                            outputs,
                            inputs,
                            out.as_mut_ptr(),
                            1,
                            outputs as isize,
                            false,
                            x.as_ptr(),
                            1,
                            inputs as isize,
                            weights.as_ptr(),
                            inputs as isize,
                            1,
                            0.0,
                            1.0,
                            false,
                            false,
                            false,
                            parallelism,
                        );
                    }
                }
                black_box(&out);
            }) * 1e6
                / raw.len() as f64;
            let [float, brain] = ours;
            println!(
                "{rows:>5} {inputs:>5} {outputs:>5} {float:>9.1} {brain:>9.1} {theirs:>9.1} {:>7.2}",
                theirs / float
            );
        }
    }
}

fn streams(directory: &Path, threads: usize) {
    for (streams, prompt, new) in [(1, 16, 1000), (1, 1000, 1000), (8, 16, 500), (32, 16, 500), (32, 500, 500)] {
        let options = Options { threads, ..Options::default() };
        let start = Instant::now();
        let mut decoder = Decoder::open(directory, &options).expect("a model");
        let loaded = start.elapsed();
        let vocabulary = decoder.config().vocab_size as u32;
        let start = Instant::now();
        for id in 0..streams {
            let prompt = (0..prompt).map(|index| (index * 7 + id as u32 * 13) % vocabulary);
            decoder
                .submit(Request {
                    id,
                    prompt: prompt.collect(),
                    temperature: 1.0,
                    max_tokens: Some(new),
                    stop_tokens: Vec::new(),
                    seed: id,
                })
                .expect("a request that fits");
        }
        while decoder.stats().sampled_tokens < streams {
            decoder.step();
        }
        let first = start.elapsed();
        let before = decoder.stats().sampled_tokens;
        let start = Instant::now();
        while decoder.has_work() {
            decoder.step();
        }
        let sampled = decoder.stats().sampled_tokens - before;
        println!(
            "{streams:>3} streams, prompt {prompt:>4}, {new:>4} new: {:>7.0} tokens/s; load {:.1} ms, prompts {:.1} ms",
            sampled as f64 / start.elapsed().as_secs_f64(),
            loaded.as_secs_f64() * 1e3,
            first.as_secs_f64() * 1e3,
        );
    }
}

/// Hidden 256, four layers, eight heads: the size of the smallest models worth training.
fn write_model(directory: &Path) {
    let (vocabulary, hidden, inner, layers) = (128, 256, 688, 4);
    let config = format!(
        r#"{{"model_type": "llama", "vocab_size": {vocabulary}, "hidden_size": {hidden}, "intermediate_size": {inner},
        "num_hidden_layers": {layers}, "num_attention_heads": 8, "max_position_embeddings": 4096,
        "tie_word_embeddings": true}}"#
    );
    std::fs::write(directory.join("config.json"), config).expect("config.json");
    let mut shapes = vec![
        ("model.embed_tokens.weight".to_owned(), vec![vocabulary, hidden]),
        ("model.norm.weight".to_owned(), vec![hidden]),
    ];
    for layer in 0..layers {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.q_proj", vec![hidden, hidden]),
            ("self_attn.k_proj", vec![hidden, hidden]),
            ("self_attn.v_proj", vec![hidden, hidden]),
            ("self_attn.o_proj", vec![hidden, hidden]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .enumerate()
        .map(|(seed, (name, shape))| {
            let values = random(shape.iter().product(), seed as u64);
            (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.expect("a tensor"))
    });
    let file = directory.join("model.safetensors");
    safetensors::serialize_to_file(views, None, &file).expect("model.safetensors");
}
