//! Samples of teacher traces: what carries loss, what does not, and that nothing is lost.

#![allow(missing_docs)]

use std::collections::{HashSet, VecDeque};

use apr_countdown::arithmetic::combine;
use apr_countdown::cost::cost;
use apr_countdown::heuristic::Heuristic;
use apr_countdown::lesson::{LessonPlan, LessonStream, Sample, Teacher, TraceItem, TraceStream, thread_samples};
use apr_countdown::sample::ProblemSpace;
use apr_countdown::search::{Below, Guide, Method, Ranking, Trace, Waves};
use apr_countdown::tokens::{BOS, EOS, Tokenizer};
use apr_countdown::trace::read::Line;
use apr_countdown::trace::{CHILD_BUDGET, END_JOIN, END_SPAWN, JOIN, SPAWN, TOKEN_BUDGET};
use apr_countdown::{Error, Op, Step};

fn space(min_numbers: usize, max_numbers: usize) -> ProblemSpace {
    ProblemSpace { min_numbers, max_numbers, ..ProblemSpace::default() }
}

fn apr(promising: f64) -> TraceStream {
    conditioned_apr(promising, 1.0)
}

fn conditioned_apr(promising: f64, conditioned: f64) -> TraceStream {
    let teacher = Teacher::Apr { beam_size: (2, 5), child_beam_size: (2, 6), promising };
    TraceStream::new(&space(3, 5), teacher, Heuristic::Mult.into(), conditioned, 1).expect("a stream")
}

fn sos_plus() -> TraceStream {
    let teacher = Teacher::SosPlus { beam_size: (1, 4), promising: 0.5 };
    TraceStream::new(&space(4, 4), teacher, Heuristic::Mult.into(), 1.0, 2).expect("a stream")
}

fn plan() -> LessonPlan {
    LessonPlan { children: 3, children_above: None, cancelled: 0.0, max_tokens: 100_000 }
}

/// The tokens of a sample with this mask, as text without begin and end.
fn masked(tokenizer: &Tokenizer, sample: &Sample, written: bool) -> String {
    let ids = sample.token_ids.iter().zip(&sample.loss_mask);
    let ids: Vec<u32> = ids.filter(|(_, mask)| **mask == written).map(|(&id, _)| id).collect();
    tokenizer.decode(&ids, true).expect("ids of the vocabulary")
}

/// What is given to the model in each text of a thread, and what it writes itself.
fn given_and_written(thread: &Trace) -> Vec<(String, String)> {
    let state_end = |text: &str| {
        let state = text.find("Current State: ").expect("a state");
        state + text[state..].find('\n').expect("a line end")
    };
    let mut parts = Vec::new();
    for (round, text) in thread.main_calls.iter().enumerate() {
        let given = match round {
            0 => state_end(text),
            _ => {
                let before = &thread.main_calls[round - 1];
                let trunk = before.rfind(SPAWN).expect("a spawn block");
                assert!(text[trunk..].starts_with(JOIN) && text[..trunk] == before[..trunk]);
                trunk + text[trunk..].find(END_JOIN).expect("a join block") + END_JOIN.len()
            }
        };
        parts.push((text[..given].to_owned(), text[given..].to_owned()));
    }
    parts
}

