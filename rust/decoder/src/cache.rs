//! Which tokens the KV cache holds: a radix tree over token ids whose nodes are pages.
//!
//! A node's key is the tokens of its page; the path from the root is the sequence. Only full pages have children, so a
//! sequence that ends or branches inside a page is a leaf with a short key, and a match inside a page is served by
//! copying the page's first tokens. Every page counts its users: the tree is one, each lock another. A request locks
//! the whole path it uses, so a page with one user can go as soon as it is a leaf; `evict` takes such leaves, least
//! recently used first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Tokens of a page.
pub const PAGE: usize = 16;

/// A page of the cache.
pub type PageId = u32;
/// A node of the tree.
pub type NodeId = u32;

/// The node above all sequences; it has no page.
pub const ROOT: NodeId = 0;

/// Up to a page of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    len: u8,
    tokens: [u32; PAGE],
}

impl Key {
    fn new(tokens: &[u32]) -> Self {
        let mut key = Self { len: tokens.len() as u8, tokens: [0; PAGE] };
        key.tokens[..tokens.len()].copy_from_slice(tokens);
        key
    }

    fn as_slice(&self) -> &[u32] {
        &self.tokens[..self.len as usize]
    }
}

#[derive(Debug, Clone)]
struct Node {
    key: Key,
    page: PageId,
    parent: NodeId,
    /// In the order of their keys.
    children: Vec<NodeId>,
    last_used: u64,
}

/// The cached prefix of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Node of the last full page, the root if there is none.
    pub node: NodeId,
    /// The full pages, in order.
    pub pages: Vec<PageId>,
    /// A page that begins with the next tokens, and how many of them.
    pub partial: Option<(PageId, usize)>,
}

impl Match {
    /// Cached tokens.
    pub fn len(&self) -> usize {
        self.pages.len() * PAGE + self.partial.map_or(0, |(_, count)| count)
    }

    /// Whether nothing is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What became of an inserted page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is in the tree under this node.
    New(NodeId),
    /// The tree holds these tokens already, in this node and page.
    Present(NodeId, PageId),
    /// A short key that other pages of the tree begin with: not worth a node.
    Covered,
}

/// Pages, their users, and the tree.
#[derive(Debug, Clone)]
pub struct Cache {
    nodes: Vec<Option<Node>>,
    free_nodes: Vec<NodeId>,
    free_pages: Vec<PageId>,
    users: Vec<u32>,
    in_tree: Vec<bool>,
    /// Pages whose only user is the tree.
    evictable: usize,
    clock: u64,
}

impl Cache {
    /// A cache of `pages` free pages.
    pub fn new(pages: usize) -> Self {
        let root = Node { key: Key::new(&[]), page: PageId::MAX, parent: ROOT, children: Vec::new(), last_used: 0 };
        Self {
            nodes: vec![Some(root)],
            free_nodes: Vec::new(),
            free_pages: (0..pages as PageId).rev().collect(),
            users: vec![0; pages],
            in_tree: vec![false; pages],
            evictable: 0,
            clock: 0,
        }
    }

    /// All pages.
    pub fn capacity(&self) -> usize {
        self.users.len()
    }

    /// Pages that `allocate` can give: the free and the evictable.
    pub fn available(&self) -> usize {
        self.free_pages.len() + self.evictable
    }

    /// Pages that hold something.
    pub fn used(&self) -> usize {
        self.capacity() - self.free_pages.len()
    }

    /// The longest cached prefix of `tokens`; marks it as used now, but does not lock it.
    pub fn match_prefix(&mut self, tokens: &[u32]) -> Match {
        self.clock += 1;
        let mut found = Match { node: ROOT, pages: Vec::new(), partial: None };
        for chunk in tokens.chunks(PAGE) {
            let siblings = &self.node(found.node).children;
            let place = self.place(found.node, chunk);
            // In sorted order the key with the longest common prefix is next to where `chunk` would stand.
            let neighbours = [place.checked_sub(1), Some(place)];
            let best = neighbours
                .into_iter()
                .flatten()
                .filter_map(|at| siblings.get(at).copied())
                .map(|id| (common(self.node(id).key.as_slice(), chunk), id))
                .max_by_key(|(count, _)| *count);
            let Some((count, id)) = best.filter(|(count, _)| *count > 0) else {
                break;
            };
            let now = self.clock;
            let node = self.node_mut(id);
            node.last_used = now;
            if count < PAGE {
                found.partial = Some((node.page, count));
                break;
            }
            found.pages.push(node.page);
            found.node = id;
        }
        found
    }

