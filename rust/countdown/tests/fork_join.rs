//! Spawn blocks, child prompts and joins against the golden files; lines against the writer; hostile text.

mod common;

use apr_countdown::trace::read::{
    ChildHead, ChildOutcome, GrammarError, Line, child_prompts, is_spawn, join, join_results, search_result,
    spawn_requests,
};
use apr_countdown::trace::write::{ChildResult, Writer};
use common::{golden, number, numbers, text, texts};
use proptest::prelude::*;
use serde_json::Value;

fn child_head(row: &Value) -> ChildHead {
    let Some(budget) = row["budget"].as_u64() else {
        return ChildHead::Bare;
    };
    let budget = budget.try_into().unwrap();
    if row["avg_sub_call"] == true { ChildHead::SharedBudget(budget) } else { ChildHead::Budget(budget) }
}

#[test]
fn golden_spawns() {
    for row in golden("fork_join.jsonl.gz") {
        let parent = text(&row, "parent");
        assert_eq!(is_spawn(parent), row["is_spawn"], "{row}");
        let prompts = child_prompts(parent, child_head(&row));
        // The reference goes on without an opening line and then loses the parent's text.
        if row["error"].is_string() || row["kind"] == "no_open_line" {
            assert!(prompts.is_err(), "{row}");
            continue;
        }
        let prompts = prompts.unwrap_or_else(|error| panic!("{error}: {row}"));
        let expected: Vec<&str> = texts(&row, "child_prompts").into_iter().flatten().collect();
        assert_eq!(prompts, expected);

        let nodes = spawn_requests(parent).unwrap();
        let expected = row["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), expected.len());
        for ((id, state), node) in nodes.iter().zip(expected) {
            assert_eq!(format!("#{id}"), node[0]);
            assert_eq!(state.target, number(&node[1]));
            assert_eq!(state.numbers, node[2].as_array().unwrap().iter().map(number).collect::<Vec<_>>());
            let steps: Vec<String> = state.steps.iter().map(|step| step.to_string()).collect();
            assert_eq!(Value::from(steps), node[3]);
        }
    }
}

#[test]
fn golden_joins() {
    let mut from_texts = 0;
    for row in golden("fork_join.jsonl.gz") {
        let parent = text(&row, "parent");
        if row["error"].is_string() || row["kind"] == "no_open_line" {
            assert!(join(parent, &[], 1).is_err() || row["kind"] != "no_open_line", "{row}");
            continue;
        }
        let results = texts(&row, "results");
        let summaries: Vec<Option<String>> = results.iter().map(|text| text.map(|text| format!("{text}\n"))).collect();
        let results: Vec<ChildResult> =
            summaries.iter().map(|text| text.as_deref().map_or(ChildResult::Failed, ChildResult::Solved)).collect();
        assert_eq!(join_results(parent, &results, 1).unwrap(), text(&row, "joined"), "{row}");
        if row.get("child_texts").is_some_and(Value::is_array) {
            let children = texts(&row, "child_texts");
            let children: Vec<ChildOutcome> = children.into_iter().flatten().map(ChildOutcome::Finished).collect();
            assert_eq!(join(parent, &children, 1).unwrap(), text(&row, "joined"), "{row}");
            from_texts += 1;
        }
    }
    assert!(from_texts > 50, "{from_texts} rows have child texts");
}

#[test]
fn golden_results() {
    for row in golden("search_result.jsonl.gz") {
        assert_eq!(search_result(text(&row, "text")), row["result"].as_str(), "{row}");
    }
}

const PARENT: &str = "\
Moving to Node #0
Current State: 10:[2, 3, 4], Operations: []
Exploring Operation: 2*3=6, Resulting Numbers: [4, 6]
Generated Node #0,0: 10:[4, 6] Operation: 2*3=6
<Calling Sub Searches>
<Start Sub Search 0 at level 1> Moving to Node #0,0
<Start Sub Search 1 at level 1> Moving to Node #0,0
<End Calling Sub Searches>";

#[test]
fn equal_children_stay_two() {
    let prompts = child_prompts(PARENT, ChildHead::Bare).unwrap();
    assert_eq!(prompts, ["Moving to Node #0,0\nCurrent State: 10:[4, 6], Operations: ['2*3=6']"; 2]);
    let solved = "x Goal Reached\nMoving on\n10,10 equal: Goal Reached\n";
    let joined = join(PARENT, &[ChildOutcome::Finished("nothing"), ChildOutcome::Finished(solved)], 1).unwrap();
    let block = joined.split_once("<Sub Searches>\n").unwrap().1;
    assert_eq!(
        block,
        "<No Solution in Sub Search 0 at level 1 at Node #0,0>\n\
         <Goal Reached in Sub Search 1 at level 1 at Node #0,0>\n\
         Moving on\n10,10 equal: Goal Reached\n<End Sub Searches>\n"
    );
}

#[test]
fn a_cancelled_child_of_a_deeper_thread_says_so() {
    let joined = join(PARENT, &[ChildOutcome::Finished(""), ChildOutcome::Cancelled], 3).unwrap();
    assert!(joined.ends_with(
        "<No Solution in Sub Search 0 at level 3 at Node #0,0>\n\
         <Cancelled Sub Search 1 at level 3 at Node #0,0>\n<End Sub Searches>\n"
    ));
    assert_eq!(
        Line::parse("<Cancelled Sub Search 1 at level 3 at Node #0,0>"),
        Some(Line::ChildCancelled { index: 1, level: 3, id: "0,0" })
    );
}

#[test]
fn children_inherit_a_token_budget_only() {
    let with = |head: &str| child_prompts(&format!("{head}{PARENT}"), ChildHead::Inherited).unwrap().remove(0);
    assert!(with("Token Budget: 1024 ").starts_with("Token Budget: 1024 Moving to Node #0,0\n"));
    assert!(with("Sub Call Budget: 6 ").starts_with("Moving to Node #0,0\n"));
}

#[test]
fn garbage_is_an_error_with_its_line() {
    let error = |from: &str, to: &str| child_prompts(&PARENT.replacen(from, to, 1), ChildHead::Bare).unwrap_err();
    assert_eq!(error("<Calling Sub Searches>", "x <Calling Sub Searches>"), GrammarError::NoSpawnOpening);
    assert_eq!(error("[2, 3, 4]", "[2, 3, __import__('os')]"), GrammarError::Malformed { line: 2 });
    assert_eq!(error("[2, 3, 4]", "[2, 03, 4]"), GrammarError::Malformed { line: 2 });
    assert_eq!(error("[4, 6] Op", "[4,6] Op"), GrammarError::Malformed { line: 4 });
    assert_eq!(
        error("level 1> Moving to Node #0,0", "level 1> Moving to Node #0,٣"),
        GrammarError::Malformed { line: 6 }
    );
    let unknown = |line, id: &str| GrammarError::UnknownNode { line, id: id.into() };
    assert_eq!(error("level 1> Moving to Node #0,0", "level 1> Moving to Node #0,1"), unknown(6, "0,1"));
    assert_eq!(error("Generated Node #0,0", "Generated Node #0,7,0"), unknown(4, "0,7"));
    assert_eq!(child_prompts("", ChildHead::Bare), Err(GrammarError::NotASpawn));
    assert_eq!(
        join(PARENT, &[ChildOutcome::Cancelled; 3], 1),
        Err(GrammarError::TooManyResults { children: 2, results: 3 })
    );
}

/// Writes lines again; a tried step and its node, and the blocks, are written as the writer does: together.
fn rewrite(lines: &[Line]) -> String {
    let path = |id: &str| -> Vec<u16> { id.split(',').skip(1).map(|part| part.parse().unwrap()).collect() };
    let mut writer = Writer::default();
    let mut lines = lines.iter().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        match line {
            Line::State(state) => writer.state(state.target, &state.numbers, &state.steps),
            Line::Explore { step, numbers } => match lines.peek() {
                Some((_, Line::Generated { id, target, step: kept, numbers: left })) => {
                    assert_eq!((step, numbers), (kept, left), "line {at}");
                    writer.explore_and_keep(*target, step, numbers, &path(id));
                    lines.next();
                }
                _ => writer.explore(step, numbers),
            },
            Line::Dead { number, target } => writer.dead(*number, *target),
            Line::Goal { target } => writer.goal(*target),
            Line::Move { id } => writer.move_to(&path(id)),
            Line::Fail => writer.phrase("No solution found.\n"),
            Line::NothingInSubSearch => writer.phrase("No solution found in sub search\n"),
            Line::StartSubSearch { level, id } => writer.start_sub_search(*level, &path(id)),
            Line::ExitSubSearch { level } => writer.exit_sub_search(*level),
            Line::Spawn => {
                let mut paths = Vec::new();
                while let Some((_, Line::SpawnChild { level: 1, id, .. })) = lines.peek() {
                    paths.push(path(id));
                    lines.next();
                }
                assert_eq!(lines.next().map(|(_, line)| line), Some(&Line::EndSpawn));
                writer.spawn_block(1, paths.iter().map(Vec::as_slice));
            }
            Line::Join => {
                let mut results: Vec<(&str, Option<Vec<Line>>)> = Vec::new();
                loop {
                    match lines.next().expect("the end of the join block").1 {
                        Line::EndJoin => break,
                        Line::ChildFailed { id, .. } => results.push((id, None)),
                        Line::ChildSolved { id, .. } => results.push((id, Some(Vec::new()))),
                        line => results.last_mut().unwrap().1.as_mut().unwrap().push(line.clone()),
                    }
                }
                let results: Vec<(&str, Option<String>)> =
                    results.into_iter().map(|(id, summary)| (id, summary.map(|lines| rewrite(&lines)))).collect();
                let results = results
                    .iter()
                    .map(|(id, summary)| (*id, summary.as_deref().map_or(ChildResult::Failed, ChildResult::Solved)));
                writer.join_block(1, results);
            }
            line => panic!("{line:?} outside its block"),
        }
    }
    writer.into_string()
}

