//! Llama-2 token counts of trace texts, without Llama-2's tokenizer.
//!
//! Its vocabulary has no token that holds a digit or a line break and anything else, so a text costs what its digits,
//! its line breaks and the runs between them cost, each by itself. The costs of the grammar's runs are exact; a run
//! that no trace holds is estimated at three bytes a token.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::trace::*;

const COSTS: [(&str, usize); 34] = [
    (STATE, 4),
    (TARGET_LIST, 1),
    (COMMA, 2),
    (NO_OPERATIONS, 5),
    (OPERATIONS, 5),
    (NEXT_OPERATION, 2),
    (END_OPERATIONS, 1),
    (EXPLORE, 6),
    (RESULTING, 7),
    (END_LIST, 1),
    (GENERATED, 3),
    (NODE_TARGET, 2),
    (OPERATION, 4),
    (UNEQUAL, 5),
    (EQUAL, 6),
    (MOVE, 5),
    (FAIL, 4),
    (START_SUB_SEARCH, 6),
    (START_MOVE, 6),
    (EXIT_SUB_SEARCH, 6),
    (NOTHING_IN_SUB_SEARCH, 6),
    (SPAWN, 7),
    (SPAWN_CHILD, 5),
    (AT_LEVEL, 3),
    (SPAWN_MOVE, 6),
    (END_SPAWN, 8),
    (JOIN, 5),
    (CHILD_FAILED, 7),
    (CHILD_SOLVED, 9),
    (AT_NODE, 3),
    (END_RESULT, 1),
    (END_JOIN, 6),
    (CHILD_BUDGET, 6),
    (TOKEN_BUDGET, 5),
];

/// Llama-2 tokens of `text`; the sentence's begin and end tokens are not counted.
pub fn llama2_tokens(text: &str) -> usize {
    static TABLE: OnceLock<HashMap<&str, usize>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let signs = ["+", "-", "*", "/", "=", ",", " "].map(|sign| (sign, 1));
        COSTS.iter().map(|&(phrase, cost)| (phrase.trim_end_matches('\n'), cost)).chain(signs).collect()
    });
    let cost = |run: &str| {
        // A word's token takes the one space before it along.
        let exact = table.get(run).or_else(|| run.strip_prefix(' ').and_then(|word| table.get(word)));
        exact.copied().unwrap_or_else(|| run.len().div_ceil(3))
    };
    let single = |c: char| c == '\n' || c.is_ascii_digit();
    let singles = text.chars().filter(|&c| single(c)).count();
    singles + text.split(single).filter(|run| !run.is_empty()).map(cost).sum::<usize>()
}
