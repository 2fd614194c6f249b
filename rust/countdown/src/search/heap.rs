//! The frontier of a search.

/// A binary heap with the exact mechanics of CPython's `heapq`: ties decide the order of traces.
#[derive(Clone, Debug)]
pub struct Heap<K, V> {
    items: Vec<(K, V)>,
}

impl<K: Ord + Copy, V: Copy> Default for Heap<K, V> {
    fn default() -> Heap<K, V> {
        Heap { items: Vec::new() }
    }
}

impl<K: Ord + Copy, V: Copy> Heap<K, V> {
    /// Adds an item.
    pub fn push(&mut self, key: K, value: V) {
        self.items.push((key, value));
        self.rise((key, value), self.items.len() - 1);
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<V> {
        let last = self.items.pop()?;
        let Some(first) = self.items.first_mut() else {
            return Some(last.1);
        };
        let top = *first;
        let end = self.items.len();
        let mut hole = 0;
        while 2 * hole + 1 < end {
            let left = 2 * hole + 1;
            let right = left + 1;
            let smaller = if right < end && self.items[left].0 >= self.items[right].0 { right } else { left };
            self.items[hole] = self.items[smaller];
            hole = smaller;
        }
        self.rise(last, hole);
        Some(top.1)
    }

    /// The first item.
    pub fn top(&self) -> Option<&V> {
        self.items.first().map(|(_, v)| v)
    }

    /// Takes all items out.
    pub fn clear(&mut self) {
        self.items.clear();
    }

    /// Puts an item at this position, or above the greater ones on its way to the top.
    fn rise(&mut self, item: (K, V), mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if item.0 >= self.items[parent].0 {
                break;
            }
            self.items[position] = self.items[parent];
            position = parent;
        }
        self.items[position] = item;
    }
}
