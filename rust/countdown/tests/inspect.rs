//! Teachers make no mistakes; each kind of mistake is counted where it is made, and once.

use apr_countdown::heuristic::Heuristic;
use apr_countdown::inspect::{
    Fault, Inspection, Wrong, choices, decisions, faults, first_node, first_state, first_width, follows, inspect,
};
use apr_countdown::sample::Random;
use apr_countdown::search::{Guide, Method, Ranking, Trace, search};
use apr_countdown::{Number, Problem};
use proptest::prelude::*;

fn faultless(text: &str) -> Inspection {
    let found = inspect(text);
    let faults = [
        found.unreadable,
        found.wrong_results,
        found.invented_numbers,
        found.wrong_numbers,
        found.wrong_states,
        found.wrong_verdicts,
        found.wrong_trials,
    ];
    assert_eq!(faults, [0; 7], "{found:?}\n{text}");
    found
}

fn all_texts(trace: &Trace) -> Vec<&str> {
    let own = trace.main_calls.iter().map(String::as_str);
    own.chain(trace.children.iter().flatten().flat_map(all_texts)).collect()
}

#[test]
fn teachers_make_no_mistakes() {
    let methods = [
        Method::Apr { beam_size: 5, child_beam_size: 8, promising: 0.9 },
        Method::SosPlus { beam_size: 4, promising: 0.5 },
        Method::SosBfs { beam_size: 4 },
        Method::SosDfs { beam_size: 3 },
    ];
    let mut all = Inspection::default();
    for item in 0..40 {
        let numbers: Vec<i128> = (0..4).map(|k| 1 + (item * 37 + k * 29) % 99).collect();
        let problem = Problem::new(numbers, 10 + item % 90).unwrap();
        for method in &methods {
            let trace = search(&problem, method, Heuristic::Mult, &mut Random::new(1, 1, item as u64)).unwrap();
            for text in all_texts(&trace) {
                for head in ["", "Sub Call Budget: 5 ", "Token Budget: 512 "] {
                    let found = faultless(&format!("{head}{text}"));
                    assert_eq!(found, inspect(text));
                    all.steps += found.steps;
                    all.states += found.states;
                    all.verdicts += found.verdicts;
                }
                let first = text.lines().find(|line| line.starts_with("Current State")).unwrap();
                let (target, numbers) = first_state(text).unwrap();
                assert!(first.starts_with(&format!("Current State: {target}:{numbers:?}")));
            }
        }
    }
    assert!(all.steps > 10_000 && all.states > 1000 && all.verdicts > 1000, "{all:?}");
}

const TEXT: &str = "\
Moving to Node #0
Current State: 10:[2, 3, 4], Operations: []
Exploring Operation: 2*3=6, Resulting Numbers: [4, 6]
Generated Node #0,0: 10:[4, 6] Operation: 2*3=6
Exploring Operation: 2+3=5, Resulting Numbers: [4, 5]
Generated Node #0,1: 10:[4, 5] Operation: 2+3=5
Moving to Node #0,0
Current State: 10:[4, 6], Operations: ['2*3=6']
Exploring Operation: 6-4=2, Resulting Numbers: [2]
2,10 unequal: No Solution
Exploring Operation: 4+6=10, Resulting Numbers: [10]
10,10 equal: Goal Reached
";

#[test]
fn counts_of_a_text() {
    let found = faultless(TEXT);
    assert_eq!(found, Inspection { steps: 4, states: 1, verdicts: 2, ..Inspection::default() });
}

#[test]
fn widths_are_those_of_the_first_state() {
    assert_eq!(first_width(TEXT), 2);
    assert_eq!(first_width(""), 0);
    let problem = Problem::new(vec![22, 26, 31, 53], 27).unwrap();
    for beam_size in 1..9 {
        for method in [
            Method::Apr { beam_size, child_beam_size: 3, promising: 1.0 },
            Method::SosPlus { beam_size, promising: 0.5 },
        ] {
            let trace = search(&problem, &method, Heuristic::Mult, &mut Random::new(1, 1, 0)).unwrap();
            assert_eq!(first_width(trace.main_calls.last().unwrap()), beam_size);
        }
    }
}

