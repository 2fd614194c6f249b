//! A pool of threads for work that takes microseconds: one job at a time, its tasks claimed one by one.
//!
//! `state` packs (epoch, open bit, workers inside). A worker enters a job only while it is open, and the caller, once
//! no task is left, closes the job and waits for the workers inside; a worker that the system has put aside is not
//! waited for. One that is put aside in the middle of a task is: after such a stall the caller works alone for a while,
//! as on a machine that others keep busy a second thread costs more than it brings. Workers spin a short while between jobs, then park. A decode step is about twenty jobs of ten
//! microseconds, which a general work-stealing pool spends mostly on waking its workers.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

const INSIDE: u64 = (1 << 16) - 1;
const OPEN: u64 = 1 << 16;
const EPOCH: u64 = 1 << 17;
/// A wait of the caller beyond this, and beyond its own share of the job, means that a worker lost its processor.
const STALL: Duration = Duration::from_micros(200);
/// How many times as long as it lost to a stall the caller then works alone.
const REST: u32 = 16;
/// Longer than the gap between two jobs of a step and between two steps, short enough not to matter on a meter.
const SPIN: Duration = Duration::from_micros(100);

#[derive(Clone, Copy)]
struct Job {
    call: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

struct Shared {
    state: AtomicU64,
    next: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panicked: AtomicBool,
    stop: AtomicBool,
}

// SAFETY: `job` is written only by the caller while no worker is inside (and none can enter), and read only by workers
// inside; `state` orders the two.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is dereferenced only while the caller of `run`, who owns the target, waits.
unsafe impl Send for Shared {}

struct Worker {
    parked: Arc<AtomicBool>,
    thread: Thread,
    handle: JoinHandle<()>,
}

/// The threads; the caller's own counts as one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    /// Until when the caller works alone.
    resting: Option<Instant>,
    /// Whose threads they are.
    process: u32,
}

impl Pool {
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            panicked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new(), resting: None, process: std::process::id() };
        for index in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let parked = Arc::new(AtomicBool::new(false));
            let flag = Arc::clone(&parked);
            let handle =
                std::thread::Builder::new().name(format!("apr-decoder-{index}")).spawn(move || work(&shared, &flag))?;
            pool.workers.push(Worker { parked, thread: handle.thread().clone(), handle });
        }
        Ok(pool)
    }

    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `call(0)` to `call(tasks - 1)`, in any order, on any thread; returns when all have returned.
    pub(crate) fn run(&mut self, tasks: usize, call: &(dyn Fn(usize) + Sync)) {
        let started = Instant::now();
        if self.resting.is_some_and(|until| started >= until) {
            self.resting = None;
        }
        if tasks <= 1 || self.workers.is_empty() || self.resting.is_some() {
            (0..tasks).for_each(call);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: the lifetime is erased only until this function returns; `Inside` makes it wait, even when `call`
        // unwinds, for every worker that could still use it.
        let erased: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(call) };
        // SAFETY: the job is closed and no worker is inside, so nobody reads `job` now.
        unsafe {
            *shared.job.get() = Some(Job { call: erased, tasks });
        }
        shared.next.store(0, Ordering::Relaxed);
        let epoch = (shared.state.load(Ordering::Relaxed) / EPOCH).wrapping_add(1);
        shared.state.store(epoch.wrapping_mul(EPOCH) | OPEN, Ordering::SeqCst);
        for worker in &self.workers {
            if worker.parked.load(Ordering::SeqCst) {
                worker.thread.unpark();
            }
        }
        let closing = Closing(shared);
        claim(shared, Job { call: erased, tasks });
        let claimed = started.elapsed();
        drop(closing);
        let waited = started.elapsed() - claimed;
        if waited > STALL.max(claimed) {
            self.resting = Some(Instant::now() + waited * REST);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a task of the pool panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // A fork copies no threads: there is nobody to join.
            std::mem::forget(std::mem::take(&mut self.workers));
            return;
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread.unpark();
            // A worker's panic was reported by `run`.
            let _ = worker.handle.join();
        }
    }
}

/// Closes the job and waits for the workers inside it.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.fetch_and(!OPEN, Ordering::Acquire);
        let mut spins = 0_u32;
        while state & INSIDE != 0 {
            spins += 1;
            if spins.is_multiple_of(256) {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            state = self.0.state.load(Ordering::Acquire);
        }
    }
}

/// Leaves the job, on a panic too.
struct Inside<'a>(&'a Shared, PhantomData<*const ()>);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked.store(true, Ordering::Relaxed);
        }
        self.0.state.fetch_sub(1, Ordering::Release);
    }
}

fn claim(shared: &Shared, job: Job) {
    // SAFETY: `run` keeps the target alive until every thread inside the job has left it.
    let call = unsafe { &*job.call };
    loop {
        let task = shared.next.fetch_add(1, Ordering::Relaxed);
        if task >= job.tasks {
            return;
        }
        call(task);
    }
}

fn work(shared: &Shared, parked: &AtomicBool) {
    let mut seen = 0;
    let mut idle_since = Instant::now();
    let mut spins = 0_u32;
    while !shared.stop.load(Ordering::Relaxed) {
        let state = shared.state.load(Ordering::SeqCst);
        let epoch = state / EPOCH;
        if state & OPEN != 0 && epoch != seen {
            let entered = shared.state.compare_exchange_weak(state, state + 1, Ordering::Acquire, Ordering::Relaxed);
            if entered.is_ok() {
                let inside = Inside(shared, PhantomData);
                // SAFETY: this thread is inside an open job, so the caller does not write `job`.
                let job = unsafe { *shared.job.get() };
                if let Some(job) = job {
                    claim(shared, job);
                }
                seen = epoch;
                drop(inside);
                idle_since = Instant::now();
            }
            continue;
        }
        std::hint::spin_loop();
        spins = spins.wrapping_add(1);
        if !spins.is_multiple_of(64) {
            continue;
        }
        // The caller may be waiting for this very processor.
        std::thread::yield_now();
        if idle_since.elapsed() > SPIN {
            // The flag goes up before the last look at the state, and `run` stores the state before it looks at the
            // flag: one of the two sees the other.
            parked.store(true, Ordering::SeqCst);
            let state = shared.state.load(Ordering::SeqCst);
            let waiting = state & OPEN != 0 && state / EPOCH != seen;
            if !waiting && !shared.stop.load(Ordering::SeqCst) {
                std::thread::park();
            }
            parked.store(false, Ordering::SeqCst);
            idle_since = Instant::now();
        }
    }
}

/// A slice that several tasks write at once, each its own part.
pub(crate) struct Disjoint<'a, T = f32> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through the unsafe `part`, whose caller promises that parts in use at one time do not overlap.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The start, for kernels that write a strided part; the promise of `part` holds for what they write.
    pub(crate) fn pointer(&self) -> *mut T {
        self.start
    }

    /// The part `start..start + len`.
    ///
    /// # Safety
    /// No other part that is in use at the same time may overlap it.
    #[allow(clippy::mut_from_ref)]
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start + len <= self.len);
        // SAFETY: inside the slice by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 5] {
            let mut pool = Pool::new(threads).unwrap();
            for round in 0..2000 {
                let counts: Vec<AtomicUsize> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
                pool.run(counts.len(), &|task| {
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                if round % 500 == 0 {
                    std::thread::sleep(2 * SPIN);
                }
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let mut pool = Pool::new(2).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(8, &|task| assert!(task != 3));
        }));
        assert!(caught.is_err());
    }
}
