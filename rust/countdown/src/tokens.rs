//! The compact tokenizer: a phrase of the grammar is one token, so is every printable ASCII character.
//!
//! It is an ordinary `tokenizer.json`: text is taken to bytes, bytes that have no token are written as two half-byte
//! tokens, and what comes out is cut at the longest phrases. Encoding is total and decoding gives the text back.
//! Ids: pad, begin, end, digits, phrases, other characters, half-bytes; [`Tokenizer::default`] has the phrases of
//! traces, [`Tokenizer::of`] those of another language, and `from_json` reads either back from a file.

use std::collections::{HashMap, HashSet};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::{Value, json};

use crate::trace::PHRASES;

/// Pads a batch.
pub const PAD: &str = "<pad>";
/// Begins a sequence.
pub const BOS: &str = "<s>";
/// Ends a sequence.
pub const EOS: &str = "</s>";

const SPECIALS: [&str; 3] = [PAD, BOS, EOS];
/// Half-byte n is written as this character plus n; none of them stands for a byte.
const HALF_BYTES: char = '\u{2460}';
/// Stands after pairs of half-bytes while the file's decoder puts them together.
const PAIR_END: char = '\u{2470}';

/// Why a file is not this tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// Not JSON, or without the fields that are needed.
    #[error("not a tokenizer.json of this project: {0}")]
    Format(String),
    /// A text that can be no token among the others.
    #[error("{0:?} can be no phrase: {1}")]
    Phrase(String, &'static str),
    /// An id that is not in the vocabulary.
    #[error("token id {0} is not in the vocabulary")]
    Id(u32),
}

/// Encodes and decodes.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    /// By id, what the token stands for: bytes, or half a byte.
    tokens: Vec<Token>,
    ids: HashMap<Vec<u8>, u32>,
    half_bytes: [u32; 16],
    all: Matcher,
    /// All but the special tokens.
    plain: Matcher,
}

/// Finds the longest tokens from the left.
#[derive(Clone, Debug)]
struct Matcher {
    automaton: AhoCorasick,
    /// By pattern.
    ids: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Special(&'static str),
    Bytes(Vec<u8>),
    Half(u8),
}

impl Default for Tokenizer {
    fn default() -> Tokenizer {
        Tokenizer::new(vocabulary(PHRASES)).expect("the built-in vocabulary is complete")
    }
}

impl Tokenizer {
    /// A vocabulary with these phrases, in their order.
    ///
    /// # Errors
    /// [`TokenizerError::Phrase`] for one that is no two or more printable ASCII characters, that was there before, or
    /// that has a `<` behind its begin: it could swallow the begin of a special token, or of a tag.
    pub fn of<S: AsRef<str>>(phrases: &[S]) -> Result<Tokenizer, TokenizerError> {
        let mut seen = HashSet::new();
        for phrase in phrases.iter().map(AsRef::as_ref) {
            let fault = if phrase.len() < 2 {
                "it is shorter than two characters"
            } else if !phrase.bytes().all(|b| matches!(b, b' '..=b'~')) {
                "it is not printable ASCII in one line"
            } else if phrase[1..].contains('<') || SPECIALS.iter().any(|special| phrase.starts_with(special)) {
                "it could be taken for a part of another token"
            } else if !seen.insert(phrase) {
                "it is there twice"
            } else {
                continue;
            };
            return Err(TokenizerError::Phrase(phrase.to_owned(), fault));
        }
        Tokenizer::new(vocabulary(phrases.iter().map(AsRef::as_ref)))
    }

    fn new(tokens: Vec<Token>) -> Result<Tokenizer, TokenizerError> {
        let format = |what: &str| TokenizerError::Format(what.into());
        let mut ids = HashMap::new();
        let mut half_bytes = [None; 16];
        let mut patterns = Vec::new();
        let mut special = Vec::new();
        for (id, token) in tokens.iter().enumerate() {
            let id = id as u32;
            match token {
                Token::Half(n) => half_bytes[*n as usize] = Some(id),
                Token::Special(text) => {
                    ids.insert(text.as_bytes().to_vec(), id);
                    special.push((text.as_bytes(), id));
                }
                Token::Bytes(bytes) => {
                    ids.insert(bytes.clone(), id);
                    patterns.push((bytes.as_slice(), id));
                }
            }
        }
        if SPECIALS.iter().any(|s| !ids.contains_key(s.as_bytes())) {
            return Err(format("a special token is missing"));
        }
        if half_bytes.contains(&None) {
            return Err(format("a half-byte token is missing"));
        }
        let plain = Matcher::new(&patterns)?;
        let all = Matcher::new(&[special, patterns].concat())?;
        Ok(Tokenizer { tokens, ids, half_bytes: half_bytes.map(Option::unwrap_or_default), all, plain })
    }

