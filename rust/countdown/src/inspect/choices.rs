//! Where a thread chose the steps that its nodes are made of.

use std::ops::Range;

use super::lines;
use crate::trace::EXPLORE;
use crate::trace::read::Line;

/// The step that a node is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The node's id.
    pub id: &'a str,
    /// The bytes of its two numbers and the sign between them, in the line that tried it: all else of that line, and
    /// the line that keeps the node, follows from them.
    pub place: Range<usize>,
}

/// Where a main thread decides, in bytes of its text: the first character of each of its own lines, for which kind of
/// line comes next, and the numbers and the sign of each step that it tries. All else follows from what stands before
/// it, or from the words of others: so does whatever it writes once it says that the goal is reached.
pub fn decisions(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, content, line) in own_lines(text) {
        if let Some(Line::Goal { .. }) = line {
            break;
        }
        if let Some(first) = content.chars().next() {
            found.push(at..at + first.len_utf8());
        }
        if let Some(Line::Explore { .. }) = line {
            found.push(step_place(at, content));
        }
    }
    found
}

/// The choices of a thread, in the order of its lines; join blocks are others' words. A node that comes again, as on
/// the way to a solution, was chosen where it came first.
pub fn choices(text: &str) -> Vec<Choice<'_>> {
    let mut found: Vec<Choice<'_>> = Vec::new();
    let mut tried = None;
    for (at, content, line) in own_lines(text) {
        match line {
            Some(Line::Explore { step, .. }) => tried = Some((step, step_place(at, content))),
            Some(Line::Generated { id, step, .. }) => {
                if let Some((_, place)) = tried.take().filter(|(of, _)| *of == step) {
                    found.push(Choice { id, place });
                }
            }
            _ => {}
        }
    }
    let mut known = std::collections::HashSet::new();
    found.retain(|choice| known.insert(choice.id));
    found
}

/// The lines of a thread that are its own, as [`lines`] cuts them, each with what it reads as.
fn own_lines(text: &str) -> impl Iterator<Item = (usize, &str, Option<Line<'_>>)> {
    let mut joining = false;
    lines(text).map(|(at, content)| (at, content, Line::parse(content))).filter(move |(.., line)| {
        let joins = joining || matches!(line, Some(Line::Join));
        joining = joins && !matches!(line, Some(Line::EndJoin));
        !joins
    })
}

/// Where the numbers and the sign of the step stand that an exploring line, which begins at a byte, tries.
fn step_place(at: usize, line: &str) -> Range<usize> {
    let begin = at + EXPLORE.len();
    let length = line[EXPLORE.len()..].find('=').unwrap_or(0);
    begin..begin + length
}
