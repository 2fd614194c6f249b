//! The weights of one policy version, packed for the forward pass.
//!
//! They are built from tensors under their Hugging Face names, out of a checkpoint's files or of a caller's arrays
//! alike; either all of them fit the configuration or nothing is built. Matrices that read the same input are packed
//! side by side: queries, keys and values, and the gates and ups of the MLP in alternating panels.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::{Dtype, SafeTensors};

use crate::config::{Config, Family};
use crate::error::Error;
use crate::files;
use crate::matrix::{Matrix, PANEL, Values};
use crate::memory::gather;

/// A tensor's elements.
#[derive(Debug, Clone)]
pub enum Elements<'a> {
    /// Float32.
    Float(Cow<'a, [f32]>),
    /// Bits of bfloat16.
    Brain(Cow<'a, [u16]>),
}

/// A named array as a checkpoint or a caller holds it: row-major, outputs first.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Rows and columns, or the length alone.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub elements: Elements<'a>,
}

impl Tensor<'_> {
    fn values(&self) -> Values<'_> {
        match &self.elements {
            Elements::Float(values) => Values::Float(values),
            Elements::Brain(values) => Values::Brain(values),
        }
    }

    /// Whether the other is of the same shape and bits.
    fn equals(&self, other: &Self) -> bool {
        let same = match (&self.elements, &other.elements) {
            (Elements::Float(a), Elements::Float(b)) => {
                bytemuck::cast_slice::<f32, u32>(a) == bytemuck::cast_slice::<f32, u32>(b)
            }
            (Elements::Brain(a), Elements::Brain(b)) => a == b,
            _ => false,
        };
        same && self.shape == other.shape
    }
}

pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, keys, values of all heads.
    pub(crate) qkv: Matrix,
    pub(crate) attention_input: AttentionInput,
    pub(crate) output: Matrix,
    pub(crate) mlp_norm: Vec<f32>,
    /// Panels of gates and ups in turn.
    pub(crate) gate_up: Matrix,
    pub(crate) down: Matrix,
}

/// What a family does to queries, keys and values before the keys are rotated and kept.
pub(crate) enum AttentionInput {
    /// Nothing.
    Plain,
    /// Adds a bias to each of their floats.
    Biased(Vec<f32>),
    /// Normalises each head of queries, then of keys, by one weight a float of a head.
    Normed { queries: (usize, Vec<f32>), keys: (usize, Vec<f32>) },
}

impl AttentionInput {
    /// On one row: queries, keys and values without padding.
    pub(crate) fn apply(&self, qkv: &mut [f32], eps: f32) {
        match self {
            Self::Plain => {}
            Self::Biased(bias) => qkv.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias),
            Self::Normed { queries, keys } => {
                let mut rest = qkv;
                for (heads, weight) in [queries, keys] {
                    let (part, after) = rest.split_at_mut(heads * weight.len());
                    for head in part.chunks_exact_mut(weight.len()) {
                        let mean = head.iter().map(|value| value * value).sum::<f32>() / weight.len() as f32;
                        let scale = 1.0 / (mean + eps).sqrt();
                        head.iter_mut().zip(weight).for_each(|(value, weight)| *value = *weight * (*value * scale));
                    }
                    rest = after;
                }
            }
        }
    }
}

pub(crate) struct Weights {
    embedding: Elements<'static>,
    width: usize,
    pub(crate) layers: Vec<Layer>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Matrix,
}