fn round_trip(text: &str) {
    let lines: Vec<Line> =
        text.lines().map(|line| Line::parse(line).unwrap_or_else(|| panic!("not in the grammar: {line}"))).collect();
    assert_eq!(rewrite(&lines), text);
}

#[test]
fn every_line_of_a_teacher_reads_and_writes_back() {
    for row in golden("sosp_traces.jsonl.gz") {
        round_trip(text(&row, "trace"));
    }
    for row in golden("apr_traces.jsonl.gz") {
        let trace = &row["trace_dict"];
        for main in texts(trace, "main_calls").into_iter().flatten() {
            round_trip(main);
        }
        for child in trace["sub_calls"].as_array().unwrap().iter().flat_map(|round| round.as_array().unwrap()) {
            texts(child, "main_calls").into_iter().flatten().for_each(round_trip);
        }
        assert!(!numbers(&row, "nums").is_empty());
    }
}

fn read_everything(text: &str) {
    is_spawn(text);
    let prompts = child_prompts(text, ChildHead::SharedBudget(u32::MAX));
    let joined = join(text, &[ChildOutcome::Finished(text)], 1);
    if let Ok(prompts) = prompts
        && !prompts.is_empty()
    {
        joined.expect("a text that spawns can be joined");
    }
    search_result(text);
    text.lines().for_each(|line| drop(Line::parse(line)));
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in ".*", block in "\\PC*") {
        read_everything(&text);
        read_everything(&format!("{text}\n<Calling Sub Searches>\n{block}\n<End Calling Sub Searches>"));
    }

    #[test]
    fn mutated_parents_are_read_without_a_panic(
        cuts in prop::collection::vec((0..2000usize, 0..40usize, "\\PC{0,2}|[\n0-9,\\[\\]#:' ]{0,4}"), 1..4),
        row in 0..50usize,
    ) {
        let rows = golden_parents();
        let mut parent: Vec<char> = rows[row % rows.len()].chars().collect();
        for (at, len, junk) in cuts {
            let at = at % parent.len();
            let end = (at + len).min(parent.len());
            parent.splice(at..end, junk.chars());
            if parent.is_empty() {
                break;
            }
        }
        read_everything(&parent.into_iter().collect::<String>());
    }
}

fn golden_parents() -> &'static [String] {
    static PARENTS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    PARENTS.get_or_init(|| {
        golden("fork_join.jsonl.gz").iter().rev().take(50).map(|row| text(row, "parent").into()).collect()
    })
}
