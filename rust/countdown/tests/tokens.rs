//! The tokenizer on golden and arbitrary text, and Llama-2 counts against the golden figures.

mod common;

use std::collections::BTreeSet;

use apr_countdown::llama2::llama2_tokens;
use apr_countdown::tokens::{BOS, EOS, PAD, Tokenizer, TokenizerError};
use apr_countdown::trace::PHRASES;
use apr_countdown::trace::read::Line;
use common::{golden, golden_folder, text, texts};
use proptest::prelude::*;
use serde_json::Value;

/// Every text of a golden APR trace, and whether it is the main thread's.
fn thread_texts(trace: &Value) -> Vec<(&str, bool)> {
    let mains = texts(trace, "main_calls").into_iter().flatten().map(|text| (text, true));
    let rounds = trace["sub_calls"].as_array().expect("rounds");
    let children = rounds.iter().flat_map(|round| round.as_array().expect("children"));
    let children = children.flat_map(|child| texts(child, "main_calls")).flatten();
    mains.chain(children.map(|text| (text, false))).collect()
}

fn golden_texts() -> Vec<String> {
    let mut found = Vec::new();
    for row in golden("apr_traces.jsonl.gz") {
        found.extend(thread_texts(&row["trace_dict"]).into_iter().map(|(text, _)| text.to_owned()));
    }
    let fields = [
        ("sosp_traces.jsonl.gz", "trace"),
        ("checks.jsonl.gz", "solution"),
        ("trace_checks.jsonl.gz", "text"),
        ("fork_join.jsonl.gz", "parent"),
    ];
    for (file, field) in fields {
        found.extend(golden(file).iter().map(|row| text(row, field).to_owned()));
    }
    found
}

fn assert_round_trip(tokenizer: &Tokenizer, text: &str) {
    let ids = tokenizer.encode(text);
    assert_eq!(tokenizer.decode(&ids, false).expect("ids of the vocabulary"), text);
}

#[test]
fn golden_texts_round_trip() {
    let tokenizer = Tokenizer::default();
    let texts = golden_texts();
    assert!(texts.len() > 5000, "{}", texts.len());
    texts.iter().for_each(|text| assert_round_trip(&tokenizer, text));
}

#[test]
fn the_vocabulary_is_small_and_whole() {
    let tokenizer = Tokenizer::default();
    let size = tokenizer.vocab_size();
    assert!(size <= 256, "an id is a byte");
    let singles = (b' '..=b'~').map(|byte| (byte as char).to_string()).chain(["\n".to_owned()]);
    let named: Vec<String> = [PAD, BOS, EOS].into_iter().chain(PHRASES).map(str::to_owned).chain(singles).collect();
    for token in &named {
        let id = tokenizer.id(token).unwrap_or_else(|| panic!("{token:?} is no token"));
        assert_eq!(tokenizer.encode(token), [id]);
        assert_eq!(tokenizer.decode(&[id], false).unwrap(), *token);
    }
    let ids: BTreeSet<_> = named.iter().map(|token| tokenizer.id(token)).collect();
    assert_eq!(ids.len(), named.len());
    // The others are halves of bytes.
    assert_eq!(size, named.len() + 16);
    assert_eq!(tokenizer.id("no such token"), None);
    assert_eq!(tokenizer.decode(&[size as u32], false), Err(TokenizerError::Id(size as u32)));
}

#[test]
fn special_tokens_can_be_left_out() {
    let tokenizer = Tokenizer::default();
    let ids = tokenizer.encode("<s>1+1=2</s><pad>");
    assert_eq!(ids.len(), 8);
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "1+1=2");
}

#[test]
fn a_text_cut_at_a_line_end_keeps_its_tokens() {
    let tokenizer = Tokenizer::default();
    let mut prompts = 0;
    for text in golden_texts().iter().step_by(7) {
        let whole = tokenizer.encode(text);
        let mut parts = Vec::new();
        text.split_inclusive('\n').for_each(|line| tokenizer.encode_into(line, &mut parts));
        assert_eq!(parts, whole);
        // A prompt ends before the line break of the first state line.
        let Some(start) = text.find("Current State: ") else { continue };
        let state = text[start..].split('\n').next().unwrap_or("");
        if !matches!(Line::parse(state), Some(Line::State(_))) {
            continue;
        }
        let end = start + state.len();
        assert_eq!([tokenizer.encode(&text[..end]), tokenizer.encode(&text[end..])].concat(), whole);
        prompts += 1;
    }
    assert!(prompts > 500);
}

#[test]
fn the_file_holds_all_of_it() {
    let tokenizer = Tokenizer::default();
    let file = tokenizer.to_json();
    let read = Tokenizer::from_json(&file).expect("our own file");
    assert_eq!(read.to_json(), file);
    assert_eq!(read.vocab_size(), tokenizer.vocab_size());
    let other = "Current State: 7:[1, 2], \u{e9}\u{1F600} <Sub Searches>\n\t";
    for text in golden_texts().iter().map(String::as_str).step_by(31).chain([other]) {
        assert_eq!(read.encode(text), tokenizer.encode(text));
    }
}