impl Weights {
    /// Reads `model.safetensors`, or the files that `model.safetensors.index.json` names.
    pub(crate) fn read(directory: &Path, config: &Config) -> Result<Self, Error> {
        let files = files::weight_files(directory)?
            .into_iter()
            .map(|path| files::map(&path).map(|map| (path, map)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut tensors = HashMap::new();
        for (path, map) in &files {
            let invalid =
                |error: safetensors::SafeTensorError| Error::Format { path: path.clone(), reason: error.to_string() };
            for (name, view) in SafeTensors::deserialize(map).map_err(invalid)?.iter() {
                let elements = elements(name, view.dtype(), view.data())?;
                let shape = view.shape().to_vec();
                if tensors.insert(name.to_owned(), Tensor { shape, elements }).is_some() {
                    return Err(Error::weight(name, "in two files"));
                }
            }
        }
        Self::build(config, &tensors)
    }

    /// Packs tensors by name; a missing, unknown or misshapen one is an error.
    pub(crate) fn build(config: &Config, tensors: &HashMap<String, Tensor<'_>>) -> Result<Self, Error> {
        let mut seen = BTreeSet::new();
        let mut take = |name: String, shape: &[usize]| -> Result<&Tensor<'_>, Error> {
            let tensor = tensors.get(&name).ok_or_else(|| Error::weight(&name, "missing"))?;
            let len = match &tensor.elements {
                Elements::Float(values) => values.len(),
                Elements::Brain(values) => values.len(),
            };
            if tensor.shape != shape || len != shape.iter().product::<usize>() {
                let reason = format!("shape {:?} with {len} elements, expected {shape:?}", tensor.shape);
                return Err(Error::weight(&name, reason));
            }
            seen.insert(name);
            Ok(tensor)
        };
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (config.heads * config.head_dim, config.kv_width());
        let embedding = take("model.embed_tokens.weight".into(), &[config.vocab_size, hidden])?;
        // As many as there are tensors for: the number alone is only a claim.
        let mut layers = Vec::new();
        for index in 0..config.layers {
            let mut part = |name: &str, shape: &[usize]| take(format!("model.layers.{index}.{name}"), shape);
            let attention_input = attention_input(config, &mut part)?;
            let mut take = |name: &str, shape: &[usize]| part(&format!("{name}.weight"), shape);
            let attention_norm = padded(take("input_layernorm", &[hidden])?);
            let q = rows(take("self_attn.q_proj", &[queries, hidden])?);
            let k = rows(take("self_attn.k_proj", &[keys, hidden])?);
            let v = rows(take("self_attn.v_proj", &[keys, hidden])?);
            let output = rows(take("self_attn.o_proj", &[hidden, queries])?);
            let mlp_norm = padded(take("post_attention_layernorm", &[hidden])?);
            let gate = rows(take("mlp.gate_proj", &[inner, hidden])?);
            let up = rows(take("mlp.up_proj", &[inner, hidden])?);
            let down = rows(take("mlp.down_proj", &[hidden, inner])?);
            let mut gate_up = Vec::with_capacity(2 * inner.next_multiple_of(PANEL));
            for (gate, up) in gate.chunks(PANEL).zip(up.chunks(PANEL)) {
                for panel in [gate, up] {
                    gate_up.extend_from_slice(panel);
                    gate_up.resize(gate_up.len().next_multiple_of(PANEL), None);
                }
            }
            layers.push(Layer {
                attention_norm,
                qkv: pack(hidden, &[q, k, v].concat())?,
                attention_input,
                output: pack(queries, &output)?,
                mlp_norm,
                gate_up: pack(hidden, &gate_up)?,
                down: pack(inner, &down)?,
            });
        }
        let norm = padded(take("model.norm.weight".into(), &[hidden])?);
        let head = if config.tied_embeddings {
            embedding
        } else {
            take("lm_head.weight".into(), &[config.vocab_size, hidden])?
        };
        if let Some(copy) = tensors.get("lm_head.weight").filter(|_| config.tied_embeddings) {
            if !copy.equals(embedding) {
                let reason = "differs from model.embed_tokens.weight, though tie_word_embeddings is true";
                return Err(Error::weight("lm_head.weight", reason));
            }
            seen.insert("lm_head.weight".into());
        }
        let mut head = pack(hidden, &rows(head))?;
        let unknown = tensors.keys().find(|name| !seen.contains(*name) && !name.ends_with("rotary_emb.inv_freq"));
        if let Some(name) = unknown {
            return Err(Error::weight(name, "not a weight of this model"));
        }
        let embedding = match &embedding.elements {
            Elements::Float(values) => Elements::Float(Cow::Owned(values.to_vec())),
            Elements::Brain(values) => Elements::Brain(Cow::Owned(values.to_vec())),
        };
        let matrices = layers.iter_mut().flat_map(|layer: &mut Layer| {
            [&mut layer.qkv, &mut layer.output, &mut layer.gate_up, &mut layer.down].map(Matrix::memory)
        });
        let mut memories: Vec<_> = matrices.chain([head.memory()]).collect();
        gather(&mut memories).map_err(no_memory)?;
        Ok(Self { embedding, width: hidden, layers, norm, head })
    }

    /// Bytes of all matrices that a step reads.
    pub(crate) fn bytes(&self) -> usize {
        let matrices = |layer: &Layer| [&layer.qkv, &layer.output, &layer.gate_up, &layer.down].map(Matrix::bytes);
        self.head.bytes() + self.layers.iter().flat_map(matrices).sum::<usize>()
    }

    /// Writes the embedding of `token` to the start of `out`, and zeros behind it.
    pub(crate) fn embed(&self, token: u32, out: &mut [f32]) {
        let (out, padding) = out.split_at_mut(self.width);
        // What is not finite there, of a request before, would spread.
        padding.fill(0.0);
        let row = token as usize * self.width..(token as usize + 1) * self.width;
        match &self.embedding {
            Elements::Float(values) => out.copy_from_slice(&values[row]),
            Elements::Brain(values) => {
                for (out, bits) in out.iter_mut().zip(&values[row]) {
                    *out = f32::from_bits(u32::from(*bits) << 16);
                }
            }
        }
    }
}

fn attention_input<'a, 'b: 'a>(
    config: &Config,
    part: &mut impl FnMut(&str, &[usize]) -> Result<&'a Tensor<'b>, Error>,
) -> Result<AttentionInput, Error> {
    let mut vector = |name: &str, len| part(&format!("self_attn.{name}"), &[len]).map(unpadded);
    let (heads, kv_heads) = (config.heads, config.kv_heads);
    Ok(match config.family {
        Family::Llama => AttentionInput::Plain,
        Family::Qwen2 => {
            let mut bias = vector("q_proj.bias", heads * config.head_dim)?;
            bias.extend(vector("k_proj.bias", config.kv_width())?);
            bias.extend(vector("v_proj.bias", config.kv_width())?);
            AttentionInput::Biased(bias)
        }
        Family::Qwen3 => AttentionInput::Normed {
            queries: (heads, vector("q_norm.weight", config.head_dim)?),
            keys: (kv_heads, vector("k_norm.weight", config.head_dim)?),
        },
    })
}

