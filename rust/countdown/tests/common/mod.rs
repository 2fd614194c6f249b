//! The golden files: one JSON object a line, `.gz` or plain, recorded from the authors' reference code.
#![allow(missing_docs, dead_code)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use apr_countdown::Number;
use serde_json::Value;

/// `APR_GOLDEN`, or `tests/golden` of the repository, or the folder shared beside it.
pub fn golden_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("APR_GOLDEN") {
        return folder.into();
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [root.join("tests/golden"), root.join("../shared/golden")];
    let found = folders.iter().find(|folder| folder.is_dir());
    found.unwrap_or_else(|| panic!("no golden files: neither {folders:?} nor APR_GOLDEN")).clone()
}

/// All rows of a golden file.
pub fn golden(name: &str) -> Vec<Value> {
    let path = golden_folder().join(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let reader: Box<dyn Read> =
        if name.ends_with(".gz") { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let rows: Vec<Value> = BufReader::new(reader).lines().map(|line| row(line.expect("a readable line"))).collect();
    assert!(!rows.is_empty(), "{name} has no rows");
    rows
}

/// Python writes lone surrogates, which no Rust text can hold; U+FFFD stands for each.
fn row(mut line: String) -> Value {
    if let Ok(row) = serde_json::from_str(&line) {
        return row;
    }
    for (at, _) in line.clone().match_indices("\\ud") {
        if matches!(line.as_bytes().get(at + 3), Some(b'8'..=b'9' | b'a'..=b'f')) {
            line.replace_range(at..at + 6, "\\ufffd");
        }
    }
    serde_json::from_str(&line).expect("a JSON row")
}

/// A field that holds text.
pub fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no text {field} in {row}"))
}

/// A number of any size.
pub fn number(value: &Value) -> Number {
    value.to_string().parse().unwrap_or_else(|_| panic!("not an integer: {value}"))
}

/// A field that holds a list of numbers.
pub fn numbers(row: &Value, field: &str) -> Vec<Number> {
    row[field].as_array().expect("a list").iter().map(number).collect()
}

/// A field that holds a list of texts, each of which may be null.
pub fn texts<'a>(row: &'a Value, field: &str) -> Vec<Option<&'a str>> {
    row[field].as_array().expect("a list").iter().map(Value::as_str).collect()
}