fn assert_samples(thread: &Trace, condition: Option<&str>, tokenizer: &Tokenizer) {
    let samples = thread_samples(thread, condition, false, tokenizer);
    let parts = given_and_written(thread);
    assert_eq!(samples.len(), parts.len());
    let head = condition.unwrap_or("");
    for (round, (sample, (given, written))) in samples.iter().zip(&parts).enumerate() {
        assert_eq!(sample.token_ids.len(), sample.loss_mask.len());
        assert_eq!((Some(sample.token_ids[0]), sample.loss_mask[0]), (tokenizer.id(BOS), false));
        assert_eq!(masked(tokenizer, sample, false), format!("{head}{given}"));
        assert_eq!(masked(tokenizer, sample, true), *written);
        let whole = tokenizer.decode(&sample.token_ids, true).unwrap();
        assert_eq!(whole, format!("{head}{}", thread.main_calls[round]));
        // Once loss begins it does not end.
        assert!(sample.loss_mask.is_sorted());
        assert_eq!(sample.loss_mask.last(), Some(&true));
        let last = sample.token_ids.last().copied();
        let ends = sample.token_ids.iter().filter(|&&id| Some(id) == tokenizer.id(EOS)).count();
        if round + 1 < parts.len() {
            assert_eq!((last, ends), (tokenizer.id(END_SPAWN), 0));
        } else {
            assert_eq!((last, ends), (tokenizer.id(EOS), 1));
        }
    }
}

#[test]
fn loss_is_on_what_the_model_writes_itself() {
    let tokenizer = Tokenizer::default();
    let mut rounds = HashSet::new();
    for traces in [apr(0.9), apr(0.2), sos_plus()] {
        for i in 0..80 {
            let TraceItem { trace, condition, .. } = traces.get(i).expect("a trace");
            rounds.insert(trace.children.len());
            assert_samples(&trace, None, &tokenizer);
            assert_samples(&trace, condition.as_deref(), &tokenizer);
            for child in trace.children.iter().flatten() {
                assert_samples(child, None, &tokenizer);
            }
        }
    }
    assert!(rounds.contains(&0) && rounds.contains(&1) && rounds.len() > 2, "{rounds:?}");
}

#[test]
fn conditions_count_children_or_tokens() {
    for i in 0..20 {
        let TraceItem { trace, condition, .. } = apr(0.9).get(i).expect("a trace");
        let children: usize = trace.children.iter().map(Vec::len).sum();
        assert_eq!(condition, Some(format!("{CHILD_BUDGET}{children} ")));
        let written = sos_plus().get(i).expect("a trace").condition.expect("a condition");
        let budget = written.strip_prefix(TOKEN_BUDGET).and_then(|rest| rest.strip_suffix(' '));
        let budget: usize = budget.expect("a token budget").parse().expect("a number");
        assert!(budget.is_multiple_of(512) && budget > 0);
    }
}

#[test]
fn an_item_does_not_depend_on_the_order_of_asking() {
    let lessons = LessonStream::new(vec![(1.0, apr(0.9)), (3.0, sos_plus())], plan(), 5).expect("a stream");
    let forward: Vec<_> = (0..30).map(|i| lessons.get(i).unwrap()).collect();
    for i in (0..30).rev() {
        assert_eq!(lessons.get(i).unwrap(), forward[i as usize]);
        assert_eq!(apr(0.9).get(i).unwrap(), apr(0.9).get(i).unwrap());
    }
    let other = LessonStream::new(vec![(1.0, apr(0.9)), (3.0, sos_plus())], plan(), 6).expect("a stream");
    assert!((0..30).any(|i| other.get(i).unwrap() != forward[i as usize]));
}

/// The lesson of a trace alone; which of its parts are there is up to the plan.
fn lesson(traces: TraceStream, plan: LessonPlan, item: u64) -> Vec<String> {
    let tokenizer = Tokenizer::default();
    let samples = LessonStream::new(vec![(1.0, traces)], plan, 5).expect("a stream").get(item).expect("a lesson");
    samples.iter().map(|sample| tokenizer.decode(&sample.token_ids, true).unwrap()).collect()
}