fn rows<'a>(tensor: &'a Tensor<'_>) -> Vec<Option<(Values<'a>, usize)>> {
    (0..tensor.shape[0]).map(|row| Some((tensor.values(), row))).collect()
}

fn pack(inputs: usize, rows: &[Option<(Values<'_>, usize)>]) -> Result<Matrix, Error> {
    Matrix::pack(inputs, rows).map_err(no_memory)
}

fn no_memory(source: std::io::Error) -> Error {
    Error::Io { path: PathBuf::from("memory"), source }
}

fn unpadded(tensor: &Tensor<'_>) -> Vec<f32> {
    (0..tensor.shape[0]).map(|index| tensor.values().get(index)).collect()
}

/// A vector with zeros up to a whole vector of lanes.
fn padded(tensor: &Tensor<'_>) -> Vec<f32> {
    let mut values = unpadded(tensor);
    values.resize(values.len().next_multiple_of(PANEL), 0.0);
    values
}

/// Views bytes as elements; a file whose data starts off the alignment is copied.
fn elements<'a>(name: &str, dtype: Dtype, bytes: &'a [u8]) -> Result<Elements<'a>, Error> {
    match dtype {
        Dtype::F32 => Ok(Elements::Float(cast(bytes))),
        Dtype::BF16 => Ok(Elements::Brain(cast(bytes))),
        // Few models come in it; as float32 their values are exact.
        Dtype::F16 => {
            Ok(Elements::Float(cast::<u16>(bytes).iter().map(|bits| f16::from_bits(*bits).to_f32()).collect()))
        }
        other => Err(Error::weight(name, format!("type {other:?}, expected F32, BF16 or F16"))),
    }
}

fn cast<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Cow<'_, [T]> {
    match bytemuck::try_cast_slice(bytes) {
        Ok(values) => Cow::Borrowed(values),
        Err(_) => bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect(),
    }
}
