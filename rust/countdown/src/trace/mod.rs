//! The one grammar of traces: every line that a teacher writes, a model writes, or a join puts into a parent.
//!
//! `write` and `read` share the phrases below; no other file of the project holds one of them. Phrases are also the
//! units of the tokenizer: lines are made of whole phrases, digits, commas and signs, so text splits into tokens in
//! one way wherever it is cut at a phrase.

pub mod read;
pub mod write;

/// Opens a state line; the target follows.
pub const STATE: &str = "Current State: ";
/// Between a target and its list of numbers.
pub const TARGET_LIST: &str = ":[";
/// Between the items of a list of numbers.
pub const COMMA: &str = ", ";
/// Ends a state line without operations (no line break: a prompt ends here).
pub const NO_OPERATIONS: &str = "], Operations: []";
/// Between a state's numbers and its first operation.
pub const OPERATIONS: &str = "], Operations: ['";
/// Between two operations of a state line.
pub const NEXT_OPERATION: &str = "', '";
/// Ends a state line with operations (no line break: a prompt ends here).
pub const END_OPERATIONS: &str = "']";
/// Opens the line of an operation that is tried; the equation follows.
pub const EXPLORE: &str = "Exploring Operation: ";
/// Between a tried equation and the numbers it leaves.
pub const RESULTING: &str = ", Resulting Numbers: [";
/// Ends a list at the end of a line.
pub const END_LIST: &str = "]\n";
/// Opens the line of a node that is kept; its id follows.
pub const GENERATED: &str = "Generated Node #";
/// Between a node's id and its target.
pub const NODE_TARGET: &str = ": ";
/// Between a node's numbers and the equation that made it.
pub const OPERATION: &str = "] Operation: ";
/// Ends the line of a last number that is not the target.
pub const UNEQUAL: &str = " unequal: No Solution\n";
/// Ends the line of a last number that is the target.
pub const EQUAL: &str = " equal: Goal Reached\n";
/// What a goal line is recognised by in hostile text.
pub const GOAL: &str = "Goal Reached";
/// Opens a move line; a node's id follows.
pub const MOVE: &str = "Moving to Node #";
/// Ends a search that found nothing.
pub const FAIL: &str = "No solution found.\n";
/// Opens a serial sub search; its level follows.
pub const START_SUB_SEARCH: &str = "Start Sub Search at level ";
/// Between the level of a serial sub search and its node.
pub const START_MOVE: &str = ": Moving to Node #";
/// Ends a serial sub search; its level follows.
pub const EXIT_SUB_SEARCH: &str = "Exit Sub Search at level ";
/// Said after a serial sub search that failed.
pub const NOTHING_IN_SUB_SEARCH: &str = "No solution found in sub search\n";
/// Opens a spawn block.
pub const SPAWN: &str = "<Calling Sub Searches>\n";
/// Opens a child's line in a spawn block; its index follows.
pub const SPAWN_CHILD: &str = "<Start Sub Search ";
/// Between a child's index and its level.
pub const AT_LEVEL: &str = " at level ";
/// Between a child's level and its node in a spawn block.
pub const SPAWN_MOVE: &str = "> Moving to Node #";
/// Ends a spawn block.
pub const END_SPAWN: &str = "<End Calling Sub Searches>\n";
/// Opens a join block.
pub const JOIN: &str = "<Sub Searches>\n";
/// Opens the result of a child that found nothing; its index follows.
pub const CHILD_FAILED: &str = "<No Solution in Sub Search ";
/// Opens the result of a child that reached the goal; its index follows.
pub const CHILD_SOLVED: &str = "<Goal Reached in Sub Search ";
/// Opens the result of a child that was cancelled because a sibling had won; its index follows.
pub const CHILD_CANCELLED: &str = "<Cancelled Sub Search ";
/// Between a child's level and its node in a join block.
pub const AT_NODE: &str = " at Node #";
/// Ends a child's line in a join block.
pub const END_RESULT: &str = ">\n";
/// Ends a join block.
pub const END_JOIN: &str = "<End Sub Searches>\n";
/// Condition before an APR root prompt: how many children the main thread spawns in all.
pub const CHILD_BUDGET: &str = "Sub Call Budget: ";
/// Condition before a prompt: how many tokens the thread may take.
pub const TOKEN_BUDGET: &str = "Token Budget: ";

/// Token budgets are multiples of this many Llama-2 tokens (paper, section 4.1).
pub const TOKEN_BUDGET_BIN: usize = 512;

/// Every phrase that is one token; single characters are tokens of their own.
pub const PHRASES: [&str; 35] = [
    STATE,
    TARGET_LIST,
    COMMA,
    NO_OPERATIONS,
    OPERATIONS,
    NEXT_OPERATION,
    END_OPERATIONS,
    EXPLORE,
    RESULTING,
    END_LIST,
    GENERATED,
    NODE_TARGET,
    OPERATION,
    UNEQUAL,
    EQUAL,
    MOVE,
    FAIL,
    START_SUB_SEARCH,
    START_MOVE,
    EXIT_SUB_SEARCH,
    NOTHING_IN_SUB_SEARCH,
    SPAWN,
    SPAWN_CHILD,
    AT_LEVEL,
    SPAWN_MOVE,
    END_SPAWN,
    JOIN,
    CHILD_FAILED,
    CHILD_SOLVED,
    CHILD_CANCELLED,
    AT_NODE,
    END_RESULT,
    END_JOIN,
    CHILD_BUDGET,
    TOKEN_BUDGET,
];