#[test]
fn a_lesson_holds_the_main_thread_and_some_children() {
    for i in 0..40 {
        let TraceItem { trace, condition, .. } = apr(0.9).get(i).expect("a trace");
        let head = condition.expect("a condition");
        for (conditioned, head) in [(0.0, ""), (1.0, head.as_str())] {
            let texts = lesson(conditioned_apr(0.9, conditioned), plan(), i);
            let mains: Vec<String> = trace.main_calls.iter().map(|text| format!("{head}{text}")).collect();
            assert_eq!(texts[..mains.len()], mains);
            let children = &texts[mains.len()..];
            let all: Vec<&Trace> = trace.children.iter().flatten().collect();
            assert_eq!(children.len(), all.len().min(3));
            assert!(children.iter().all(|text| all.iter().any(|child| child.text() == text)));
            let solved = |text: &String| all.iter().any(|child| child.solved && child.text() == text);
            let expected = all.iter().filter(|child| child.solved).count().min(3);
            assert_eq!(children.iter().filter(|text| solved(text)).count(), expected);
        }
    }
}

#[test]
fn samples_that_are_too_long_are_left_out_whole() {
    let all = LessonPlan { children: 100, ..plan() };
    let tokenizer = Tokenizer::default();
    let mut left_out = 0;
    for i in 0..20 {
        let whole = lesson(apr(0.9), all.clone(), i);
        let short = lesson(apr(0.9), LessonPlan { max_tokens: 800, ..all.clone() }, i);
        // A thread that ends has a begin and an end token besides its text, one that spawns a begin token.
        let tokens = |text: &String| tokenizer.encode(text).len() + if text.ends_with(END_SPAWN) { 1 } else { 2 };
        let expected: Vec<&String> = whole.iter().filter(|text| tokens(text) <= 800).collect();
        assert_eq!(short.iter().collect::<Vec<_>>(), expected);
        left_out += whole.len() - short.len();
    }
    assert!(left_out > 0);
}

#[test]
fn losers_of_a_cancelled_join_leave_a_mark_and_no_summary() {
    let tokenizer = Tokenizer::default();
    let mut cancelled = 0;
    for i in 0..150 {
        let TraceItem { trace, .. } = apr(0.9).get(i).expect("a trace");
        let plain = thread_samples(&trace, None, false, &tokenizer);
        let changed = thread_samples(&trace, None, true, &tokenizer);
        assert_eq!(plain.len(), changed.len());
        for (round, (plain, changed)) in plain.iter().zip(&changed).enumerate() {
            assert_eq!(masked(&tokenizer, plain, true), masked(&tokenizer, changed, true));
            if plain == changed {
                continue;
            }
            assert!(trace.solved && round + 1 == trace.main_calls.len());
            let children = &trace.children[round - 1];
            let winner = children.iter().position(|child| child.solved).expect("a winner");
            let won_at = children[winner].text().len();
            let text = tokenizer.decode(&changed.token_ids, true).unwrap();
            let start = given_and_written(&trace)[round].0.rfind(JOIN).expect("a join block");
            let block = &text[start..start + text[start..].find(END_JOIN).unwrap()];
            let mut results = Vec::new();
            for line in text.lines() {
                Line::parse(line).unwrap_or_else(|| panic!("not in the grammar: {line}"));
            }
            let mut summary_of = None;
            for line in block.lines().skip(1) {
                summary_of = match Line::parse(line).expect("a line of the grammar") {
                    Line::ChildFailed { index, .. } => Some((index, "failed")),
                    Line::ChildSolved { index, .. } => Some((index, "solved")),
                    Line::ChildCancelled { index, .. } => Some((index, "cancelled")),
                    _ => {
                        assert_eq!(summary_of, Some((winner, "solved")), "{line}");
                        continue;
                    }
                };
                results.extend(summary_of);
            }
            let expected = children.iter().enumerate().map(|(index, child)| match child {
                _ if index == winner => (index, "solved"),
                child if child.text().len() > won_at => (index, "cancelled"),
                _ => (index, "failed"),
            });
            assert_eq!(results, expected.collect::<Vec<_>>());
            cancelled += 1;
        }
    }
    assert!(cancelled > 20, "{cancelled}");
}

