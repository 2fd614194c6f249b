//! Counter-based randomness, splits and problem streams.

#![allow(missing_docs)]

use std::collections::HashSet;

use apr_countdown::sample::{Choices, ProblemSpace, Random, SeenProblems, Split};
use apr_countdown::solve::{can_reach, solve};
use apr_countdown::{Error, Number, Problem};
use proptest::prelude::*;

const SPLITS: [Split; 3] = [Split::Train, Split::Val, Split::Test];

fn space(split: Split) -> ProblemSpace {
    ProblemSpace { split, ..ProblemSpace::default() }
}

fn problems(space: &ProblemSpace, seed: u64, count: u64) -> Vec<Problem> {
    let stream = space.stream(seed).expect("a stream");
    (0..count).map(|i| stream.get(i).expect("a problem")).collect()
}

fn key(problem: &Problem) -> (Vec<Number>, Number) {
    let mut numbers = problem.numbers().to_vec();
    numbers.sort_unstable();
    (numbers, problem.target())
}

#[test]
fn an_item_does_not_depend_on_the_order_of_asking() {
    let stream = space(Split::Train).stream(7).expect("a stream");
    let forward: Vec<Problem> = (0..50).map(|i| stream.get(i).unwrap()).collect();
    let again = space(Split::Train).stream(7).expect("a stream");
    for i in (0..50).rev() {
        assert_eq!(again.get(i).unwrap(), forward[i as usize]);
    }
    assert!(stream.get(u64::MAX).is_ok());
    assert_ne!(problems(&space(Split::Train), 8, 50), forward);
}

#[test]
fn streams_of_one_seed_are_apart() {
    let mut seen = HashSet::new();
    for seed in 0..4 {
        for stream in 0..4 {
            for item in 0..4 {
                let mut random = Random::new(seed, stream, item);
                assert!(seen.insert(random.bits()), "{seed} {stream} {item}");
            }
        }
    }
}

#[test]
fn splits_are_disjoint_and_a_problem_is_solvable() {
    let mut kept = Vec::new();
    for split in SPLITS {
        for problem in problems(&space(split), 3, 400) {
            let (numbers, target) = (problem.numbers(), problem.target());
            assert_eq!(Split::of(numbers, target), split);
            assert_eq!(numbers.len(), 4);
            assert!(numbers.iter().all(|n| (1..=99).contains(n)));
            assert!((10..=100).contains(&target));
            assert!(solve(numbers, target).unwrap().is_some(), "{problem:?}");
            kept.push((key(&problem), split));
        }
    }
    for (a, split) in &kept {
        assert!(kept.iter().all(|(b, other)| a != b || split == other));
    }
}

#[test]
fn splits_have_their_shares() {
    let mut counts = [0; 3];
    for n in 0..160_000 {
        let split = Split::of(&[n % 97, n % 89, n / 7, n], 10 + n % 91);
        counts[SPLITS.iter().position(|&s| s == split).unwrap()] += 1;
    }
    for (count, expected) in counts.into_iter().zip([140_000i64, 10_000, 10_000]) {
        assert!((count - expected).abs() < 500, "{count}, not {expected}");
    }
}

#[test]
fn spaces_of_all_sizes() {
    for count in 2..=6 {
        let space = ProblemSpace {
            min_numbers: 2,
            max_numbers: count,
            max_number: 20,
            min_target: 1,
            max_target: 30,
            ..ProblemSpace::default()
        };
        let found = problems(&space, 11, 60);
        let sizes: HashSet<usize> = found.iter().map(|p| p.numbers().len()).collect();
        assert_eq!(sizes, (2..=count).collect());
        assert!(found.iter().all(|p| p.numbers().iter().all(|n| (1..=20).contains(n))));
        assert!(found.iter().all(|p| (1..=30).contains(&p.target())));
    }
}