fn changed(from: &str, to: &str) -> Inspection {
    assert_eq!(TEXT.matches(from).count(), 1);
    let found = inspect(&TEXT.replace(from, to));
    let sound = inspect(TEXT);
    Inspection {
        steps: found.steps - sound.steps,
        states: found.states - sound.states,
        verdicts: found.verdicts - sound.verdicts,
        ..found
    }
}

#[test]
fn each_mistake_is_counted_once() {
    let none = Inspection::default();
    assert_eq!(changed("6-4=2, Resulting Numbers: [2]\n2,10", "6-4=3, Resulting Numbers: [3]\n3,10").wrong_results, 1);
    assert_eq!(
        changed("2+3=5, Resulting Numbers: [4, 5]\n", "2+7=9, Resulting Numbers: [4, 9]\n"),
        Inspection { invented_numbers: 1, wrong_numbers: 1, ..none }
    );
    assert_eq!(
        changed("6-4=2, Resulting Numbers: [2]", "6-4=2, Resulting Numbers: [4, 2]"),
        Inspection { wrong_numbers: 1, wrong_verdicts: 1, ..none }
    );
    assert_eq!(
        changed("#0,1: 10:[4, 5] Operation", "#0,1: 10:[5, 4] Operation"),
        Inspection { wrong_numbers: 1, ..none }
    );
    for state in ["11:[4, 6], Operations: ['2*3=6']", "10:[4, 7], Operations: ['2*3=6']", "10:[4, 6], Operations: []"] {
        assert_eq!(changed("10:[4, 6], Operations: ['2*3=6']", state).wrong_states, 1, "{state}");
    }
    assert_eq!(changed("10:[4, 6], Operations: ['2*3=6']", "10:[6, 4], Operations: ['2*3=6']"), none);
    assert_eq!(changed("Moving to Node #0,0", "Moving to Node #0,7"), Inspection { wrong_states: 1, ..none });
    assert_eq!(changed("6-4=2, Resulting Numbers: [2]\n2,10", "6+4=10, Resulting Numbers: [10]\n10,10"), {
        Inspection { wrong_verdicts: 1, repeated_steps: 1, ..none }
    });
    for verdict in
        ["2,10 equal: Goal Reached", "3,10 unequal: No Solution", "2,11 unequal: No Solution", "x equal: Goal Reached"]
    {
        assert_eq!(
            changed("2,10 unequal: No Solution", verdict),
            Inspection { wrong_verdicts: 1, ..none },
            "{verdict}"
        );
    }
    let broken = inspect(&TEXT.replace("2,10 unequal: No Solution", "2,10 unequal. No Solution"));
    assert_eq!(broken, Inspection { unreadable: 1, verdicts: 1, ..inspect(TEXT) });
}

/// What is found in a text that begins in this state, and where in its other lines the faults are.
fn found_after(state: &str, lines: &str) -> (Inspection, Vec<(usize, Option<String>)>) {
    let begin = format!("Moving to Node #0\nCurrent State: {state}, Operations: []\n");
    let text = format!("{begin}{lines}\n");
    let place = |fault: &Fault| (fault.at - begin.len(), fault.right.clone());
    let faults = faults(&text);
    assert!(faults.iter().all(|fault| fault.wrong == Wrong::Trial));
    (inspect(&text), faults.iter().map(place).collect())
}

#[test]
fn a_trial_with_two_numbers_is_the_product_of_the_target() {
    let found = |lines: &str| {
        let (found, faults) = found_after("67:[13, 871]", lines);
        assert_eq!((found.trials, found.wrong_trials), (lines.lines().count(), faults.len()));
        faults
    };
    let right = |at, right: &str| vec![(at, Some(right.to_owned()))];
    assert_eq!(found("13*67=871\n871-871=0"), vec![]);
    assert_eq!(found("13*67=872"), right(8, "1\n"));
    assert_eq!(found("13*66=858"), right(4, "7=871\n"));
    assert_eq!(found("12*67=804"), right(1, "3*67=871\n"));
    assert_eq!(found("871-780=91"), right(0, "13*67=871\n"));
    assert_eq!(found("13*67=871\n871-871=1"), right(18, "0\n"));
    // Held against what stands there: from a wrong product on, this is its difference.
    assert_eq!(found("13*67=881\n881-871=10"), right(7, "71\n"));
    assert_eq!(found("13*67=881\n871-881=10"), [right(7, "71\n"), right(11, "81-871=10\n")].concat());
}