#[test]
fn plans_that_make_no_sense_are_errors() {
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(LessonStream::new(vec![(weight, apr(0.9))], plan(), 0), Err(Error::Parameter(_))));
    }
    assert!(matches!(LessonStream::new(vec![], plan(), 0), Err(Error::Parameter(_))));
    let apr = |beam_size, child_beam_size| Teacher::Apr { beam_size, child_beam_size, promising: 0.5 };
    for teacher in [
        Teacher::SosPlus { beam_size: (0, 3), promising: 0.5 },
        Teacher::SosPlus { beam_size: (0, usize::MAX), promising: 0.5 },
        Teacher::SosPlus { beam_size: (3, 2), promising: 0.5 },
        apr((0, usize::MAX), (1, 5)),
        apr((1, 1), (0, 0)),
        apr((1, 1), (5, 4)),
    ] {
        assert!(matches!(
            TraceStream::new(&space(4, 4), teacher, Heuristic::Mult.into(), 1.0, 0),
            Err(Error::Parameter(_))
        ));
    }
}

/// Whether a state's children are shown in the order of the combine rule, sums last, whatever was left out.
fn shown_in_fixed_order(text: &str) -> bool {
    let mut generated: VecDeque<Step> = VecDeque::new();
    text.lines().all(|line| match Line::parse(line).expect("a line of the grammar") {
        Line::State(state) => {
            let numbers = &state.numbers;
            let pairs = (0..numbers.len()).flat_map(|i| (i + 1..numbers.len()).map(move |j| (i, j)));
            let steps: Vec<Step> = pairs.flat_map(|(i, j)| combine(numbers[i], numbers[j]).unwrap().to_vec()).collect();
            let (sums, rest): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(|step| step.op == Op::Add);
            generated = rest.into_iter().chain(sums).collect();
            true
        }
        Line::Explore { step, .. } => std::iter::from_fn(|| generated.pop_front()).any(|next| next == step),
        _ => true,
    })
}

/// Whether a thread moves to nodes in the order they were shown, those aside that it spawned.
fn visited_as_shown(text: &str) -> bool {
    let mut shown: VecDeque<String> = VecDeque::new();
    let (mut joining, mut summary) = (false, false);
    text.lines().enumerate().all(|(number, line)| match Line::parse(line).expect("a line of the grammar") {
        Line::Generated { id, .. } if !joining && !summary => {
            shown.push_back(id.to_owned());
            true
        }
        Line::Join | Line::EndJoin => {
            joining = !joining;
            true
        }
        Line::Goal { .. } if !joining => {
            summary = true;
            true
        }
        Line::SpawnChild { id, .. } | Line::ChildFailed { id, .. } | Line::ChildSolved { id, .. } => {
            let place = shown.iter().position(|other| other == id);
            place.and_then(|place| shown.remove(place)).is_some()
        }
        Line::Move { id } if number > 0 && !joining && !summary => shown.pop_front().as_deref() == Some(id),
        _ => true,
    })
}

#[test]
fn a_systematic_teacher_goes_in_one_fixed_order() {
    let teacher = Teacher::Apr { beam_size: (2, 5), child_beam_size: (2, 6), promising: 0.9 };
    let systematic = Guide { ranking: Ranking::SumsLast, ..Heuristic::Mult.into() };
    let systematic = TraceStream::new(&space(3, 5), teacher, systematic, 1.0, 1).expect("a stream");
    let mut shuffled = 0;
    for i in 0..60 {
        let TraceItem { problem, method, trace, .. } = systematic.get(i).expect("a trace");
        let other = apr(0.9).get(i).expect("a trace");
        assert_eq!((&problem, &method), (&other.problem, &other.method));
        for text in trace.main_calls.iter().chain(trace.children.iter().flatten().flat_map(|c| &c.main_calls)) {
            assert!(shown_in_fixed_order(text), "{text}");
            assert!(visited_as_shown(text), "{text}");
        }
        shuffled += usize::from(!shown_in_fixed_order(other.trace.text()));
    }
    assert!(shuffled > 30);
}

