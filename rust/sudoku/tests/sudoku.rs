//! The solver against a slow twin, streams, the teacher's searches by their own words, verdicts and hostile text.

use apr_sudoku::check::{Reason, check, check_child, vote};
use apr_sudoku::fault::{Fault, first_fault};
use apr_sudoku::inspect::{Inspection, inspect};
use apr_sudoku::lesson::LessonPlan;
use apr_sudoku::sample::{ProblemSpace, Split};
use apr_sudoku::search::{Method, Part, Search, search};
use apr_sudoku::solve::solutions;
use apr_sudoku::{Error, Grid, Problem, text};
use proptest::prelude::*;

fn space(split: Split, plain: f64) -> ProblemSpace {
    ProblemSpace { split, givens: vec![4, 5, 6, 7, 8], plain }
}

fn problems(plain: f64) -> impl Iterator<Item = Problem> {
    (0..150).map(move |item| space(Split::Train, plain).get(3, item).unwrap())
}

/// All completions, cell by cell.
fn slow(cells: &mut [u8; 16], from: usize, found: &mut Vec<[u8; 16]>) {
    let groups = |cell: usize| [cell / 4, 4 + cell % 4, 8 + cell / 8 * 2 + cell % 4 / 2];
    let clash = |cells: &[u8; 16], a: usize, b: usize| {
        a != b && cells[a] != 0 && cells[a] == cells[b] && groups(a).iter().zip(groups(b)).any(|(&x, y)| x == y)
    };
    if (0..16).any(|a| (0..16).any(|b| clash(cells, a, b))) {
        return;
    }
    match (from..16).find(|&cell| cells[cell] == 0) {
        None => found.push(*cells),
        Some(cell) => {
            for digit in 1..=4 {
                cells[cell] = digit;
                slow(cells, cell + 1, found);
            }
            cells[cell] = 0;
        }
    }
}

#[test]
fn there_are_288_full_grids() {
    assert_eq!(solutions(Grid::default(), usize::MAX).len(), 288);
}

proptest! {
    #[test]
    fn the_solver_is_its_twin(mut cells in prop::array::uniform16(0..=4u8), kept in any::<u16>()) {
        for (place, cell) in cells.iter_mut().enumerate() {
            *cell *= u8::from(kept >> place & 1 == 1);
        }
        let mut quick: Vec<_> = solutions(Grid::new(cells).unwrap(), usize::MAX).iter().map(|g| *g.cells()).collect();
        quick.sort_unstable();
        let mut twin = Vec::new();
        slow(&mut cells, 0, &mut twin);
        twin.sort_unstable();
        prop_assert_eq!(quick, twin);
    }

    #[test]
    fn a_line_is_read_as_written(cells in prop::array::uniform16(0..=4u8)) {
        let grid = Grid::new(cells).unwrap();
        prop_assert_eq!(text::read_grid(&text::grid(&grid)), Some(grid));
        prop_assert_eq!(text::first_grid(&text::attempt(5, 2, &grid)), Some(grid));
    }

    #[test]
    fn any_text_gets_a_verdict(prompt in any::<String>(), answer in any::<String>(), near in "[a-d1-4.=?wxyz sum\n-]{0,60}") {
        let problem = space(Split::Val, 0.0).get(1, 1).unwrap();
        for text in [&answer, &near] {
            let _ = (check(&problem, Some(text)), check_child(&problem, &prompt, text), vote(text));
            let _ = (inspect(&prompt, text), inspect(&text::prompt(&problem, None), text), text::label(text));
            let _ = (text::read_prompt(text), text::first_grid(text), inspect(text, &near));
        }
    }
}

#[test]
fn problems_have_one_solution_and_their_split() {
    for split in [Split::Train, Split::Val, Split::Test] {
        for item in 0..60 {
            for plain in [0.0, 1.0] {
                let problem = space(split, plain).get(9, item).unwrap();
                assert_eq!(Split::of(&problem.grid()), split);
                assert_eq!(problem, space(split, plain).get(9, item).unwrap());
                let sum = problem.sum();
                let found = solutions(problem.grid(), 9);
                assert_eq!(found.len() == 1, sum.is_none(), "a sum is there to choose by");
                assert_eq!(found.iter().filter(|grid| sum.is_none_or(|sum| sum == grid.sum())).count(), 1);
            }
        }
    }
}

#[test]
fn a_split_is_the_same_for_other_digits() {
    let renamed = |grid: &Grid| Grid::new(grid.cells().map(|digit| [0, 3, 1, 4, 2][usize::from(digit)])).unwrap();
    for problem in problems(0.0) {
        assert_eq!(Split::of(&renamed(&problem.grid())), Split::of(&problem.grid()));
    }
}

/// The thread's lines.
fn lines(search: &Search) -> String {
    search.parts.iter().map(|part| if let Part::Line(line, _) = part { line } else { "" }).collect()
}

