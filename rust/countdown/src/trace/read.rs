//! The reading half of the grammar: spawn blocks into child prompts, child texts into a join; `line` reads lines.
//!
//! The text comes from a model, so it is hostile: whatever is not a line of the grammar where one is needed is a
//! [`GrammarError`] with its line number, and numbers, ids and lists are bounded, which keeps work linear in the text.
//! Children are known by their place in the spawn block, never by their text: two equal children are two children.

use std::collections::HashMap;

use super::write::{ChildResult, Writer};
use super::{
    CHILD_BUDGET, END_SPAWN, GENERATED, GOAL, MOVE, SPAWN, SPAWN_CHILD, STATE, TOKEN_BUDGET, TOKEN_BUDGET_BIN,
};
use crate::problem::{MAX_NUMBERS, Number, Step};
use line::Scan;

mod line;

pub use line::{Kind, Line, MAX_DIGITS, State};

/// What keeps a text from being read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// The last line does not end a spawn block.
    #[error("the text does not end with a spawn block")]
    NotASpawn,
    /// A spawn block ends that never began.
    #[error("the spawn block has no opening line")]
    NoSpawnOpening,
    /// A line that is needed and that is not in the grammar.
    #[error("line {line} is malformed")]
    Malformed {
        /// Line number from 1.
        line: usize,
    },
    /// A child or a parent named by an id that no earlier line defines.
    #[error("line {line} names the unknown node #{id}")]
    UnknownNode {
        /// Line number from 1.
        line: usize,
        /// The id.
        id: String,
    },
    /// More results than the spawn block has children.
    #[error("{results} results for {children} children")]
    TooManyResults {
        /// Children in the spawn block.
        children: usize,
        /// Results given.
        results: usize,
    },
}

/// The condition that a child's prompt starts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChildHead {
    /// None.
    #[default]
    Bare,
    /// A token budget for each child.
    Budget(u32),
    /// A token budget for all children together: an even share, rounded up to a multiple of 512.
    SharedBudget(u32),
    /// The parent's own token budget, if it has one.
    Inherited,
}

/// An equation such as `66/3=22`, if `text` is one and nothing else. Whether it holds is not asked.
pub fn step(text: &str) -> Option<Step> {
    let mut scan = Scan { rest: text };
    scan.step().filter(|_| scan.rest.is_empty())
}

/// The budget that a main thread's prompt begins with: child threads or tokens. `None` if it is unconditioned.
pub fn prompt_budget(prompt: &str) -> Option<u64> {
    let rest = [CHILD_BUDGET, TOKEN_BUDGET].iter().find_map(|head| prompt.strip_prefix(head))?;
    Scan { rest }.number()?.try_into().ok()
}

/// Whether a thread stopped to spawn: its last line ends a spawn block.
pub fn is_spawn(text: &str) -> bool {
    let last = text.rsplit('\n').next().unwrap_or(text);
    last.contains(END_SPAWN.trim_end())
}

/// The spawn block at the end of a text.
struct SpawnBlock<'a> {
    /// The text before it.
    trunk: &'a str,
    /// Line number and id of each child; the printed index and level are ignored.
    children: Vec<(usize, &'a str)>,
}

