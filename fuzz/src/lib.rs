//! Bodies of fuzz targets: each takes bytes, makes of them what it feeds to a reader, and asserts what must hold for
//! any input. The tests run them on random bytes, libFuzzer on those it finds worthwhile.

pub mod checkpoint;
pub mod choices;
pub mod text;
pub mod tokenizer;