    /// Reads a `tokenizer.json` that [`Tokenizer::to_json`] wrote.
    ///
    /// # Errors
    /// [`TokenizerError::Format`] for any other file.
    pub fn from_json(text: &str) -> Result<Tokenizer, TokenizerError> {
        let format = |what: &str| TokenizerError::Format(what.into());
        let file: Value = serde_json::from_str(text).map_err(|e| TokenizerError::Format(e.to_string()))?;
        if file["model"]["type"] != "WordLevel" {
            return Err(format("its model is not WordLevel"));
        }
        let vocab = file["model"]["vocab"].as_object().ok_or_else(|| format("no vocabulary"))?;
        let mut tokens = vec![None; vocab.len()];
        for (written, id) in vocab {
            let slot = id.as_u64().and_then(|id| tokens.get_mut(id as usize));
            let slot = slot.ok_or_else(|| format("ids do not run from 0 without gaps"))?;
            *slot = Some(Token::read(written).ok_or_else(|| format("a token that is no text of bytes"))?);
        }
        let tokens: Option<Vec<Token>> = tokens.into_iter().collect();
        Tokenizer::new(tokens.ok_or_else(|| format("two tokens share an id"))?)
    }

    /// The `tokenizer.json` of this vocabulary, for any program that reads such files.
    pub fn to_json(&self) -> String {
        let vocab: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.written(), json!(id))).collect();
        let added: Vec<Value> = SPECIALS
            .iter()
            .map(|special| {
                json!({"id": self.ids[special.as_bytes()], "content": special, "single_word": false,
                       "lstrip": false, "rstrip": false, "normalized": false, "special": true})
            })
            .collect();
        let spelled: Vec<(String, String)> = (0..=255u8)
            .filter(|&byte| !self.ids.contains_key(&[byte][..]))
            .map(|byte| (byte_char(byte).to_string(), [half_char(byte >> 4), half_char(byte & 15)].iter().collect()))
            .collect();
        let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
        let mut normalizers = vec![json!({"type": "ByteLevel"})];
        normalizers.extend(spelled.iter().map(|(byte, halves)| replace(byte, halves)));
        // Half-bytes are paired from the left of their run before any pair becomes a byte: in the middle of a run the
        // second half of one byte and the first of the next may look like a pair too.
        let pairs = format!("[{}-{}]{{2}}\\K", half_char(0), half_char(15));
        let pair = json!({"type": "Replace", "pattern": {"Regex": pairs}, "content": PAIR_END});
        let mut decoders = vec![json!({"type": "Fuse"}), pair];
        decoders.extend(spelled.iter().map(|(byte, halves)| replace(&format!("{halves}{PAIR_END}"), byte)));
        // Half-bytes that make no byte, as a model may write them.
        decoders.extend((0..16).map(|n| replace(&half_char(n).to_string(), "?")));
        decoders.push(replace(&PAIR_END.to_string(), ""));
        decoders
            .push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}));
        let mut phrases: Vec<String> =
            self.tokens.iter().filter(|t| matches!(t, Token::Bytes(_))).map(Token::written).collect();
        phrases.sort_by_key(|p| std::cmp::Reverse(p.len()));
        let pattern = phrases.iter().map(|p| escape(p)).collect::<Vec<_>>().join("|") + "|.";
        let file = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": normalizers},
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": PAD},
        });
        serde_json::to_string_pretty(&file).expect("a JSON value can be written") + "\n"
    }

    /// How many tokens there are.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The id of a special token, a phrase or a character.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token.as_bytes()).copied()
    }

    /// Token ids of any text, appended to `into`. No begin or end token is added.
    pub fn encode_into(&self, text: &str, into: &mut Vec<u32>) {
        self.match_into(&self.all, text, into);
    }

    /// Token ids of any text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.encode_into(text, &mut ids);
        ids
    }

    /// Token ids of any text, in which the names of special tokens are text like any other.
    pub fn encode_plain(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        self.match_into(&self.plain, text, &mut ids);
        ids
    }

    fn match_into(&self, matcher: &Matcher, text: &str, into: &mut Vec<u32>) {
        let mut spelled = 0;
        for found in matcher.automaton.find_iter(text) {
            self.spell(&text.as_bytes()[spelled..found.start()], into);
            into.push(matcher.ids[found.pattern().as_usize()]);
            spelled = found.end();
        }
        self.spell(&text.as_bytes()[spelled..], into);
    }

    fn spell(&self, bytes: &[u8], into: &mut Vec<u32>) {
        for &byte in bytes {
            into.push(self.half_bytes[(byte >> 4) as usize]);
            into.push(self.half_bytes[(byte & 15) as usize]);
        }
    }

    /// The text of token ids. Bytes that are no UTF-8 become replacement characters, a half-byte alone a `?`.
    ///
    /// # Errors
    /// [`TokenizerError::Id`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let (mut bytes, half) = self.bytes(ids, skip_special)?;
        bytes.extend(half.then_some(b'?'));
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of token ids that may go on: what may yet become a character is left out at the end, so the text of a
    /// prefix is a prefix of the text.
    ///
    /// # Errors
    /// [`TokenizerError::Id`] for an id outside the vocabulary.
    pub fn decode_open(&self, ids: &[u32], skip_special: bool) -> Result<String, TokenizerError> {
        let (mut bytes, _) = self.bytes(ids, skip_special)?;
        let rest = bytes.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
        if str::from_utf8(rest).is_err_and(|error| error.error_len().is_none()) {
            bytes.truncate(bytes.len() - rest.len());
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// What the ids stand for, and whether half a byte is left over at the end.
    fn bytes(&self, ids: &[u32], skip_special: bool) -> Result<(Vec<u8>, bool), TokenizerError> {
        let mut bytes = Vec::with_capacity(4 * ids.len());
        let mut high: Option<u8> = None;
        for &id in ids {
            let token = self.tokens.get(id as usize).ok_or(TokenizerError::Id(id))?;
            match (token, high) {
                (Token::Special(_), _) if skip_special => continue,
                (Token::Half(low), Some(half)) => {
                    let byte = half << 4 | low;
                    // As the file's decoder does: only pairs that encoding writes are read back.
                    match self.ids.contains_key(&[byte][..]) {
                        true => bytes.extend_from_slice(b"??"),
                        false => bytes.push(byte),
                    }
                    high = None;
                    continue;
                }
                (Token::Half(half), None) => {
                    high = Some(*half);
                    continue;
                }
                (_, Some(_)) => bytes.push(b'?'),
                (_, None) => {}
            }
            high = None;
            match token {
                Token::Special(text) => bytes.extend_from_slice(text.as_bytes()),
                Token::Bytes(text) => bytes.extend_from_slice(text),
                Token::Half(_) => {}
            }
        }
        Ok((bytes, high.is_some()))
    }
}

impl Matcher {
    fn new(patterns: &[(&[u8], u32)]) -> Result<Matcher, TokenizerError> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|(bytes, _)| bytes))
            .map_err(|e| TokenizerError::Format(e.to_string()))?;
        Ok(Matcher { automaton, ids: patterns.iter().map(|(_, id)| *id).collect() })
    }
}