fn children(search: &Search) -> Vec<&Search> {
    search.parts.iter().flat_map(|part| if let Part::Children(all) = part { &all[..] } else { &[] }).collect()
}

/// Holds a thread against its own words.
fn hold(search: &Search) -> Inspection {
    let found = inspect(&search.prompt, &lines(search));
    let faults = Inspection {
        cells: found.cells,
        grids: found.grids,
        sums: found.sums,
        picks: found.picks,
        tries: found.tries,
        ..Inspection::default()
    };
    assert_eq!(found, faults, "{search:?}");
    found
}

#[test]
fn searches_find_the_solution_and_write_nothing_wrong() {
    for problem in problems(0.3) {
        let serial = search(&problem, Method::Serial, None);
        assert_eq!(serial.answer, Some(problem.solution()));
        assert!(children(&serial).is_empty());
        assert_eq!(hold(&serial).tries > 0, problem.sum().is_some());
        for budget in [None, Some(0), Some(1), Some(2), Some(9)] {
            let main = search(&problem, Method::Threads, budget);
            hold(&main);
            assert_eq!(text::read_prompt(&main.prompt), Ok((problem, budget)));
            assert_eq!(main.answer, Some(problem.solution()));
            let spawned = children(&main);
            assert!(budget.is_none_or(|budget| spawned.len() <= budget as usize));
            assert_eq!(spawned.is_empty(), problem.sum().is_none() || budget == Some(0));
            for child in spawned {
                hold(child);
                assert!(children(child).is_empty());
                let hopeful = problem.solution().keeps(&text::first_grid(&child.prompt).unwrap());
                assert_eq!(child.answer, hopeful.then(|| problem.solution()));
            }
        }
    }
}

#[test]
fn threads_are_short() {
    let plan = |method| LessonPlan { method, space: space(Split::Train, 0.2), budgets: vec![0, 1, 2], budgeted: 0.4 };
    let length = |search: &Search| search.prompt.len() + lines(search).len();
    let mut lengths = Vec::new();
    for item in 0..500 {
        let main = plan(Method::Threads).get(1, item).unwrap();
        lengths.extend(children(&main).iter().map(|child| length(child)));
        lengths.push(length(&main));
        assert!(length(&plan(Method::Serial).get(1, item).unwrap()) < 1500);
    }
    assert!(lengths.iter().sum::<usize>() < 400 * lengths.len());
}

#[test]
fn every_reason_has_its_case() {
    let grid = text::read_grid("123./3412/2143/4321").unwrap();
    let problem = Problem::new(grid, Some(10)).unwrap();
    let reason = |answer: &str| check(&problem, Some(answer)).err().unwrap_or(Reason::Solved);
    assert_eq!(reason("a1234b3412c2143d4321"), Reason::Solved);
    assert_eq!(reason("1 2 3 4\n3 4 1 2\n2 1 4 3\n4 3 2 1\n"), Reason::Solved);
    assert_eq!(check(&problem, None), Err(Reason::NoAnswer));
    for text in ["", "1234", "a1234b3412c2143d43211", "b1234a3412c2143d4321", "aa1234b3412c2143d4321", "x", "1234é"] {
        assert_eq!(reason(text), Reason::NoGrid, "{text}");
    }
    assert_eq!(reason("a1234b3412c2143d432."), Reason::Empty);
    assert_eq!(reason("a1234b3412c2143d4312"), Reason::GivenChanged);
    assert_eq!(reason("a1233b3412c2143d4321"), Reason::Clash);
    assert_eq!(check_child(&problem, "aw=1", "a1234b3412c2143d4321"), Err(Reason::NoPrompt));
}

#[test]
fn what_is_no_problem_is_refused() {
    let several = text::read_problem("1234/3412/..../....");
    assert_eq!(several, Err(Error::Solutions("several")));
    assert_eq!(text::read_problem("11../..../..../...."), Err(Error::Solutions("none")));
    assert_eq!(text::read_problem("1234/3412/2143/4321 sum=9"), Err(Error::Solutions("none")));
    assert_eq!(text::read_problem("1234/3412/2143/4321 sum=17"), Err(Error::NoSum));
    assert_eq!(text::read_problem("1234/3412/2143"), Err(Error::NoGrid));
    assert_eq!(text::read_prompt("children: x\n1234/3412/2143/4321"), Err(Error::NoBudget));
    assert!(matches!(ProblemSpace { givens: vec![3], ..space(Split::Val, 0.0) }.get(0, 0), Err(Error::Parameter(_))));
}

#[test]
fn another_sum_is_wrong() {
    for problem in problems(0.0) {
        let others = solutions(problem.grid(), 9).into_iter().filter(|grid| *grid != problem.solution());
        for other in others {
            assert_eq!(check(&problem, Some(&text::grid(&other))), Err(Reason::WrongSum));
        }
    }
}