#[test]
fn a_target_that_no_numbers_reach_gives_way_to_another() {
    // Three numbers of 1 to 20 reach 151 in the train split alone, and many targets near it.
    let narrow = ProblemSpace { min_numbers: 3, max_numbers: 3, max_number: 20, ..space(Split::Val) };
    let found = problems(&ProblemSpace { min_target: 100, max_target: 200, ..narrow.clone() }, 0, 400);
    let targets: HashSet<Number> = found.iter().map(Problem::target).collect();
    assert!((10..100).contains(&targets.len()), "{}", targets.len());
    assert!(found.iter().all(|p| Split::of(p.numbers(), p.target()) == Split::Val));
    let none = ProblemSpace { min_target: 151, max_target: 151, ..narrow };
    assert!(none.stream(0).unwrap().get(0).is_err());
}

#[test]
fn held_out_targets_are_in_the_test_split_alone() {
    let held_out: Vec<u64> = vec![24, 63, 99];
    for split in SPLITS {
        let space = ProblemSpace { held_out_targets: held_out.clone(), ..space(split) };
        for problem in problems(&space, 5, 200) {
            let held_out = held_out.contains(&(problem.target() as u64));
            assert_eq!(held_out, split == Split::Test, "{problem:?}");
            assert_eq!(Split::of(problem.numbers(), problem.target()), split);
        }
    }
}

#[test]
fn spaces_that_make_no_sense_are_errors() {
    let base = ProblemSpace::default;
    let spaces = [
        ProblemSpace { min_numbers: 1, ..base() },
        ProblemSpace { max_numbers: 7, ..base() },
        ProblemSpace { min_numbers: 5, max_numbers: 4, ..base() },
        ProblemSpace { max_number: 0, ..base() },
        ProblemSpace { max_number: u64::MAX, ..base() },
        ProblemSpace { min_target: 0, ..base() },
        ProblemSpace { min_target: 50, max_target: 49, ..base() },
        ProblemSpace { max_target: u64::MAX, ..base() },
        ProblemSpace { min_target: 10, max_target: 11, held_out_targets: vec![10, 11], ..base() },
        ProblemSpace { split: Split::Test, held_out_targets: vec![7], ..base() },
    ];
    for space in spaces {
        assert!(matches!(space.stream(0), Err(Error::Parameter(_))), "{space:?}");
    }
    // Nothing reaches this target; asking ends all the same.
    let hopeless =
        ProblemSpace { min_numbers: 2, max_numbers: 2, max_number: 2, min_target: 90, max_target: 90, ..base() };
    assert!(matches!(hopeless.stream(0).unwrap().get(0), Err(Error::Parameter(_))));
}

/// Whether counts of a uniform draw are within six standard deviations of their mean.
fn uniform(counts: &[usize]) -> bool {
    let draws: usize = counts.iter().sum();
    let mean = draws as f64 / counts.len() as f64;
    counts.iter().all(|&count| (count as f64 - mean).abs() < 6.0 * mean.sqrt())
}

#[test]
fn draws_are_uniform() {
    let mut random = Random::new(1, 2, 3);
    let mut counts = [0; 7];
    for _ in 0..70_000 {
        counts[random.below(7) as usize] += 1;
    }
    assert!(uniform(&counts), "{counts:?}");

    let mut counts = [0; 10];
    for _ in 0..50_000 {
        let unit = random.unit();
        assert!((0.0..1.0).contains(&unit));
        counts[(unit * 10.0) as usize] += 1;
    }
    assert!(uniform(&counts), "{counts:?}");

    let mut counts = [0; 24];
    let mut order = Vec::new();
    for _ in 0..24_000 {
        random.shuffle(4, &mut order).unwrap();
        let mut rank = 0;
        for i in 0..4 {
            rank = rank * (4 - i) + order[i + 1..].iter().filter(|&&later| later < order[i]).count();
        }
        counts[rank] += 1;
    }
    assert!(uniform(&counts), "{counts:?}");

    let mut counts = vec![0; 91];
    for problem in problems(&space(Split::Train), 0, 3000) {
        counts[problem.target() as usize - 10] += 1;
    }
    assert!(uniform(&counts), "{counts:?}");
}