impl Token {
    /// How the token stands in the file's vocabulary.
    fn written(&self) -> String {
        match self {
            Token::Special(text) => (*text).to_owned(),
            Token::Bytes(bytes) => bytes.iter().map(|&b| byte_char(b)).collect(),
            Token::Half(n) => half_char(*n).to_string(),
        }
    }

    fn read(written: &str) -> Option<Token> {
        if let Some(special) = SPECIALS.iter().find(|&&s| s == written) {
            return Some(Token::Special(special));
        }
        let mut chars = written.chars();
        if let (Some(c), None) = (chars.next(), chars.next())
            && let Some(n) = (c as u32).checked_sub(HALF_BYTES as u32).filter(|&n| n < 16)
        {
            return Some(Token::Half(n as u8));
        }
        let bytes: Option<Vec<u8>> = written.chars().map(|c| (0..=255).find(|&b| byte_char(b) == c)).collect();
        bytes.filter(|b| !b.is_empty()).map(Token::Bytes)
    }
}

/// Special tokens, digits, phrases, other characters and half-bytes, in the order of their ids.
fn vocabulary<'a>(phrases: impl IntoIterator<Item = &'a str>) -> Vec<Token> {
    let single = (b' '..=b'~').chain([b'\n']);
    SPECIALS
        .iter()
        .map(|&s| Token::Special(s))
        .chain((b'0'..=b'9').map(|c| Token::Bytes(vec![c])))
        .chain(phrases.into_iter().map(|p| Token::Bytes(p.as_bytes().to_vec())))
        .chain(single.filter(|c| !c.is_ascii_digit()).map(|c| Token::Bytes(vec![c])))
        .chain((0..16).map(Token::Half))
        .collect()
}

fn half_char(n: u8) -> char {
    char::from_u32(HALF_BYTES as u32 + u32::from(n)).expect("a code point of the circled numbers")
}

/// The printable character that byte-level tokenizers write for a byte.
fn byte_char(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return byte as char;
    }
    let rank = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(256 + rank).expect("a code point of Latin Extended-A")
}

fn escape(text: &str) -> String {
    text.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect()
}
