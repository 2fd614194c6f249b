//! The one grammar of lines: what threads write, and how it is read again.
//!
//! ```text
//! children: 2              a budget, before the main thread's grid
//! a1..4b.3..c..2.d4...     a grid: rows a to d, columns w to z, one character a cell
//! ax=2 aw13 by-            a scan: empty cells in reading order with one candidate, several, none
//! ?bx13 cy24               what is left to try, the innermost choice first
//! bx=1 a1..4b13..c..2.d... a try: a digit put in a cell, and the grid with it; also what a child begins with
//! sum 1 4 6 10             running sums of a full grid's diagonal
//! ```
//!
//! The sum to reach is behind the first grid of a main thread and of a child: `a1..4b.3..c..2.d4... sum=10`.
//! No line holds a tag's bracket, so any language can stand around them. Any text can be read.

use crate::Error;
use crate::grid::{CELLS, Digits, Grid};
use crate::solve::{MAX_SUM, Problem};

/// Begins a budget, a line of its own.
pub const BUDGET: &str = "children: ";
/// Digits of the largest budget that is read.
const MAX_BUDGET_DIGITS: usize = 6;
/// What a scan says of a cell without candidates.
pub const NONE: char = '-';
/// Begins the line of what is left to try.
pub const PICK: char = '?';
const PUT: char = '=';
const EMPTY: char = '.';
const SUM: &str = " sum=";
/// Begins the line of running sums.
pub const SUMS: &str = "sum";

/// A grid as its line.
pub fn grid(grid: &Grid) -> String {
    let mut line = String::with_capacity(CELLS + 4);
    for (letter, row) in ('a'..).zip(grid.rows()) {
        line.push(letter);
        line.push_str(&digits(row));
    }
    line
}

/// Cells, a character each.
pub fn digits(cells: &[u8]) -> String {
    cells.iter().map(|&digit| if digit == 0 { EMPTY } else { char::from(b'0' + digit) }).collect()
}

/// Reads a grid: 16 cells, each a digit from 1 to 4 or one of `.0_` for an empty one. White space, `/`, `|` and `,` may
/// stand anywhere, and a row's letter before the row.
pub fn read_grid(text: &str) -> Option<Grid> {
    let mut cells = [0; CELLS];
    let (mut count, mut letters) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'1'..=b'4' | b'.' | b'0' | b'_' => {
                *cells.get_mut(count)? = if byte.is_ascii_digit() { byte - b'0' } else { 0 };
                count += 1;
            }
            b'a'..=b'd' => {
                let row = usize::from(byte - b'a');
                if count != 4 * row || letters > row {
                    return None;
                }
                letters = row + 1;
            }
            b' ' | b'\t' | b'\n' | b'\r' | b'/' | b'|' | b',' => {}
            _ => return None,
        }
    }
    if count == CELLS { Grid::new(cells) } else { None }
}

/// The name of a cell: its row's letter and its column's.
pub fn cell(cell: usize) -> String {
    [b'a' + (cell / 4) as u8, b'w' + (cell % 4) as u8].map(char::from).iter().collect()
}

fn read_cell(text: &str) -> Option<(usize, &str)> {
    let &[row @ b'a'..=b'd', column @ b'w'..=b'z', ..] = text.as_bytes() else {
        return None;
    };
    Some((usize::from(row - b'a') * 4 + usize::from(column - b'w'), &text[2..]))
}

/// What a scan says of a cell.
pub fn entry(of: usize, candidates: Digits) -> String {
    match candidates.single() {
        Some(digit) => put(of, digit),
        None if candidates.is_empty() => format!("{}{NONE}", cell(of)),
        None => choice(of, candidates),
    }
}

/// Reads what a scan says of a cell: its candidates.
pub fn read_entry(text: &str) -> Option<(usize, Digits)> {
    let (of, rest) = read_cell(text)?;
    if rest.len() == NONE.len_utf8() && rest.starts_with(NONE) {
        return Some((of, Digits::default()));
    }
    match rest.strip_prefix(PUT) {
        Some(digit) => Some((of, read_digits(digit).filter(|digits| digits.count() == 1)?)),
        None => Some((of, read_digits(rest).filter(|digits| digits.count() > 1)?)),
    }
}

/// A digit put in a cell.
pub fn put(of: usize, digit: u8) -> String {
    format!("{}{PUT}{digit}", cell(of))
}

/// A cell with the digits that are to be tried in it.
pub fn choice(of: usize, digits: Digits) -> String {
    digits.iter().fold(cell(of), |text, digit| format!("{text}{digit}"))
}

/// Reads a cell with the digits that are to be tried in it: at least one.
pub fn read_choice(text: &str) -> Option<(usize, Digits)> {
    let (of, rest) = read_cell(text)?;
    Some((of, read_digits(rest)?))
}

/// Digits of which each is greater than the one before; at least one.
fn read_digits(text: &str) -> Option<Digits> {
    let mut last = 0;
    let mut digits = Digits::default();
    for byte in text.bytes() {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit <= 4 && digit > last)?;
        digits = digits.with(digit);
        last = digit;
    }
    (last > 0).then_some(digits)
}

/// A try: a digit put in a cell, and the grid with it.
pub fn attempt(of: usize, digit: u8, with: &Grid) -> String {
    format!("{} {}", put(of, digit), grid(with))
}

/// Reads a try.
pub fn read_attempt(line: &str) -> Option<(usize, u8, Grid)> {
    let (put, rest) = line.split_once(' ')?;
    let (of, digits) = read_entry(put)?;
    Some((of, digits.single()?, read_grid(rest)?))
}

