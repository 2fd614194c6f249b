//! Grids, and what may stand in a cell: the values that everything else in this crate speaks about.

/// Cells of a grid.
pub const CELLS: usize = 16;

/// The cells that share a row, a column or a box with each cell.
const PEERS: [[usize; 7]; CELLS] = peers();

const fn peers() -> [[usize; 7]; CELLS] {
    let mut all = [[0; 7]; CELLS];
    let mut cell = 0;
    while cell < CELLS {
        let (mut other, mut count) = (0, 0);
        while other < CELLS {
            let same_row = cell / 4 == other / 4;
            let same_column = cell % 4 == other % 4;
            let same_box = cell / 8 == other / 8 && cell % 4 / 2 == other % 4 / 2;
            if cell != other && (same_row || same_column || same_box) {
                all[cell][count] = other;
                count += 1;
            }
            other += 1;
        }
        cell += 1;
    }
    all
}

/// A set of digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digits(u8);

impl Digits {
    /// All four.
    pub const ALL: Digits = Digits(0b1111);

    /// This set with one more digit, from 1 to 4.
    pub fn with(self, digit: u8) -> Digits {
        Digits(self.0 | 1 << (digit - 1))
    }

    /// This set without a digit.
    pub fn without(self, digit: u8) -> Digits {
        Digits(self.0 & !(1 << (digit - 1)))
    }

    /// Whether a digit is in it.
    pub fn has(self, digit: u8) -> bool {
        self.0 >> (digit - 1) & 1 == 1
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The only digit, if there is one alone.
    pub fn single(self) -> Option<u8> {
        (self.count() == 1).then(|| self.0.trailing_zeros() as u8 + 1)
    }

    /// From the smallest on.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=4).filter(move |&digit| self.has(digit))
    }
}

/// A grid in reading order, whose cells may be empty. Digits may clash: anybody may have written it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grid([u8; CELLS]);

impl Grid {
    /// A grid of these cells, 0 for an empty one; None if a digit is above 4.
    pub fn new(cells: [u8; CELLS]) -> Option<Grid> {
        cells.iter().all(|&digit| digit <= 4).then_some(Grid(cells))
    }

    /// What stands in each cell; 0: nothing.
    pub fn cells(&self) -> &[u8; CELLS] {
        &self.0
    }

    /// This grid with a digit in a cell.
    pub fn with(mut self, cell: usize, digit: u8) -> Grid {
        self.0[cell] = digit;
        self
    }

    /// The empty cells in reading order.
    pub fn empty(&self) -> impl Iterator<Item = usize> + use<> {
        let cells = self.0;
        (0..CELLS).filter(move |&cell| cells[cell] == 0)
    }

    /// How many cells are filled.
    pub fn givens(&self) -> usize {
        CELLS - self.empty().count()
    }

    /// Whether no cell is empty.
    pub fn is_full(&self) -> bool {
        !self.0.contains(&0)
    }

    /// The digits that no other cell of the cell's row, column and box holds.
    pub fn candidates(&self, cell: usize) -> Digits {
        PEERS[cell].iter().map(|&peer| self.0[peer]).filter(|&digit| digit != 0).fold(Digits::ALL, Digits::without)
    }

    /// Whether no digit stands twice in a row, column or box.
    pub fn is_consistent(&self) -> bool {
        (0..CELLS).all(|cell| self.0[cell] == 0 || self.candidates(cell).has(self.0[cell]))
    }

    /// Whether all digits of another grid stand in this one.
    pub fn keeps(&self, givens: &Grid) -> bool {
        givens.0.iter().zip(self.0).all(|(&given, digit)| given == 0 || given == digit)
    }

    /// The digits of the falling diagonal, from the first row on.
    pub fn diagonal(&self) -> [u8; 4] {
        [self.0[0], self.0[5], self.0[10], self.0[15]]
    }

    /// The sum of that diagonal.
    pub fn sum(&self) -> u8 {
        self.diagonal().iter().sum()
    }

    /// The four rows.
    pub fn rows(&self) -> impl Iterator<Item = &[u8]> {
        self.0.chunks(4)
    }
}
