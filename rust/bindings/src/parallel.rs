//! Work over the items of a range, on all processors.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

/// What `work` makes of each item, in their order.
///
/// A process that was forked from one that had worked so has none of its threads, and would wait for them: it works
/// alone.
pub(crate) fn map<T: Send, E: Send>(
    items: Range<u64>,
    work: impl Fn(u64) -> Result<T, E> + Send + Sync,
) -> Result<Vec<T>, E> {
    static OWNER: OnceLock<u32> = OnceLock::new();
    let own = std::process::id();
    if *OWNER.get_or_init(|| own) == own {
        items.into_par_iter().map(work).collect()
    } else {
        items.map(work).collect()
    }
}
