//! Whose searches are taught.

use crate::problem::Error;
use crate::sample::{Choices, Random};
use crate::search::{Below, Method, Waves};

/// Which searches a stream of teacher traces holds. Both widths are drawn anew for each problem.
#[derive(Clone, Debug, PartialEq)]
pub enum Teacher {
    /// SoS+ search.
    SosPlus {
        /// Smallest and largest width.
        beam_size: (usize, usize),
        /// Probability that a node is promising.
        promising: f64,
    },
    /// APR search.
    Apr {
        /// Smallest and largest width of the main thread.
        beam_size: (usize, usize),
        /// Smallest and largest width of children; no child is narrower than its parent if it can be as wide.
        child_beam_size: (usize, usize),
        /// Probability that a node is promising.
        promising: f64,
    },
    /// Search in waves.
    Waves {
        /// Serially, in sub searches of one thread.
        serial: bool,
        /// Smallest and largest budget of children. Unless its prompt names the budget, a thread that spawns has none.
        budget: Option<(usize, usize)>,
        /// Sizes that waves are drawn from.
        sizes: Vec<usize>,
        /// Probability that the main thread spawns, rather than search below the root itself.
        promising: f64,
        /// Width of the searches below the root.
        child_beam_size: usize,
        /// Whether the root's steps come in random order.
        shuffled: bool,
    },
}

impl Teacher {
    /// The search of one problem; `conditioned`: its prompt names a budget.
    pub(super) fn method(&self, conditioned: bool, random: &mut Random) -> Result<Method, Error> {
        let mut width = |(low, high): (usize, usize)| match 1 <= low && low <= high {
            true => Ok(random.between(low as u64, high as u64) as usize),
            false => Err(Error::Parameter(format!("a width from {low} to {high}"))),
        };
        Ok(match *self {
            Teacher::SosPlus { beam_size, promising } => Method::SosPlus { beam_size: width(beam_size)?, promising },
            Teacher::Apr { beam_size, child_beam_size: (low, high), promising } => {
                let beam_size = width(beam_size)?;
                let child_beam_size = width((low.max(beam_size.min(high)), high))?;
                Method::Apr { beam_size, child_beam_size, promising }
            }
            Teacher::Waves { serial, budget, ref sizes, promising, child_beam_size, shuffled } => {
                if !(0.0..=1.0).contains(&promising) {
                    return Err(Error::Parameter(format!("promising is a probability, not {promising}")));
                }
                let budget = budget.map(&mut width).transpose()?;
                let below = match serial {
                    true => Below::SubSearches,
                    false if random.promising(promising)? => Below::Children,
                    false => Below::Main,
                };
                let free = below == Below::Children && !conditioned;
                let budget = budget.filter(|_| !free);
                Method::Waves(Waves { below, budget, sizes: sizes.clone(), child_beam_size, shuffled })
            }
        })
    }
}