#[test]
fn a_trial_of_more_numbers_is_a_division_in_full() {
    let found = |lines: &str| found_after("24:[13, 871, 7]", lines).1;
    let right = |at, right: &str| vec![(at, Some(right.to_owned()))];
    assert_eq!(found("13*60=780\n871-780=91\n13*7=91\n91-91=0"), vec![]);
    assert_eq!(found("7*100=700\n871-700=171\n7*20=140\n171-140=31\n7*4=28\n31-28=3"), vec![]);
    // One trial after another.
    assert_eq!(found("13*60=780\n871-780=91\n13*7=91\n91-91=0\n7*100=700\n871-700=171"), vec![]);
    assert_eq!(found("13*50=650"), right(3, "60=780\n"));
    assert_eq!(found("13*60=780\n861-780=81"), right(11, "71-780=91\n"));
    assert_eq!(found("13*60=780\n871-770=101"), right(15, "80=91\n"));
    assert_eq!(found("13*60=780\n871-780=91\n13*6=78"), right(24, "7=91\n"));
    // It breaks off.
    let explored = "Exploring Operation: 13+7=20, Resulting Numbers: [871, 20]";
    assert_eq!(found(&format!("13*60=780\n871-780=91\n{explored}")), right(21, "13*7=91\n"));
    assert_eq!(found(&format!("13*60=780\n{explored}")), right(10, "871-780=91\n"));
    // The digit is wrong, not that nothing can be taken away then, and not what follows from a zero.
    assert_eq!(found("13*70=910\n910-910=0"), right(3, "60=780\n"));
    let divided = "Exploring Operation: 7/13=70, Resulting Numbers: [871, 70]";
    assert_eq!(found(&format!("13*70=910\n910-910=0\n{divided}")), right(3, "60=780\n"));
    // Either may be meant.
    let (counts, faults) = found_after("24:[13, 871, 700]", "13*70=910");
    assert_eq!((counts.wrong_trials, faults), (1, vec![(3, None)]));
}

#[test]
fn what_is_no_trial_is_not_read_as_one() {
    for other in ["871/13=67", "13+67=80", "13*67=", "13*67=871 ", "13*-1=0", "871-780="] {
        let (found, faults) = found_after("67:[13, 871]", other);
        assert_eq!((found, faults), (Inspection { unreadable: 1, ..Inspection::default() }, vec![]), "{other}");
    }
}

#[test]
fn a_node_has_a_name_of_its_own() {
    let kept = |id: &str| format!("Generated Node #{id}: 10:[4, 5] Operation: 2+3=5\n");
    for (wrong, right) in [("0,0", "1: 10:[4, 5] Operation: 2+3=5\n"), ("0,1,0", ": 10:[4, 5] Operation: 2+3=5\n")] {
        let found = faults(&TEXT.replace(&kept("0,1"), &kept(wrong)));
        let found: Vec<_> = found.iter().map(|fault| (fault.wrong, fault.right.as_deref())).collect();
        assert_eq!(found, [(Wrong::Numbers, Some(right))], "{wrong}");
    }
}

#[test]
fn a_goal_after_a_join_needs_a_child_that_reached_it() {
    let joined = |line: &str| {
        let block = format!(
            "<Sub Searches>\n<{line} in Sub Search 0 at level 1 at Node #0,0>\n7,7 nonsense\n<End Sub Searches>\n"
        );
        inspect(&format!(
            "Moving to Node #0\nCurrent State: 10:[2, 3], Operations: []\n{block}10,10 equal: Goal Reached\n"
        ))
    };
    assert_eq!(joined("Goal Reached"), Inspection { verdicts: 1, ..Inspection::default() });
    assert_eq!(joined("No Solution"), Inspection { verdicts: 1, wrong_verdicts: 1, ..Inspection::default() });
}