/// The running sums of a full grid's diagonal.
pub fn sums(of: &Grid) -> String {
    let mut sum = 0;
    of.diagonal().iter().fold(SUMS.to_owned(), |line, digit| {
        sum += digit;
        format!("{line} {sum}")
    })
}

/// What a thread begins with: the grid and the sum; `start` is the grid's line or a try.
pub fn with_sum(start: String, sum: Option<u8>) -> String {
    sum.map_or(start.clone(), |sum| format!("{start}{SUM}{sum}"))
}

/// What a main thread begins with.
pub fn prompt(problem: &Problem, budget: Option<u32>) -> String {
    let line = with_sum(grid(&problem.grid()), problem.sum());
    budget.map_or(line.clone(), |children| format!("{BUDGET}{children}\n{line}"))
}

/// Reads what a main thread begins with.
///
/// # Errors
/// If no problem stands there.
pub fn read_prompt(prompt: &str) -> Result<(Problem, Option<u32>), Error> {
    let (budget, rest) = match prompt.strip_prefix(BUDGET) {
        Some(rest) => {
            let (count, rest) = rest.split_once('\n').ok_or(Error::NoGrid)?;
            (Some(number(count, MAX_BUDGET_DIGITS).ok_or(Error::NoBudget)?), rest)
        }
        None => (None, prompt),
    };
    Ok((read_problem(rest)?, budget))
}

/// Reads a problem: a grid, and the sum behind it.
///
/// # Errors
/// If there is none.
pub fn read_problem(text: &str) -> Result<Problem, Error> {
    let (grid, sum) = split_sum(text.trim_ascii());
    let sum = sum.map(|sum| read_sum(sum).ok_or(Error::NoSum)).transpose()?;
    Problem::new(read_grid(grid).ok_or(Error::NoGrid)?, sum)
}

/// Reads what a child begins with: the grid with its try, and the sum; `None` if it is no try, or its sum is none.
pub fn read_child(prompt: &str) -> Option<(Grid, Option<u8>)> {
    let (start, sum) = split_sum(prompt.trim_ascii());
    let (_, _, grid) = read_attempt(start)?;
    match sum {
        Some(sum) => Some((grid, Some(read_sum(sum)?))),
        None => Some((grid, None)),
    }
}

fn read_sum(text: &str) -> Option<u8> {
    number(text, 2).and_then(|sum| u8::try_from(sum).ok()).filter(|&sum| sum <= MAX_SUM)
}

fn split_sum(text: &str) -> (&str, Option<&str>) {
    text.split_once(SUM).map_or((text, None), |(grid, sum)| (grid, Some(sum)))
}

fn number(text: &str, most: usize) -> Option<u32> {
    let readable = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| readable)
}

/// The grid that a thread begins with, a child or the main thread.
pub fn first_grid(prompt: &str) -> Option<Grid> {
    let rest = prompt.strip_prefix(BUDGET).map_or(prompt, |rest| rest.split_once('\n').map_or("", |(_, rest)| rest));
    let (start, _) = split_sum(rest.trim_ascii());
    read_attempt(start).map(|(_, _, grid)| grid).or_else(|| read_grid(start))
}

/// The sum that a prompt names, as it stands there.
pub fn first_sum(prompt: &str) -> Option<&str> {
    split_sum(prompt.trim_ascii()).1
}

/// A child's part of the problem: the digit that was put in a cell; where that is not said, nothing.
pub fn label(prompt: &str) -> Option<String> {
    let (of, digit, _) = read_attempt(split_sum(prompt.trim_ascii()).0)?;
    Some(put(of, digit))
}

/// What a line tells, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A grid, what is known of its cells, or what is left to try.
    State,
    /// A digit that is tried.
    Step,
    /// Nothing is to be found this way: a cell has no candidate left.
    Dead,
}

/// What a line tells; `None` if no thread writes such a line.
pub fn kind(line: &str) -> Option<Kind> {
    let start = split_sum(line).0;
    if read_attempt(start).is_some() {
        return Some(Kind::Step);
    }
    if read_grid(start).is_some() {
        return Some(Kind::State);
    }
    if let Some(choices) = line.strip_prefix(PICK) {
        return choices.split(' ').all(|choice| read_choice(choice).is_some()).then_some(Kind::State);
    }
    if let Some(sums) = line.strip_prefix(SUMS).and_then(|rest| rest.strip_prefix(' ')) {
        return sums.split(' ').all(|sum| number(sum, 2).is_some()).then_some(Kind::State);
    }
    let entries: Option<Vec<_>> = line.split(' ').map(read_entry).collect();
    let empty = entries?.iter().any(|(_, candidates)| candidates.is_empty());
    Some(if empty { Kind::Dead } else { Kind::State })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, is) in [
            ("a1..4b.3..c..2.d4... sum=10", Some(Kind::State)),
            ("bx=1 a1..4b13..c..2.d4...", Some(Kind::Step)),
            ("ax=2 aw13 by=4", Some(Kind::State)),
            ("ax=2 by-", Some(Kind::Dead)),
            ("?bx13 cy24", Some(Kind::State)),
            ("sum 1 4 6 10", Some(Kind::State)),
            ("sum 1 4 x", None),
            ("?", None),
            ("", None),
            ("children: 2", None),
        ] {
            assert_eq!(kind(line), is, "{line}");
        }
    }
}
