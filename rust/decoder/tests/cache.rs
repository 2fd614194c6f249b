//! The radix tree against a flat list that does the same by looking at everything.

use apr_decoder::cache::{Cache, Inserted, Match, NodeId, PAGE, PageId, ROOT};
use proptest::prelude::*;

const PAGES: usize = 24;

#[derive(Debug, Clone)]
enum Step {
    /// Match, then hold the path and a page for each begun page of the rest, as a request does.
    Hold(Vec<u32>),
    /// Release what the nth holder holds.
    Drop(usize),
    Match(Vec<u32>),
    Evict(usize),
}

fn tokens() -> impl Strategy<Value = Vec<u32>> {
    // Few tokens and repeats, so that prefixes are shared and branch inside pages.
    (0_u32..3, 1_usize..70, 0_usize..70, 0_u32..3)
        .prop_map(|(first, len, turn, then)| (0..len).map(|at| if at < turn { first } else { then }).collect())
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => tokens().prop_map(Step::Hold),
        3 => (0_usize..8).prop_map(Step::Drop),
        2 => tokens().prop_map(Step::Match),
        1 => (1_usize..6).prop_map(Step::Evict),
    ];
    prop::collection::vec(step, 1..40)
}

struct Entry {
    /// All tokens up to the page's end.
    path: Vec<u32>,
    page: PageId,
    last_used: u64,
}

/// The twin.
#[derive(Default)]
struct Flat {
    entries: Vec<Entry>,
    /// One entry a lock.
    locks: Vec<PageId>,
    clock: u64,
}

impl Flat {
    fn locked(&self, page: PageId) -> bool {
        self.locks.contains(&page)
    }

    /// The longest common prefix with any entry.
    fn longest(&self, tokens: &[u32]) -> usize {
        let common = |path: &[u32]| path.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        self.entries.iter().map(|entry| common(&entry.path)).max().unwrap_or(0)
    }

    fn touch(&mut self, found: &Match) {
        self.clock += 1;
        let pages = found.pages.iter().copied().chain(found.partial.map(|(page, _)| page));
        for page in pages {
            let entry = self.entries.iter_mut().find(|entry| entry.page == page);
            entry.expect("a matched page is in the tree").last_used = self.clock;
        }
    }

    fn insert(&mut self, path: &[u32], page: PageId) {
        self.clock += 1;
        let parent = (path.len() - 1) / PAGE * PAGE;
        let sibling =
            |entry: &Entry| (entry.path.len() - 1) / PAGE * PAGE == parent && entry.path[..parent] == path[..parent];
        // What stands right before the new page among its siblings goes if it begins it and nobody uses it.
        let before = (0..self.entries.len())
            .filter(|at| sibling(&self.entries[*at]) && self.entries[*at].path[..] < *path)
            .max_by(|a, b| self.entries[*a].path.cmp(&self.entries[*b].path));
        if let Some(at) = before {
            let entry = &self.entries[at];
            if path.starts_with(&entry.path) && !self.locked(entry.page) {
                self.entries.remove(at);
            }
        }
        self.entries.push(Entry { path: path.to_vec(), page, last_used: self.clock });
    }

    /// Pages that can go, sooner or later.
    fn evictable(&self) -> usize {
        self.entries.iter().filter(|entry| !self.locked(entry.page)).count()
    }

    fn evict(&mut self, count: usize) -> usize {
        for freed in 0..count {
            let leaf = |entry: &&Entry| {
                let child = |other: &Entry| other.path.len() > entry.path.len() && other.path.starts_with(&entry.path);
                // Two short pages of one parent are no parent and child.
                let full = entry.path.len().is_multiple_of(PAGE);
                let parent = full && self.entries.iter().any(child);
                !self.locked(entry.page) && !parent
            };
            let oldest = self.entries.iter().filter(leaf).min_by_key(|entry| entry.last_used);
            let Some(page) = oldest.map(|entry| entry.page) else {
                return freed;
            };
            self.entries.retain(|entry| entry.page != page);
        }
        count
    }
}