#[test]
fn a_teacher_leaves_out_results_that_are_too_large() {
    let teacher = Teacher::Apr { beam_size: (12, 12), child_beam_size: (12, 12), promising: 1.0 };
    let stream = |largest| {
        let guide = Guide { largest, ..Heuristic::Mult.into() };
        TraceStream::new(&space(4, 4), teacher.clone(), guide, 1.0, 1).expect("a stream")
    };
    let results = |trace: &Trace| -> Vec<i128> {
        let texts = trace.main_calls.iter().chain(trace.children.iter().flatten().flat_map(|c| &c.main_calls));
        let parsed = texts.flat_map(|text| text.lines()).map(|line| Line::parse(line).expect("a line of the grammar"));
        let tried = parsed.filter_map(|line| match line {
            Line::Explore { step, .. } => Some(step.result),
            _ => None,
        });
        tried.collect()
    };
    let mut larger = 0;
    for i in 0..20 {
        assert!(results(&stream(Some(200)).get(i).expect("a trace").trace).iter().all(|&result| result <= 200));
        larger += results(&stream(None).get(i).expect("a trace").trace).iter().filter(|&&result| result > 200).count();
    }
    assert!(larger > 20);
}

#[test]
fn widths_are_drawn_in_their_ranges() {
    let teacher = Teacher::Apr { beam_size: (2, 6), child_beam_size: (3, 5), promising: 0.9 };
    let traces = TraceStream::new(&space(3, 3), teacher, Heuristic::Mult.into(), 1.0, 1).expect("a stream");
    let mut seen = HashSet::new();
    for i in 0..200 {
        let Method::Apr { beam_size, child_beam_size, .. } = traces.get(i).expect("a trace").method else {
            panic!("another method");
        };
        assert!((2..=6).contains(&beam_size) && (3..=5).contains(&child_beam_size));
        assert!(child_beam_size >= beam_size.min(5));
        seen.insert((beam_size, child_beam_size));
    }
    assert!(seen.len() > 8, "{seen:?}");
}

fn in_waves(promising: f64, conditioned: f64) -> TraceStream {
    let (budget, sizes) = (Some((1, 12)), vec![1, 3, 4]);
    let teacher = Teacher::Waves { serial: false, budget, sizes, promising, child_beam_size: 40, shuffled: false };
    let guide = Guide { ranking: Ranking::Kinds, slack: Some(2), ..Heuristic::Mult.into() };
    TraceStream::new(&space(4, 4), teacher, guide, conditioned, 1).expect("a stream")
}

#[test]
fn a_budget_bounds_a_search_in_waves_and_without_one_it_goes_on() {
    let mut used_up = 0;
    for i in 0..60 {
        let item = in_waves(1.0, 1.0).get(i).expect("a trace");
        let children: usize = item.trace.children.iter().map(Vec::len).sum();
        let Method::Waves(Waves { below: Below::Children, budget: Some(budget), .. }) = item.method else {
            panic!("another search: {:?}", item.method);
        };
        assert_eq!(item.condition, Some(format!("{CHILD_BUDGET}{budget} ")));
        assert!(children <= budget && (item.trace.solved || children == budget));
        used_up += usize::from(!item.trace.solved);

        let free = in_waves(1.0, 0.0).get(i).expect("a trace");
        assert_eq!((free.problem, free.condition), (item.problem, None));
        assert!(free.trace.solved && matches!(free.method, Method::Waves(Waves { budget: None, .. })));

        let serial = in_waves(0.0, 1.0).get(i).expect("a trace");
        assert_eq!(serial.condition, Some(format!("{CHILD_BUDGET}0 ")));
        assert!(serial.trace.children.is_empty());
    }
    assert!(used_up > 5);
}