proptest! {
    #[test]
    fn any_text_can_be_inspected(text in "(Moving to Node #|Current State: |10:\\[|[0-9,=+*/ \\[\\]-]{0,8}|, Operations: \\[\\]|Exploring Operation: |\n){0,40}") {
        let found = inspect(&text);
        prop_assert!(found.wrong_results <= found.steps);
        for fault in faults(&text) {
            prop_assert!(text.is_char_boundary(fault.at));
        }
        choices(&text);
        for place in decisions(&text) {
            prop_assert!(text.get(place).is_some_and(|decided| !decided.is_empty()));
        }
        first_state(&text);
    }
}

fn fault_of(from: &str, to: &str) -> (String, Option<String>) {
    assert_eq!(TEXT.matches(from).count(), 1);
    let text = TEXT.replace(from, to);
    let found = &faults(&text)[0];
    let line = text[found.at..].lines().next().unwrap_or("");
    (line.to_owned(), found.right.clone())
}

#[test]
fn a_fault_is_where_a_line_left_what_may_stand_there() {
    let right = |text: &str| Some(text.to_owned());
    // A result: the digit that is wrong, and all that stands there.
    let found = fault_of("4+6=10, Resulting Numbers: [10]\n10,10", "4+6=12, Resulting Numbers: [12]\n12,10");
    assert_eq!(found, ("2, Resulting Numbers: [12]".to_owned(), right("0, Resulting Numbers: [10]\n")));
    // One that ends too soon: what stands in the place of its next digit.
    let found = fault_of("4+6=10, Resulting Numbers: [10]\n10,10", "4+6=1, Resulting Numbers: [1]\n1,10");
    assert_eq!(found, (", Resulting Numbers: [1]".to_owned(), right("0, Resulting Numbers: [10]\n")));
    // A number that is not there: the digit by which it is none of those that are, and nothing that is right instead.
    let found = fault_of("2+3=5, Resulting Numbers: [4, 5]\n", "2+33=35, Resulting Numbers: [4, 35]\n");
    assert_eq!(found, ("3=35, Resulting Numbers: [4, 35]".to_owned(), None));
    // An operation without a result.
    let found = fault_of("6-4=2, Resulting Numbers: [2]\n2,10", "6/4=2, Resulting Numbers: [2]\n2,10");
    assert_eq!(found, ("/4=2, Resulting Numbers: [2]".to_owned(), None));
    // The numbers left, and the node made of them.
    let found = fault_of("2+3=5, Resulting Numbers: [4, 5]", "2+3=5, Resulting Numbers: [3, 5]");
    assert_eq!(found, ("3, 5]".to_owned(), right("4, 5]\n")));
    let found = fault_of("#0,1: 10:[4, 5] Operation", "#0,1: 10:[4, 6] Operation");
    assert_eq!(found, ("6] Operation: 2+3=5".to_owned(), right("5] Operation: 2+3=5\n")));
    // A state, a move to a node that is none, a verdict.
    let found = fault_of("10:[4, 6], Operations: ['2*3=6']", "10:[4, 6], Operations: []");
    assert_eq!(found, ("]".to_owned(), right("'2*3=6']\n")));
    let found = fault_of("Moving to Node #0,0", "Moving to Node #0,7");
    assert_eq!(found, ("7".to_owned(), None));
    let found = fault_of("2,10 unequal: No Solution", "2,10 equal: Goal Reached");
    assert_eq!(found, ("equal: Goal Reached".to_owned(), right("unequal: No Solution\n")));
}

#[test]
fn choices_are_the_numbers_and_the_sign_of_kept_steps() {
    let text = format!(
        "Sub Call Budget: 3 {TEXT}Moving to Node #0\nExploring Operation: 2*3=6, Resulting Numbers: [4, 6]\nGenerated Node #0,0: 10:[4, 6] Operation: 2*3=6\n"
    );
    let found: Vec<_> = choices(&text).into_iter().map(|choice| (choice.id, &text[choice.place])).collect();
    assert_eq!(found, [("0,0", "2*3"), ("0,1", "2+3")]);
    assert_eq!(choices(&text)[0].place.start, text.find("2*3").unwrap());
}

