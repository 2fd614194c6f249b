//! A request on its way: its tokens, the pages that hold them, and how much of them the tree knows.

use std::time::Instant;

use crate::cache::{Cache, Inserted, NodeId, PAGE, PageId, ROOT};
use crate::request::{Request, Timing};

#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) request: Request,
    /// The prompt and what was sampled.
    pub(crate) tokens: Vec<u32>,
    /// Tokens in all when the request must end.
    pub(crate) limit: usize,
    /// Tokens whose keys and values are in `pages`, those of the planned step included.
    pub(crate) computed: usize,
    pub(crate) pages: Vec<PageId>,
    /// Full pages that are in the tree, the last of them in `node`.
    pub(crate) published: usize,
    pub(crate) node: NodeId,
    /// The node of the begun page after them.
    pub(crate) tail: Option<NodeId>,
    /// Set at the first admission.
    pub(crate) cached: Option<usize>,
    /// The last turn that was its own, counted over the scheduler's life; 0: none yet.
    pub(crate) turn: u64,
    submitted: Instant,
    /// Since the first admission.
    admitted: Option<Instant>,
    /// Since the first token.
    decoding: Option<Instant>,
}

impl Sequence {
    /// A request whose prompt fits the context.
    pub(crate) fn new(request: Request, context_length: usize) -> Self {
        let left = context_length - request.prompt.len();
        let limit = request.prompt.len() + request.max_tokens.unwrap_or(left).min(left);
        Self {
            tokens: request.prompt.clone(),
            limit,
            computed: 0,
            pages: Vec::new(),
            published: 0,
            node: ROOT,
            tail: None,
            cached: None,
            turn: 0,
            submitted: Instant::now(),
            admitted: None,
            decoding: None,
            request,
        }
    }

    /// Tokens that are not computed; one for a sequence that decodes.
    pub(crate) fn left(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Notes that it runs, and how many of its tokens were there already.
    pub(crate) fn admit(&mut self, cached: usize) {
        self.cached = Some(cached);
        self.admitted = Some(Instant::now());
    }

    /// Where its time went, now that `sampled` says whether it has a token.
    pub(crate) fn timing(&mut self, sampled: bool) -> Timing {
        let now = Instant::now();
        if sampled {
            self.decoding.get_or_insert(now);
        }
        let admitted = self.admitted.unwrap_or(now);
        let decoding = self.decoding.unwrap_or(now);
        Timing {
            queue: (admitted - self.submitted).as_secs_f64(),
            prefill: (decoding - admitted).as_secs_f64(),
            decode: (now - decoding).as_secs_f64(),
        }
    }

    /// Gives all pages up; the tree keeps its own.
    pub(crate) fn release(&mut self, cache: &mut Cache) {
        for page in self.pages.drain(..) {
            cache.release(page);
        }
        self.computed = 0;
        self.published = 0;
        self.node = ROOT;
        self.tail = None;
    }

    /// Puts the computed pages into the tree. With `settled` all of them are computed by now, and a page that the tree
    /// has already is given up for the tree's; before that, the sequence may still have to write it.
    pub(crate) fn publish(&mut self, cache: &mut Cache, settled: bool) {
        while self.published < self.computed / PAGE {
            if let Some(tail) = self.tail.take() {
                cache.remove(tail);
            }
            let at = self.published * PAGE;
            let tokens = &self.tokens[at..at + PAGE];
            match cache.insert_prefix(self.node, tokens, self.pages[self.published]) {
                Inserted::New(node) => self.node = node,
                Inserted::Present(node, page) if settled => {
                    cache.lock(page);
                    cache.release(self.pages[self.published]);
                    self.pages[self.published] = page;
                    self.node = node;
                }
                Inserted::Present(..) | Inserted::Covered => return,
            }
            self.published += 1;
        }
        let at = self.published * PAGE;
        if at < self.computed {
            if let Some(tail) = self.tail.take() {
                cache.remove(tail);
            }
            let tokens = &self.tokens[at..self.computed];
            let page = self.pages[self.published];
            if let Inserted::New(node) = cache.insert_prefix(self.node, tokens, page) {
                self.tail = Some(node);
            }
        }
    }
}
