//! Llama decoding on the CPU: safetensors in, tokens out.
//!
//! A [`Decoder`] holds one model. Requests are submitted, [`Decoder::step`] computes a batch of all that run, and each
//! update brings a request's new tokens. Whatever was computed once is cached by token prefix and shared.
//!
//! From the inside out: `simd` lanes, `matrix` and `kernels` and `attention` on them, `slab` the cache's memory,
//! `llama` the forward pass; `cache` says which tokens the slab holds, `scheduler` what the next step computes.

mod attention;
#[doc(hidden)]
pub mod bench;
mod brain;
pub mod cache;
mod config;
mod decoder;
mod error;
mod files;
mod kernels;
mod llama;
mod matrix;
mod memory;
mod pool;
mod request;
mod rope;
mod sampler;
mod scheduler;
mod sequence;
mod simd;
mod slab;
mod weights;

pub use brain::ComputeType;
pub use config::{Config, Family};
pub use decoder::{Decoder, Options};
pub use error::Error;
pub use request::{FinishReason, Request, Stats, Timing, Update};
pub use rope::{Llama3, Rope};
pub use slab::CacheType;
pub use weights::{Elements, Tensor};