    /// Adds the page that holds `tokens`, at most a page of them, after the full page of `parent`.
    ///
    /// A new page counts the tree as a user beside the caller.
    pub fn insert_prefix(&mut self, parent: NodeId, tokens: &[u32], page: PageId) -> Inserted {
        debug_assert!(parent == ROOT || self.node(parent).key.as_slice().len() == PAGE);
        self.clock += 1;
        let place = self.place(parent, tokens);
        if let Some(id) = self.node(parent).children.get(place).copied() {
            let node = self.node(id);
            if node.key.as_slice() == tokens {
                return Inserted::Present(id, node.page);
            }
            if node.key.as_slice().starts_with(tokens) {
                return Inserted::Covered;
            }
        }
        // A shorter page that the new one begins with serves nobody any more.
        if let Some(before) = place.checked_sub(1) {
            let id = self.node(parent).children[before];
            let node = self.node(id);
            if tokens.starts_with(node.key.as_slice()) && self.users[node.page as usize] == 1 {
                self.remove(id);
            }
        }
        let place = self.place(parent, tokens);
        let node = Node { key: Key::new(tokens), page, parent, children: Vec::new(), last_used: self.clock };
        let id = match self.free_nodes.pop() {
            Some(id) => {
                self.nodes[id as usize] = Some(node);
                id
            }
            None => {
                self.nodes.push(Some(node));
                (self.nodes.len() - 1) as NodeId
            }
        };
        self.node_mut(parent).children.insert(place, id);
        self.in_tree[page as usize] = true;
        self.users[page as usize] += 1;
        Inserted::New(id)
    }

    /// Takes a leaf out of the tree; its page stays with its other users.
    pub fn remove(&mut self, id: NodeId) {
        let node = self.node(id);
        debug_assert!(id != ROOT && node.children.is_empty());
        let (parent, page) = (node.parent, node.page as usize);
        let place = self.place(parent, node.key.as_slice());
        self.node_mut(parent).children.remove(place);
        self.nodes[id as usize] = None;
        self.free_nodes.push(id);
        if self.users[page] == 1 {
            self.evictable -= 1;
        }
        self.in_tree[page] = false;
        self.release(page as PageId);
    }

    /// Counts one more user of a page, which has one already.
    pub fn lock(&mut self, page: PageId) {
        if self.in_tree[page as usize] && self.users[page as usize] == 1 {
            self.evictable -= 1;
        }
        self.users[page as usize] += 1;
    }

    /// Counts one user less; a page without any is free.
    pub fn release(&mut self, page: PageId) {
        let users = &mut self.users[page as usize];
        *users -= 1;
        match *users {
            0 => self.free_pages.push(page),
            1 if self.in_tree[page as usize] => self.evictable += 1,
            _ => {}
        }
    }

    /// A page for the caller alone, who is its first user; evicts if none is free.
    pub fn allocate(&mut self) -> Option<PageId> {
        if self.free_pages.is_empty() {
            // Looking for the least recently used walks all nodes, so each walk serves a number of allocations.
            self.evict(self.capacity().div_ceil(64));
        }
        let page = self.free_pages.pop()?;
        self.users[page as usize] = 1;
        Some(page)
    }

    /// Frees up to `count` pages that only the tree uses, least recently used first; returns how many.
    pub fn evict(&mut self, count: usize) -> usize {
        let leaf = |cache: &Self, id: NodeId| {
            let node = cache.nodes[id as usize].as_ref()?;
            let evictable = id != ROOT && node.children.is_empty() && cache.users[node.page as usize] == 1;
            evictable.then_some(Reverse((node.last_used, id)))
        };
        let mut leaves: BinaryHeap<_> = (0..self.nodes.len() as NodeId).filter_map(|id| leaf(self, id)).collect();
        let mut freed = 0;
        while freed < count {
            let Some(Reverse((_, id))) = leaves.pop() else {
                break;
            };
            let parent = self.node(id).parent;
            self.remove(id);
            freed += 1;
            leaves.extend(leaf(self, parent));
        }
        freed
    }

    /// Empties the tree; pages that somebody else uses stay with them.
    pub fn clear(&mut self) {
        for id in 1..self.nodes.len() {
            if let Some(node) = self.nodes[id].take() {
                let page = node.page as usize;
                if self.users[page] == 1 {
                    self.evictable -= 1;
                }
                self.in_tree[page] = false;
                self.release(node.page);
            }
        }
        self.nodes.truncate(1);
        self.node_mut(ROOT).children.clear();
        self.free_nodes.clear();
    }

    /// Where among the children of `parent` a key of these tokens stands or would stand.
    fn place(&self, parent: NodeId, tokens: &[u32]) -> usize {
        self.node(parent).children.partition_point(|id| self.node(*id).key.as_slice() < tokens)
    }

    fn node(&self, id: NodeId) -> &Node {
        self.nodes[id as usize].as_ref().expect("a live node")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id as usize].as_mut().expect("a live node")
    }
}

/// Length of the common prefix.
pub(crate) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
