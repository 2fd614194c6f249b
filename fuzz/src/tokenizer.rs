//! `tokenizer.json`, nearly right: what is read must encode any text and give it back.

use apr_countdown::tokens::Tokenizer;
use serde_json::Value;

use crate::choices::Choices;

/// A file with some values changed.
pub fn file(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let text = Tokenizer::default().to_json();
    let mut file: Value = serde_json::from_str(&text).expect("it writes JSON");
    match choices.byte() % 4 {
        0 => choices.edit_json(&mut file),
        1 => choices.edit_json(&mut file["model"]),
        2 => choices.edit_json(&mut file["model"]["vocab"]),
        _ => {
            let mut raw = text.into_bytes();
            choices.edit_bytes(&mut raw);
            check(&String::from_utf8_lossy(&raw), choices.rest());
            return;
        }
    }
    check(&file.to_string(), choices.rest());
}

/// Text and ids of any kind through the built-in vocabulary.
pub fn codes(bytes: &[u8]) {
    check(&Tokenizer::default().to_json(), bytes);
}

fn check(file: &str, bytes: &[u8]) {
    let Ok(tokenizer) = Tokenizer::from_json(file) else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let ids = tokenizer.encode(&text);
    assert_eq!(tokenizer.decode(&ids, false).as_deref(), Ok(&*text));
    let any: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
    let known = any.iter().all(|id| (*id as usize) < tokenizer.vocab_size());
    assert_eq!(tokenizer.decode(&any, true).is_ok(), known);
    let again = Tokenizer::from_json(&tokenizer.to_json()).expect("it reads what it writes");
    assert_eq!(again.encode(&text), ids);
}