#[test]
fn decisions_are_the_kinds_of_own_lines_and_the_steps() {
    let text = "\
Sub Call Budget: 3 Moving to Node #0
Current State: 10:[2, 3, 4], Operations: []
Exploring Operation: 2*3=7, Resulting Numbers: [4, 6]
Generated Node #0,0: 10:[4, 6] Operation: 2*3=6
<Sub Searches>
<Goal Reached in Sub Search 0 at level 1 at Node #0,0>
Exploring Operation: 3-2=1, Resulting Numbers: [1]
<End Sub Searches>
Moving to Node #0

Exploring Operation: 2+
";
    let found = |text: &str| -> Vec<_> { decisions(text).into_iter().map(|place| text[place].to_owned()).collect() };
    assert_eq!(found(text), ["M", "C", "E", "2*3", "G", "M", "E"]);
    // The way to a solution is copied.
    let solved = format!(
        "{text}\
10,10 equal: Goal Reached
Moving to Node #0
Current State: 10:[2, 3, 4], Operations: []
Exploring Operation: 2*3=6, Resulting Numbers: [4, 6]
"
    );
    assert_eq!(found(&solved), found(text));
}

#[test]
fn a_child_follows_from_its_problem_by_true_steps() {
    let problem = Problem::new(vec![2, 3, 4], 10).unwrap();
    let prompt = |state: &str| format!("Moving to Node #0,0\nCurrent State: {state}");
    assert!(follows(&problem, &prompt("10:[4, 6], Operations: ['2*3=6']")));
    assert!(follows(&problem, &prompt("10:[10], Operations: ['2*3=6', '4+6=10']")));
    for lie in [
        "10:[4, 7], Operations: ['2*3=7']",
        "10:[4, 7], Operations: ['2*3=6']",
        "10:[4, 6], Operations: []",
        "11:[4, 6], Operations: ['2*3=6']",
        "10:[4, 9], Operations: ['3*3=9']",
    ] {
        assert!(!follows(&problem, &prompt(lie)), "{lie}");
    }
    assert!(!follows(&problem, "nothing"));
    assert_eq!(first_node(&prompt("10:[4, 6]")), Some("0,0"));
    assert_eq!(first_node("10:[4, 6]"), None);
}

/// A digit of a teacher's text is another: the first fault is in that line or a later one, and with what is right in its
/// place the line has no fault of its kind any more.
#[test]
fn what_is_right_repairs_a_line() {
    let mut repaired = 0;
    for item in 0..200_u64 {
        let problem = Problem::new(vec![3 + Number::from(item % 40), 7, 11, 25], 24).unwrap();
        let method = Method::Apr { beam_size: 4, child_beam_size: 6, promising: 0.9 };
        let kinds = Guide { ranking: Ranking::Kinds, trials: Some(20), ..Heuristic::Mult.into() };
        let guide = if item % 2 == 0 { kinds } else { Heuristic::Mult.into() };
        let trace = search(&problem, &method, guide, &mut Random::new(2, 1, item)).unwrap();
        for text in all_texts(&trace) {
            let digits: Vec<usize> =
                text.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
            let place = digits[(item as usize * 7919) % digits.len()];
            let mut bytes = text.as_bytes().to_vec();
            bytes[place] = b'0' + (bytes[place] - b'0' + 1 + (item % 9) as u8) % 10;
            let changed = String::from_utf8(bytes).unwrap();
            let found = faults(&changed);
            let counts = inspect(&changed);
            let counted = counts.wrong_results + counts.invented_numbers + counts.wrong_numbers;
            assert_eq!(found.len(), counted + counts.wrong_states + counts.wrong_verdicts + counts.wrong_trials);
            let Some((fault, right)) = found.first().and_then(|fault| Some((fault, fault.right.as_deref()?))) else {
                continue;
            };
            let line_end = changed[fault.at..].find('\n').map_or(changed.len(), |end| fault.at + end + 1);
            let better = format!("{}{right}{}", &changed[..fault.at], &changed[line_end..]);
            let end = fault.at + right.len();
            assert!(!faults(&better).iter().any(|f| f.wrong == fault.wrong && f.at < end), "{changed}\n{fault:?}");
            repaired += 1;
        }
    }
    assert!(repaired > 200, "{repaired}");
}