#[test]
fn any_other_file_is_refused() {
    let file: Value = serde_json::from_str(&Tokenizer::default().to_json()).expect("JSON");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut changed = file.clone();
        change(&mut changed);
        let read = Tokenizer::from_json(&changed.to_string());
        assert!(matches!(read, Err(TokenizerError::Format(_))), "{read:?}");
    };
    refused(&|file| *file = Value::Null);
    refused(&|file| file["model"]["type"] = "BPE".into());
    refused(&|file| file["model"]["vocab"] = Value::Null);
    refused(&|file| file["model"]["vocab"]["0"] = 1.into());
    refused(&|file| file["model"]["vocab"]["0"] = 100_000.into());
    refused(&|file| file["model"]["vocab"]["0"] = (-1).into());
    refused(&|file| file["model"]["vocab"]["\u{4e00}"] = 0.into());
    for missing in ["<pad>", "</s>", "\u{2463}"] {
        refused(&|file| {
            // The last id moves into the gap.
            let vocab = file["model"]["vocab"].as_object_mut().expect("a vocabulary");
            let gap = vocab.remove(missing).expect("a token");
            let last = vocab.len();
            let moved = vocab.iter().find(|(_, id)| **id == last).map(|(token, _)| token.clone());
            if let Some(token) = moved {
                vocab.insert(token, gap);
            }
        });
    }
    assert!(Tokenizer::from_json("").is_err());
}

/// Text that is made of pieces of the grammar, cut anywhere.
fn pieces() -> impl Strategy<Value = String> {
    let phrase = (prop::sample::select(&PHRASES[..]), 0..40usize, 0..40usize)
        .prop_map(|(phrase, from, len)| phrase.chars().skip(from % phrase.len()).take(len).collect());
    let whole = prop::sample::select(&PHRASES[..]).prop_map(str::to_owned);
    let special = prop::sample::select(vec!["<s>", "</s>", "<pad>", "</", "<s"]).prop_map(str::to_owned);
    let piece = prop_oneof![whole, phrase, special, any::<String>(), "[0-9+*/=,\\- \n]{0,4}"];
    prop::collection::vec(piece, 0..12).prop_map(|pieces: Vec<String>| pieces.concat())
}

#[test]
fn a_vocabulary_has_any_phrases() {
    let tokenizer = Tokenizer::of(&["<go>", "left of", "<g"]).expect("phrases");
    let ids = |tokens: &[&str]| tokens.iter().map(|token| tokenizer.id(token).expect("a token")).collect::<Vec<_>>();
    assert_eq!(ids(&[PAD, BOS, EOS, "0", "9", "<go>", "left of", "<g", " "]), [0, 1, 2, 3, 12, 13, 14, 15, 16]);
    assert_eq!(
        tokenizer.encode("<<go>left of<gleft\n"),
        ids(&["<", "<go>", "left of", "<g", "l", "e", "f", "t", "\n"])
    );
    assert_eq!(tokenizer.id(PHRASES[0]), None);
    let read = Tokenizer::from_json(&tokenizer.to_json()).expect("our own file");
    assert_eq!(read.to_json(), tokenizer.to_json());
    for phrase in ["", "a", "a\n", "a\tb", "\u{e9}\u{e9}", "a<", "a<b", "<s>", "</s>x"] {
        let read = Tokenizer::of(&["left of", phrase]);
        assert!(matches!(&read, Err(TokenizerError::Phrase(name, _)) if name == phrase), "{read:?}");
    }
    assert!(matches!(Tokenizer::of(&["ab", "ab"]), Err(TokenizerError::Phrase(..))));
}

#[test]
fn special_tokens_can_be_text() {
    let tokenizer = Tokenizer::default();
    let ids = tokenizer.encode_plain("1</s>");
    assert_eq!(ids, ["1", "<", "/", "s", ">"].map(|token| tokenizer.id(token).expect("a token")));
    assert_eq!(tokenizer.decode(&ids, true).unwrap(), "1</s>");
}

