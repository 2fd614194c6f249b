//! What a thread wrote, line by line, and what of it is wrong: diagnostics of a model's text.
//!
//! Each line is held against what the text itself says above it, so a fault counts once and not again wherever it is
//! copied. Lines with a bracket are a language's, and are not read. Any text can be inspected.

use crate::grid::{Digits, Grid};
use crate::search::{End, scan};
use crate::text::{PICK, SUMS, first_grid, read_attempt, read_choice, read_entry, read_grid, sums};

/// Counts over the lines of one thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Lines that are not in the grammar.
    pub unreadable: usize,
    /// Cells that scans tell of.
    pub cells: usize,
    /// Cells with other candidates than the grid leaves, or that are not the next empty one.
    pub wrong_candidates: usize,
    /// Scans that end before the last empty cell, and at no dead end.
    pub short_scans: usize,
    /// Grids after scans.
    pub grids: usize,
    /// Grids that are not what the scan makes of the one before.
    pub wrong_grids: usize,
    /// Running sums of diagonals.
    pub sums: usize,
    /// Sums of other digits than the grid has, or added wrongly.
    pub wrong_sums: usize,
    /// Choices of a cell after a scan that filled nothing.
    pub picks: usize,
    /// Choices of another cell than the tightest, or of other digits.
    pub wrong_picks: usize,
    /// Tries.
    pub tries: usize,
    /// Tries whose grid is not that of the choice with the digit, or that belong to no choice.
    pub wrong_tries: usize,
}

/// Inspects what a thread wrote after its prompt.
pub fn inspect(prompt: &str, text: &str) -> Inspection {
    let mut reader =
        Reader { grid: first_grid(prompt), filled: None, choices: Vec::new(), found: Inspection::default() };
    for line in text.split('\n').filter(|line| !line.is_empty() && !line.contains(['<', '>'])) {
        reader.line(line);
    }
    reader.found
}

struct Reader {
    /// The last grid, if there is one.
    grid: Option<Grid>,
    /// What the last line, a scan, makes of it.
    filled: Option<Grid>,
    /// The grid that each cell was last chosen in.
    choices: Vec<(usize, Grid)>,
    found: Inspection,
}

impl Reader {
    fn line(&mut self, line: &str) {
        let filled = self.filled.take();
        if let Some(rest) = line.strip_prefix(PICK) {
            self.pick(rest, filled);
        } else if line.starts_with(SUMS) {
            self.found.sums += 1;
            self.found.wrong_sums += usize::from(self.grid.is_none_or(|grid| sums(&grid) != line));
        } else if let Some((cell, digit, grid)) = read_attempt(line) {
            let chosen = self.choices.iter().find(|(of, _)| *of == cell);
            self.found.tries += 1;
            self.found.wrong_tries += usize::from(chosen.is_none_or(|(_, from)| from.with(cell, digit) != grid));
            self.grid = Some(grid);
        } else if let Some(grid) = read_grid(line) {
            self.found.grids += 1;
            self.found.wrong_grids += usize::from(filled != Some(grid) || self.grid == Some(grid));
            self.grid = Some(grid);
        } else {
            self.scan(line);
        }
    }

    fn pick(&mut self, text: &str, filled: Option<Grid>) {
        let Some(choices) = text.split(' ').map(read_choice).collect::<Option<Vec<_>>>() else {
            self.found.unreadable += 1;
            return;
        };
        // Only a choice after a scan without a fill is new; the others say what is left.
        let (Some(filled), Some(grid), Some(&(cell, digits))) = (filled, self.grid, choices.first()) else {
            return;
        };
        self.found.picks += 1;
        let right = filled == grid && !grid.is_full() && scan(grid).1 == End::Stuck(cell, digits);
        self.found.wrong_picks += usize::from(!right);
        self.choices.retain(|(of, _)| *of != cell);
        self.choices.push((cell, grid));
    }

    fn scan(&mut self, line: &str) {
        let Some(entries) = line.split(' ').map(read_entry).collect::<Option<Vec<_>>>() else {
            self.found.unreadable += 1;
            return;
        };
        self.found.cells += entries.len();
        let Some(grid) = self.grid else {
            self.found.wrong_candidates += entries.len();
            return;
        };
        let mut filled = grid;
        let mut empty = grid.empty();
        for (cell, candidates) in entries {
            self.found.wrong_candidates +=
                usize::from(empty.next() != Some(cell) || filled.candidates(cell) != candidates);
            if candidates == Digits::default() {
                return;
            }
            if let Some(digit) = candidates.single() {
                filled = filled.with(cell, digit);
            }
        }
        self.found.short_scans += usize::from(empty.next().is_some());
        self.filled = Some(filled);
    }
}