#[test]
fn problems_that_are_solved_too_soon_are_passed_over() {
    let (all, lasting) = (in_waves(1.0, 0.0), in_waves(1.0, 0.0).lasting(4));
    let mut sooner = 0;
    for i in 0..20 {
        let (any, found) = (all.get(i).expect("a trace"), lasting.get(i).expect("a trace"));
        assert_eq!(any.trace.waves, any.trace.children.len());
        assert!(found.trace.waves >= 4 && found.trace.children.len() == found.trace.waves);
        sooner += usize::from(any.trace.waves < 4);
        assert_eq!(any == found, any.trace.waves >= 4);
        assert_eq!(lasting.get(i), Ok(found));
    }
    assert!(sooner > 10);
    assert!(apr(0.5).lasting(1).get(0).is_err());
}

#[test]
fn lessons_of_waves_give_what_a_wave_found_and_teach_what_follows() {
    let tokenizer = Tokenizer::default();
    for i in 0..30 {
        assert_samples(&in_waves(1.0, 0.0).get(i).expect("a trace").trace, None, &tokenizer);
    }
}

#[test]
fn the_cost_of_a_trace_is_what_its_samples_teach() {
    let tokenizer = Tokenizer::default();
    for traces in [in_waves(1.0, 0.0), apr(0.5), sos_plus()] {
        for i in 0..20 {
            let trace = traces.get(i).expect("a trace").trace;
            let found = cost(&trace, &mut |text| tokenizer.encode(text).len());
            let rows = |thread: &Trace| thread_samples(thread, None, false, &tokenizer);
            let taught = |rows: &[Sample]| rows.iter().map(|row| row.loss_mask.iter().filter(|&&m| m).count()).sum();
            let longest = |rows: &[Sample]| rows.iter().map(|row| row.token_ids.len()).max().expect("a row");
            let main = rows(&trace);
            let children: Vec<Vec<Vec<Sample>>> =
                trace.children.iter().map(|round| round.iter().map(rows).collect()).collect();
            let own: usize = taught(&main);
            let all: usize = children.iter().flatten().map(|rows| taught(rows)).sum::<usize>() + own;
            let chain = children.iter().map(|round| round.iter().map(|rows| taught(rows)).max().unwrap_or(0));
            let context = children.iter().flatten().map(|rows| longest(rows)).chain([longest(&main)]).max();
            assert_eq!((found.total, found.sequential), (all, own + chain.sum::<usize>()));
            assert_eq!(Some(found.context), context);
        }
    }
}

/// What a child's state begins with.
fn begins_above(child: &Trace, number: i128) -> bool {
    let state = child.text().lines().find_map(|line| line.strip_prefix("Current State: ")).expect("a state");
    let list = state.split(['[', ']']).nth(1).expect("a list of numbers");
    list.split(", ").any(|n| n.parse::<i128>().expect("a number") > number)
}

#[test]
fn children_of_large_numbers_come_before_others_if_asked() {
    let large = LessonPlan { children_above: Some(100), ..plan() };
    let mut displaced = 0;
    for i in 0..40 {
        let trace = apr(0.9).get(i).expect("a trace").trace;
        let rank = |text: &&String| {
            let child = trace.children.iter().flatten().find(|child| child.text() == *text)?;
            Some((!child.solved, !begins_above(child, 100)))
        };
        let all: Vec<String> = trace.children.iter().flatten().map(|child| child.text().to_owned()).collect();
        let mut ranks: Vec<_> = all.iter().map(|text| rank(&text).unwrap()).collect();
        ranks.sort();
        ranks.truncate(3);
        let taught = lesson(apr(0.9), large.clone(), i);
        assert_eq!(taught.iter().filter_map(|text| rank(&text)).collect::<Vec<_>>(), ranks);
        displaced += usize::from(taught != lesson(apr(0.9), plan(), i));
    }
    assert!(displaced > 0);
}
