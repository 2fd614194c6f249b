//! The teacher: scans until it is stuck, then tries the tightest cell's digits, in children or one after the other.
//!
//! A scan goes through the empty cells in reading order and fills a cell with one candidate at once, so what follows sees
//! it and no two fills clash. It ends at a cell without candidates, a dead end. Where it fills nothing, the first cell of
//! the fewest candidates is tried. A main thread that may spawn does so once, when it is first stuck: a child for each
//! digit, at most as many as its budget; what is left it tries itself if no child finds the solution. Children, and
//! serial searches, try depth first, and write what is left to try before each try. The sum is looked at when the grid is
//! full; another one is a dead end.

use crate::grid::{Digits, Grid};
use crate::solve::Problem;
use crate::text;

/// How a search is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The main thread spawns.
    Threads,
    /// One thread tries everything.
    Serial,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Candidates.
    Scan,
    /// A grid after a scan.
    Grid,
    /// Running sums.
    Sums,
    /// What is left to try.
    Pick,
    /// A try.
    Try,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Scan => "scan",
            Kind::Grid => "grid",
            Kind::Sums => "sums",
            Kind::Pick => "pick",
            Kind::Try => "try",
        }
    }
}

/// A piece of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A line with its break.
    Line(String, Kind),
    /// Children that are spawned together.
    Children(Vec<Search>),
}

/// One thread of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// What it begins with.
    pub prompt: String,
    /// What it writes, and its children.
    pub parts: Vec<Part>,
    /// The solution, if it found one.
    pub answer: Option<Grid>,
}

/// The search of a main thread whose prompt names this budget.
pub fn search(problem: &Problem, method: Method, budget: Option<u32>) -> Search {
    let children = match method {
        Method::Threads => budget.map_or(usize::MAX, |children| children as usize),
        Method::Serial => 0,
    };
    Thread::run(text::prompt(problem, budget), problem.grid(), problem.sum(), children)
}

/// The search of a thread that begins with this grid, and spawns nothing.
pub fn search_from(prompt: String, grid: Grid, sum: Option<u8>) -> Search {
    Thread::run(prompt, grid, sum, 0)
}

/// How a scan ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At a cell without candidates.
    Dead,
    /// With this grid.
    Filled(Grid),
    /// Nothing is certain; this is the first cell of the fewest candidates.
    Stuck(usize, Digits),
}

/// Scans a grid that is not full: each cell with its candidates, and what comes of it.
pub fn scan(grid: Grid) -> (Vec<(usize, Digits)>, End) {
    let mut filled = grid;
    let mut entries = Vec::new();
    for cell in grid.empty() {
        let candidates = filled.candidates(cell);
        entries.push((cell, candidates));
        if candidates.is_empty() {
            return (entries, End::Dead);
        }
        if let Some(digit) = candidates.single() {
            filled = filled.with(cell, digit);
        }
    }
    let tightest = entries.iter().min_by_key(|(_, candidates)| candidates.count()).copied();
    let end = match tightest {
        Some((cell, candidates)) if filled == grid => End::Stuck(cell, candidates),
        _ => End::Filled(filled),
    };
    (entries, end)
}

/// A cell that is tried.
struct Choice {
    grid: Grid,
    cell: usize,
    left: Digits,
}

/// A thread at work.
struct Thread {
    sum: Option<u8>,
    parts: Vec<Part>,
    /// What is left to try, the innermost choice last.
    choices: Vec<Choice>,
}

impl Thread {
    fn run(prompt: String, grid: Grid, sum: Option<u8>, children: usize) -> Search {
        let mut thread = Thread { sum, parts: Vec::new(), choices: Vec::new() };
        let answer = thread.solve(grid, children);
        Search { prompt, parts: thread.parts, answer }
    }

    fn solve(&mut self, mut grid: Grid, mut children: usize) -> Option<Grid> {
        loop {
            if grid.is_full() {
                if self.is_right(&grid) {
                    return Some(grid);
                }
                grid = self.attempt()?;
                continue;
            }
            let (entries, end) = scan(grid);
            let words: Vec<_> = entries.iter().map(|&(cell, candidates)| text::entry(cell, candidates)).collect();
            self.line(words.join(" "), Kind::Scan);
            match end {
                End::Filled(next) => {
                    grid = next;
                    self.line(text::grid(&grid), Kind::Grid);
                    continue;
                }
                End::Stuck(cell, left) => {
                    self.choices.push(Choice { grid, cell, left });
                    if children > 0 {
                        self.pick();
                        if let Some(solution) = self.spawn(children) {
                            return Some(solution);
                        }
                        children = 0;
                    }
                }
                End::Dead => {}
            }
            grid = self.attempt()?;
        }
    }

    /// Whether a full grid has the sum, if there is one; writes how it comes about.
    fn is_right(&mut self, grid: &Grid) -> bool {
        let Some(sum) = self.sum else {
            return true;
        };
        self.line(text::sums(grid), Kind::Sums);
        grid.sum() == sum
    }

    fn line(&mut self, line: String, kind: Kind) {
        self.parts.push(Part::Line(line + "\n", kind));
    }

    /// Writes what is left to try, if there is anything.
    fn pick(&mut self) {
        self.choices.retain(|choice| !choice.left.is_empty());
        let words: Vec<_> = self.choices.iter().rev().map(|choice| text::choice(choice.cell, choice.left)).collect();
        if !words.is_empty() {
            self.line(format!("{}{}", text::PICK, words.join(" ")), Kind::Pick);
        }
    }

    /// The next try: writes it, and gives the grid with it.
    fn attempt(&mut self) -> Option<Grid> {
        self.pick();
        let choice = self.choices.last_mut()?;
        let digit = choice.left.iter().next()?;
        choice.left = choice.left.without(digit);
        let (cell, grid) = (choice.cell, choice.grid.with(choice.cell, digit));
        self.line(text::attempt(cell, digit, &grid), Kind::Try);
        Some(grid)
    }

    /// Spawns children for the innermost choice, at most so many.
    fn spawn(&mut self, most: usize) -> Option<Grid> {
        let choice = self.choices.last_mut()?;
        let mut spawned = Vec::new();
        for digit in choice.left.iter().take(most) {
            choice.left = choice.left.without(digit);
            let grid = choice.grid.with(choice.cell, digit);
            let prompt = text::with_sum(text::attempt(choice.cell, digit, &grid), self.sum);
            spawned.push(Thread::run(prompt, grid, self.sum, 0));
        }
        let found = spawned.iter().find_map(|child| child.answer);
        self.parts.push(Part::Children(spawned));
        found
    }
}