impl<'a> SpawnBlock<'a> {
    fn at_end_of(text: &'a str) -> Result<SpawnBlock<'a>, GrammarError> {
        if !is_spawn(text) {
            return Err(GrammarError::NotASpawn);
        }
        let start = text.rfind(SPAWN).ok_or(GrammarError::NoSpawnOpening)?;
        let (trunk, block) = text.split_at(start);
        if !trunk.is_empty() && !trunk.ends_with('\n') {
            return Err(GrammarError::NoSpawnOpening);
        }
        let first_line = trunk.matches('\n').count() + 1;
        let mut children = Vec::new();
        for (line, content) in (first_line..).zip(block.split('\n')) {
            if content.contains(END_SPAWN.trim_end()) {
                break;
            }
            // A line without one of the two names no child.
            let Some(at) = content.find(MOVE).filter(|_| content.contains(SPAWN_CHILD.trim_end())) else {
                continue;
            };
            children.push((line, whole_id(&content[at + MOVE.len()..], line)?));
        }
        Ok(SpawnBlock { trunk, children })
    }

    fn joined(&self, results: &[ChildResult<'_>], level: usize) -> Result<String, GrammarError> {
        if results.len() > self.children.len() {
            return Err(GrammarError::TooManyResults { children: self.children.len(), results: results.len() });
        }
        let mut writer = Writer::default();
        let ids = self.children.iter().map(|&(_, id)| id);
        writer.join_block(level, ids.zip(results.iter().copied()));
        Ok(writer.into_string())
    }
}

fn whole_id(text: &str, line: usize) -> Result<&str, GrammarError> {
    let mut scan = Scan { rest: text };
    scan.id().filter(|_| scan.rest.is_empty()).ok_or(GrammarError::Malformed { line })
}

/// Every node that a text defines: first by a move and a state line, where a later definition wins, then by a
/// generated line, whose steps are its parent's and one more.
fn nodes(text: &str) -> Result<HashMap<&str, State>, GrammarError> {
    let mut nodes = HashMap::new();
    let mut moved = None;
    for (line, content) in (1..).zip(text.split('\n')) {
        if let Some(id) = moved.take()
            && content.contains(STATE.trim_end())
        {
            let Some(Line::State(state)) = Line::parse(content) else {
                return Err(GrammarError::Malformed { line });
            };
            nodes.insert(whole_id(id, line - 1)?, state);
        }
        moved = content.find(MOVE).map(|at| &content[at + MOVE.len()..]);
    }
    for (line, content) in (1..).zip(text.split('\n')) {
        if !content.contains(GENERATED.trim_end_matches([' ', '#'])) {
            continue;
        }
        let Some(Line::Generated { id, target, numbers, step }) = Line::parse(content) else {
            return Err(GrammarError::Malformed { line });
        };
        if nodes.contains_key(id) {
            continue;
        }
        let parent_id = id.rsplit_once(',').map_or(id, |(parent, _)| parent);
        let parent = nodes.get(parent_id).ok_or_else(|| GrammarError::UnknownNode { line, id: parent_id.into() })?;
        let mut steps = parent.steps.clone();
        steps.push(step);
        if steps.len() >= MAX_NUMBERS {
            return Err(GrammarError::Malformed { line });
        }
        nodes.insert(id, State { target, numbers, steps });
    }
    Ok(nodes)
}

/// The children that the spawn block at the end of a parent's text asks for: id and state, in order.
///
/// # Errors
/// Any [`GrammarError`] but `TooManyResults`.
pub fn spawn_requests<'a>(parent_text: &'a str) -> Result<Vec<(&'a str, State)>, GrammarError> {
    let block = SpawnBlock::at_end_of(parent_text)?;
    let nodes = nodes(parent_text)?;
    let child = |(line, id): (usize, &'a str)| match nodes.get(id) {
        Some(state) => Ok((id, state.clone())),
        None => Err(GrammarError::UnknownNode { line, id: id.into() }),
    };
    block.children.into_iter().map(child).collect()
}

/// The prompts of the children that a parent's text asks for, in order.
///
/// # Errors
/// Those of [`spawn_requests`].
pub fn child_prompts(parent_text: &str, head: ChildHead) -> Result<Vec<String>, GrammarError> {
    let children = spawn_requests(parent_text)?;
    let budget = match head {
        ChildHead::Bare => None,
        ChildHead::Budget(budget) => Some(u64::from(budget)),
        ChildHead::SharedBudget(budget) => {
            let steps = u64::from(budget).div_ceil(TOKEN_BUDGET_BIN as u64 * children.len().max(1) as u64);
            Some(steps * TOKEN_BUDGET_BIN as u64)
        }
        ChildHead::Inherited => own_token_budget(parent_text),
    };
    let prompt = |(id, state): &(&str, State)| {
        let mut writer = Writer::default();
        if let Some(budget) = budget {
            writer.phrase(TOKEN_BUDGET);
            writer.number(Number::from(budget));
            writer.phrase(" ");
        }
        writer.phrase(MOVE);
        writer.phrase(id);
        writer.phrase("\n");
        writer.open_state(state.target, &state.numbers, &state.steps);
        writer.into_string()
    };
    Ok(children.iter().map(prompt).collect())
}

fn own_token_budget(text: &str) -> Option<u64> {
    let mut scan = Scan { rest: text };
    scan.phrase(TOKEN_BUDGET)?;
    let budget = scan.number()?;
    scan.phrase(" ")?;
    budget.try_into().ok()
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildOutcome<'a> {
    /// It ended by itself; its whole text.
    Finished(&'a str),
    /// It was cancelled because a sibling had won.
    Cancelled,
}

/// The parent's text after the join: its spawn block replaced by what the children found.
///
/// `level` is the level of the children, 1 for those of a main thread. Children without an outcome are left out.
///
/// # Errors
/// No spawn block at the end of the text, a malformed one, or more outcomes than children.
pub fn join(parent_text: &str, outcomes: &[ChildOutcome<'_>], level: usize) -> Result<String, GrammarError> {
    let summaries: Vec<Option<String>> = outcomes
        .iter()
        .map(|outcome| match outcome {
            ChildOutcome::Finished(text) => search_result(text).map(|result| format!("{result}\n")),
            ChildOutcome::Cancelled => None,
        })
        .collect();
    let results: Vec<ChildResult<'_>> = outcomes
        .iter()
        .zip(&summaries)
        .map(|(outcome, summary)| match (outcome, summary) {
            (ChildOutcome::Cancelled, _) => ChildResult::Cancelled,
            (ChildOutcome::Finished(_), Some(summary)) => ChildResult::Solved(summary),
            (ChildOutcome::Finished(_), None) => ChildResult::Failed,
        })
        .collect();
    join_results(parent_text, &results, level)
}

/// [`join`] of results that are cut out already.
///
/// # Errors
/// Those of [`join`].
pub fn join_results(parent_text: &str, results: &[ChildResult<'_>], level: usize) -> Result<String, GrammarError> {
    let block = SpawnBlock::at_end_of(parent_text)?;
    Ok(block.trunk.to_owned() + &block.joined(results, level)?)
}

/// The join block of [`join_results`] alone: what stands in place of the spawn block.
///
/// # Errors
/// Those of [`join`].
pub fn join_block(parent_text: &str, results: &[ChildResult<'_>], level: usize) -> Result<String, GrammarError> {
    SpawnBlock::at_end_of(parent_text)?.joined(results, level)
}

/// What a finished thread found: what follows the second-to-last mention of the goal, trimmed; `None` without two.
pub fn search_result(text: &str) -> Option<&str> {
    // Trims what Python's `str.strip` does.
    let blank = |c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c);
    summary(text).map(|rest| rest.trim_matches(blank))
}

/// The steps that a claimed solution names, as far as they can be read. Whether they hold is not asked.
pub fn claimed_steps(claim: &str) -> Vec<Step> {
    let step = |line| match Line::parse(line) {
        Some(Line::Explore { step, .. }) => Some(step),
        _ => None,
    };
    claim.split('\n').filter_map(step).collect()
}

/// All that follows the second-to-last mention of the goal.
pub(crate) fn summary(text: &str) -> Option<&str> {
    let mut mentions = text.rmatch_indices(GOAL);
    mentions.next()?;
    let (at, _) = mentions.next()?;
    Some(&text[at + GOAL.len()..])
}