#[test]
fn draws_stay_in_range_at_the_ends() {
    let mut random = Random::new(0, 0, 0);
    for n in [1, 2, u64::MAX] {
        assert!((0..100).all(|_| random.below(n) < n));
    }
    assert_eq!(random.between(5, 5), 5);
    assert!((0..1000).all(|_| random.promising(1.0).unwrap() && !random.promising(0.0).unwrap()));
}

proptest! {
    #[test]
    fn a_split_does_not_depend_on_the_order_of_numbers(
        (numbers, shuffled) in prop::collection::vec(0..=Number::MAX, 0..7)
            .prop_flat_map(|numbers| (Just(numbers.clone()), Just(numbers).prop_shuffle())),
        target in any::<Number>(),
    ) {
        prop_assert_eq!(Split::of(&numbers, target), Split::of(&shuffled, target));
    }

    #[test]
    fn a_shuffle_is_a_permutation(n in 0..80usize, seed in any::<u64>()) {
        let mut order = vec![9; 3];
        Random::new(seed, 1, 1).shuffle(n, &mut order).unwrap();
        order.sort_unstable();
        prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
    }
}

proptest! {
    /// The packed set is the plain one of sorted numbers and targets.
    #[test]
    fn seen_problems_are_those_that_came_before(
        drawn in prop::collection::vec((prop::collection::vec(0..4i128, 1..7), 1..4i128, 0..3u32), 1..60),
    ) {
        let (mut seen, mut plain) = (SeenProblems::default(), HashSet::new());
        for (numbers, target, scale) in drawn {
            let scaled = |n: Number| n * [1, 200, 340_000][scale as usize];
            let problem = Problem::new(numbers.iter().map(|&n| scaled(n)).collect(), scaled(target)).unwrap();
            prop_assert_eq!(seen.add(&problem).unwrap(), plain.insert(key(&problem)));
        }
    }
}

#[test]
fn a_number_that_no_space_has_is_refused() {
    let problem = Problem::new(vec![1 << 20, 2], 3).unwrap();
    assert!(SeenProblems::default().add(&problem).is_err());
}

#[test]
fn last_numbers_are_multiples_of_the_first_if_asked() {
    let space = ProblemSpace {
        min_numbers: 3,
        max_numbers: 3,
        max_number: 999,
        min_target: 2,
        multiples: 1.0,
        ..ProblemSpace::default()
    };
    let stream = space.stream(7).unwrap();
    for i in 0..200 {
        let problem = stream.get(i).unwrap();
        let [first, second, last] = problem.numbers() else { panic!("three numbers") };
        assert_eq!(last % first, 0);
        assert!((2..=100).contains(&(last / first)));
        assert!((1..=100).contains(first) && (1..=100).contains(second) && (2..=999).contains(last));
    }
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(ProblemSpace { multiples: wrong, ..space.clone() }.stream(0).is_err());
    }
    assert!(ProblemSpace { max_number: 1, ..space }.stream(0).is_err());
}

#[test]
fn problems_are_missed_by_a_little_if_asked() {
    let space = ProblemSpace { min_numbers: 2, max_numbers: 3, missed: 0.5, ..ProblemSpace::default() };
    let stream = space.stream(3).unwrap();
    let missed = (0..400)
        .filter(|&i| {
            let problem = stream.get(i).unwrap();
            let (numbers, target) = (problem.numbers(), problem.target());
            assert_eq!(Split::of(numbers, target), Split::Train);
            let (last, others) = numbers.split_last().unwrap();
            let solved = |last: Number| can_reach(&[others, &[last]].concat(), target).unwrap();
            let near = |by: Number| solved(last + by) || (*last > by && solved(last - by));
            // A number that would have fallen below one is one.
            assert!(solved(*last) || *last == 1 || (1..=20).any(|by| near(by) || near(10 * by)));
            !solved(*last)
        })
        .count();
    assert!((150..250).contains(&missed), "{missed}");
    for wrong in [-0.1, 1.1, f64::NAN] {
        assert!(ProblemSpace { missed: wrong, ..space.clone() }.stream(0).is_err());
    }
}
