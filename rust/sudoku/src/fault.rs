//! Where a thread left what the teacher writes: from its first line on, each line follows from those before it.

use crate::search::{Method, Part, Search, search, search_from};
use crate::text;

/// The first character that cannot stand there, given those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Bytes of the text before it, all of them ASCII.
    pub at: usize,
    /// The rest of the line that stands there, with its break; `None` where a thread ends.
    pub right: Option<String>,
}

/// The first fault in the whole text of a thread, main or child, with a language's marks in it; `None` if there is none up
/// to its end, or to where it may spawn, or if the text begins with no problem. A text that is cut off has no fault by
/// that. A child that begins with its parent's text is read as its parent, so of its own nothing is told.
pub fn first_fault(text: &str, method: Method) -> Option<Fault> {
    let (search, mut at) = begun(text, method)?;
    for part in search.parts {
        let line = match part {
            Part::Line(line, _) => line,
            // What it does itself of what it could spawn, it may.
            Part::Children(_) => return None,
        };
        let written = &text.as_bytes()[at..];
        let alike = line.bytes().zip(written).take_while(|(right, is)| right == *is).count();
        if alike < line.len() {
            let cut_off = alike == written.len();
            return (!cut_off).then(|| Fault { at: at + alike, right: Some(line[alike..].to_owned()) });
        }
        at += line.len();
    }
    // Where the thread ends only marks of a language can stand, and those are not read here.
    let line = text[at..].lines().next()?;
    text::kind(line).map(|_| Fault { at, right: None })
}

/// What the thread should have written, and where in its text that begins.
fn begun(text: &str, method: Method) -> Option<(Search, usize)> {
    let first = text.find('\n')?;
    // A budget has a line of its own.
    let end = if text.starts_with(text::BUDGET) { first + 1 + text[first + 1..].find('\n')? } else { first };
    let prompt = &text[..end];
    let search = if let Ok((problem, budget)) = text::read_prompt(prompt) {
        search(&problem, method, budget)
    } else {
        let (grid, sum) = text::read_child(prompt)?;
        search_from(prompt.to_owned(), grid, sum)
    };
    Some((search, end + 1))
}