/// What a request does at its admission and its end, in one.
fn hold(cache: &mut Cache, flat: &mut Flat, tokens: &[u32]) -> Option<Vec<PageId>> {
    let found = cache.match_prefix(tokens);
    assert_eq!(found.len(), flat.longest(tokens));
    flat.touch(&found);
    let mut held = found.pages.clone();
    for page in &held {
        cache.lock(*page);
        flat.locks.push(*page);
    }
    let mut node: NodeId = found.node;
    for start in (found.pages.len() * PAGE..tokens.len()).step_by(PAGE) {
        let end = tokens.len().min(start + PAGE);
        let used = cache.used();
        let Some(page) = cache.allocate() else {
            assert_eq!(flat.evictable(), 0);
            release(cache, flat, held);
            return None;
        };
        if used == PAGES {
            assert!(flat.evict(PAGES.div_ceil(64)) > 0);
        }
        assert!(!flat.entries.iter().any(|entry| entry.page == page), "a page in use was given out");
        flat.locks.push(page);
        held.push(page);
        match cache.insert_prefix(node, &tokens[start..end], page) {
            Inserted::New(new) => {
                node = new;
                flat.insert(&tokens[..end], page);
            }
            Inserted::Present(..) | Inserted::Covered => {
                flat.clock += 1;
                assert!(flat.longest(tokens) >= end);
                break;
            }
        }
    }
    Some(held)
}

fn release(cache: &mut Cache, flat: &mut Flat, held: Vec<PageId>) {
    for page in held {
        cache.release(page);
        let at = flat.locks.iter().position(|lock| *lock == page).unwrap();
        flat.locks.swap_remove(at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_its_twin(steps in steps()) {
        let mut cache = Cache::new(PAGES);
        let mut flat = Flat::default();
        let mut holders: Vec<Vec<PageId>> = Vec::new();
        for step in steps {
            match step {
                Step::Hold(tokens) => holders.extend(hold(&mut cache, &mut flat, &tokens)),
                Step::Drop(at) if !holders.is_empty() => {
                    let held = holders.remove(at % holders.len());
                    release(&mut cache, &mut flat, held);
                }
                Step::Drop(_) => {}
                Step::Match(tokens) => {
                    let found = cache.match_prefix(&tokens);
                    prop_assert_eq!(found.len(), flat.longest(&tokens));
                    for (index, page) in found.pages.iter().enumerate() {
                        let entry = flat.entries.iter().find(|entry| entry.page == *page).unwrap();
                        prop_assert_eq!(&entry.path[..], &tokens[..(index + 1) * PAGE]);
                    }
                    flat.touch(&found);
                }
                Step::Evict(count) => prop_assert_eq!(cache.evict(count), flat.evict(count)),
            }
            let mut used: Vec<PageId> = flat.entries.iter().map(|entry| entry.page).collect();
            used.extend(&flat.locks);
            used.sort_unstable();
            used.dedup();
            prop_assert_eq!(cache.used(), used.len());
            prop_assert_eq!(cache.available(), PAGES - used.len() + flat.evictable());
        }
        for held in holders {
            release(&mut cache, &mut flat, held);
        }
        prop_assert_eq!(cache.available(), PAGES);
        cache.evict(PAGES);
        prop_assert_eq!(cache.used(), 0);
    }
}

#[test]
fn clear_leaves_held_pages_to_their_holders() {
    let mut cache = Cache::new(4);
    let page = cache.allocate().unwrap();
    assert!(matches!(cache.insert_prefix(ROOT, &[1, 2, 3], page), Inserted::New(_)));
    cache.clear();
    assert!(cache.match_prefix(&[1, 2, 3]).is_empty());
    assert_eq!(cache.used(), 1);
    cache.release(page);
    assert_eq!(cache.used(), 0);
}