proptest! {
    #[test]
    fn phrases_of_any_kind(phrases in prop::collection::hash_set("[<a-c][a-c >]{1,3}", 0..8), text in "[a-c<>/s\n\u{e9} ]{0,30}") {
        let phrases: Vec<String> = phrases.into_iter().collect();
        let tokenizer = Tokenizer::of(&phrases).expect("phrases");
        assert_round_trip(&tokenizer, &text);
        let plain = tokenizer.encode_plain(&text);
        prop_assert!(plain.iter().all(|&id| id > 2));
        prop_assert_eq!(tokenizer.decode(&plain, true).unwrap(), text.clone());
        let lines: Vec<u32> = text.split_inclusive('\n').flat_map(|line| tokenizer.encode(line)).collect();
        prop_assert_eq!(lines, tokenizer.encode(&text));
        let breaks: Vec<Vec<u32>> = text.split('\n').map(|line| tokenizer.encode(line)).collect();
        prop_assert_eq!(breaks.join(&tokenizer.encode("\n")[0]), tokenizer.encode(&text));
    }

    #[test]
    fn what_goes_on_only_gets_longer(ids in prop::collection::vec(prop_oneof![0..200u32, 130..150u32], 0..40)) {
        let tokenizer = Tokenizer::default();
        let ids: Vec<u32> = ids.into_iter().filter(|&id| (id as usize) < tokenizer.vocab_size()).collect();
        let mut before = String::new();
        for end in 0..=ids.len() {
            let text = tokenizer.decode_open(&ids[..end], false).unwrap();
            prop_assert!(text.starts_with(&before));
            prop_assert!(tokenizer.decode(&ids[..end], false).unwrap().starts_with(&text));
            before = text;
        }
    }

    #[test]
    fn any_text_is_whole(text in any::<String>()) {
        let tokenizer = Tokenizer::default();
        prop_assert_eq!(tokenizer.decode_open(&tokenizer.encode(&text), false).unwrap(), text);
    }

    #[test]
    fn any_text_round_trips(text in any::<String>(), lines in "(?s).{0,40}", pieces in pieces()) {
        let tokenizer = Tokenizer::default();
        for text in [text, lines, pieces] {
            assert_round_trip(&tokenizer, &text);
        }
    }

    #[test]
    fn any_ids_decode(ids in prop::collection::vec(0..200u32, 0..60), skip in any::<bool>()) {
        let tokenizer = Tokenizer::default();
        let known = ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size());
        prop_assert_eq!(tokenizer.decode(&ids, skip).is_ok(), known);
    }
}

#[test]
fn llama2_costs_are_exact() {
    let file = std::fs::read_to_string(golden_folder().join("llama2_cost.json")).expect("the cost file");
    let costs: serde_json::Map<String, Value> = serde_json::from_str(&file).expect("JSON");
    for (run, cost) in &costs {
        let run = if run == "<digit>" { "7" } else { run };
        assert_eq!(llama2_tokens(run), cost.as_u64().expect("a cost") as usize, "{run:?}");
    }
    assert_eq!(llama2_tokens(""), 0);
}

/// The reference's figures for one trace. A sequence costs its text and three tokens more: the reference encodes begin
/// and end as text and its tokenizer adds a begin. Of two neighbouring main texts the common prefix is not counted
/// twice; the two tokens that it takes off there are one too many, since this text has no begin of its own.
fn token_data(trace: &Value, count: impl Fn(&str) -> usize) -> [f64; 5] {
    let threads = thread_texts(trace);
    let costs: Vec<(usize, bool)> = threads.iter().map(|&(text, main)| (count(text) + 3, main)).collect();
    let mut mains: Vec<&str> = threads.iter().filter(|(_, main)| *main).map(|&(text, _)| text).collect();
    mains.sort_by_key(|text| text.len());
    let shared: usize = mains
        .windows(2)
        .map(|pair| {
            let same = pair[0].bytes().zip(pair[1].bytes()).take_while(|(a, b)| a == b).count();
            count(&pair[0][..same]) - 1
        })
        .sum();
    let total = costs.iter().map(|(cost, _)| cost).sum::<usize>() - shared;
    let children: Vec<usize> = costs.iter().filter(|(_, main)| !main).map(|&(cost, _)| cost).collect();
    let mean = |sum: usize, of: usize| if of == 0 { 0.0 } else { sum as f64 / of as f64 };
    [
        total as f64,
        costs.iter().map(|&(cost, _)| cost).max().unwrap_or(0) as f64,
        mean(total, costs.len()),
        mean(children.iter().sum(), children.len()),
        mean(children.len(), mains.len() - 1),
    ]
}

#[test]
fn token_counts_of_traces() {
    let fields =
        ["token_count", "longest_seq_token_count", "avg_seq_token_count", "avg_sub_seq_token_count", "sub_call_count"];
    for row in golden("apr_traces.jsonl.gz") {
        let trace = &row["trace_dict"];
        let counts =
            [("token_data_llama2", token_data(trace, llama2_tokens)), ("token_data_char", token_data(trace, str::len))];
        for (kind, ours) in counts {
            for (field, ours) in fields.into_iter().zip(ours) {
                let theirs = row[kind][field].as_f64().expect("a count");
                assert!((ours - theirs).abs() < 1e-9, "{kind} {field}: {ours}, not {theirs}");
            }
        }
    }
}
