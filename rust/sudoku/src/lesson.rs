//! The endless stream of the teacher's searches.

use crate::Error;
use crate::sample::{ProblemSpace, Random};
use crate::search::{Method, Search, search};

const LESSON_STREAM: u64 = 2;

/// What is taught.
#[derive(Clone, Debug)]
pub struct LessonPlan {
    /// How searches are written.
    pub method: Method,
    /// Which problems are searched.
    pub space: ProblemSpace,
    /// Budgets to draw from.
    pub budgets: Vec<u32>,
    /// The share of prompts that name a budget.
    pub budgeted: f64,
}

impl LessonPlan {
    /// Search `item` under a seed.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a plan that is out of range.
    pub fn get(&self, seed: u64, item: u64) -> Result<Search, Error> {
        let mut random = Random::new(seed, LESSON_STREAM, item);
        let named = random.unit() < self.budgeted && !self.budgets.is_empty();
        let budget = named.then(|| self.budgets[random.below(self.budgets.len() as u64) as usize]);
        Ok(search(&self.space.draw(&mut random)?, self.method, budget))
    }
}