#[test]
fn faults_are_counted_where_they_are() {
    let prompt = "a1...b.4..c..1.d...4 sum=10";
    let count = |line: &str| inspect(prompt, line);
    assert_eq!(count("what?").unreadable, 1);
    assert_eq!(count("aw12").wrong_candidates, 1);
    assert_eq!(count("ax23").short_scans, 1);
    assert_eq!(count("ax23").wrong_candidates, 0);
    assert_eq!(count("a1234b3412c2143d4321").wrong_grids, 1);
    assert_eq!(count("bx=4 a1...b.4..c..1.d...4").wrong_tries, 1);
    assert_eq!(count("sum 1 5 6 11").wrong_sums, 1);
    assert_eq!(count("<result>what</result>"), Inspection::default());
}

/// Every thread of a search as a whole text: its prompt, its lines, and what a language puts behind them.
fn texts(search: &Search) -> Vec<String> {
    let end = search.answer.map_or(String::new(), |grid| format!("<answer>{}</answer>", text::grid(&grid)));
    let children = children(search);
    let written = match search.parts.iter().position(|part| matches!(part, Part::Children(_))) {
        None => lines(search) + &end,
        Some(spawn) => lines(&Search { parts: search.parts[..spawn].to_vec(), ..search.clone() }) + "<spawn>\n<child>",
    };
    let own = format!("{}\n{written}", search.prompt);
    std::iter::once(own).chain(children.into_iter().flat_map(texts)).collect()
}

#[test]
fn a_fault_is_where_a_thread_leaves_the_teacher_s_way() {
    let mut changed = 0;
    for (method, budget) in [(Method::Serial, None), (Method::Threads, None), (Method::Threads, Some(1))] {
        for problem in problems(0.2).take(40) {
            for whole in texts(&search(&problem, method, budget)) {
                assert_eq!(first_fault(&whole, method), None, "{whole}");
                let budget_lines = usize::from(whole.starts_with(text::BUDGET));
                let begin = whole.match_indices('\n').nth(budget_lines).unwrap().0 + 1;
                let end = whole.find('<').unwrap_or(whole.len());
                for at in (begin..end).step_by(5) {
                    assert_eq!(first_fault(&whole[..at], method), None, "cut off");
                    let wrong = format!("{}x{}", &whole[..at], &whole[at + 1..]);
                    if wrong != whole {
                        let line = &whole[at..=at + whole[at..].find('\n').unwrap()];
                        let right = Some(line.to_owned());
                        assert_eq!(first_fault(&wrong, method), Some(Fault { at, right }), "{wrong}");
                        changed += 1;
                    }
                }
                // A line more is wrong where a thread ends, and not where it may spawn.
                let more = format!("{}?aw12\n", &whole[..end]);
                let fault = (!whole.contains("<spawn>")).then_some(Fault { at: end, right: None });
                assert_eq!(first_fault(&more, method), fault, "{more}");
                assert_eq!(first_fault(&format!("{}[end]", &whole[..end]), method), None, "another language's mark");
            }
        }
    }
    assert!(changed > 1000);
}

#[test]
fn an_answer_that_comes_too_early_is_a_fault() {
    let text = "a...1b...3c1432d..14 sum=10\naw234 ax23 ay24 bw24 bx12 by24 dw23 dx23\n?ax23\nax=2 a.2.1b...3c1432d..14\n\
        aw34 ay=4 bw=4 bx=1 by=2 dw23 dx=3\na.241b4123c1432d.314\naw=3 dw=2\na3241b4123c1432d2314\nsum 3 4 7 11\n";
    let found = first_fault(&format!("{text}<answer>a3241b4123c1432d2314</answer>"), Method::Serial);
    assert_eq!(found, Some(Fault { at: text.len(), right: Some("?ax3\n".to_owned()) }));
    assert_eq!(first_fault("no problem\n?aw12\n", Method::Serial), None);
    assert_eq!(first_fault("", Method::Serial), None);
}

#[test]
fn hostile_texts_take_linear_time() {
    let problem = space(Split::Val, 0.0).get(1, 1).unwrap();
    let prompt = text::prompt(&problem, None);
    for piece in ["?aw12 ", "aw12 ", "a1...b....c....d....\n", " ", "\n", "aw=1 a1", "sum 1", "é", "?aw12\n"] {
        let long = piece.repeat(400_000);
        let _ = (check(&problem, Some(&long)), check_child(&problem, &long, &long), vote(&long));
        let _ = (inspect(&prompt, &long), text::read_prompt(&long), text::label(&long));
        let _ = (first_fault(&long, Method::Serial), first_fault(&format!("{prompt}\n{long}"), Method::Threads));
    }
}
