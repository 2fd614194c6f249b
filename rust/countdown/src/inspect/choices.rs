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

/// The choices of a thread, in the order of its lines; join blocks are others' words. A node that comes again, as on
/// the way to a solution, was chosen where it came first.
pub fn choices(text: &str) -> Vec<Choice<'_>> {
    let mut found: Vec<Choice<'_>> = Vec::new();
    let (mut joining, mut tried) = (false, None);
    for (at, content) in lines(text) {
        match Line::parse(content) {
            Some(Line::Join) => joining = true,
            Some(Line::EndJoin) => joining = false,
            _ if joining => {}
            Some(Line::Explore { step, .. }) => {
                let begin = at + EXPLORE.len();
                let length = content[EXPLORE.len()..].find('=').unwrap_or(0);
                tried = Some((step, begin..begin + length));
            }
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
