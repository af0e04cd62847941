//! What one piece of work may cost: its steps, its memory and its stack.
//!
//! An expression of a few characters can run for ever or take all memory, and a body can be made so that a harmless one does. jaq has
//! no bounds of its own, but each term that it evaluates and each value that it makes goes through code of ours. So the work is
//! counted there, and what goes too far is unwound: no `try` of an expression can catch that. What is counted is work and not time,
//! so that every attempt ends the same way.
//!
//! The counters belong to the thread that [`run`] makes for the work. On any other thread nothing is counted. Work within such work goes on
//! counting the steps of the whole: so everything that a delivery takes shares one budget.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

/// Most steps of a delivery: its parse, contracts, filters, order and map together. About a quarter of a second of a whole CPU.
pub const STEPS_MAX: u64 = 4_000_000;
/// Most memory of each of these, in bytes, while it goes on. Strings count also after they were let go of.
pub const MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much larger the stack's frames are where nothing is optimised.
const FRAMES: usize = if cfg!(debug_assertions) { 8 } else { 1 };
/// How deep the evaluation may go, in bytes of stack: a function that calls itself some thousand times before it is done.
const RECURSION_BYTES_MAX: usize = 4 * 1024 * 1024 * FRAMES;
/// The most terms that one evaluation has.
const TERMS_MAX: u64 = STEPS_MAX / TERM_STEPS as u64;
/// What it may take of the stack to drop one entry of a list of jaq's, in bytes. It drops its lists recursively, and they may have as
/// many entries as there were terms.
const DROP_BYTES_MAX: usize = 72 * FRAMES;
/// The stack of the work, in bytes. Of these only those exist that were used.
const STACK_BYTES: usize = 2 * RECURSION_BYTES_MAX + TERMS_MAX as usize * DROP_BYTES_MAX;
/// Steps for each term that is evaluated, and for each context that is made for one.
const TERM_STEPS: usize = 4;
/// One step for so many bytes of text that are copied, compared or searched.
const BYTES_PER_STEP: usize = 64;

/// Why the work was unwound, or never begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// More than [`STEPS_MAX`].
    Steps,
    /// More than [`MEMORY_BYTES_MAX`].
    Memory,
    /// More than [`RECURSION_BYTES_MAX`].
    Recursion,
    /// A value nested deeper than [`super::JSON_DEPTH_MAX`].
    Nesting,
    /// A panic, which is a mistake in the code.
    Panic,
    /// There is no thread to be had.
    NoThread,
}

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    static BYTES_LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Where the stack begins; it grows towards lower addresses. Zero where nothing is counted.
    static STACK_BEGIN: Cell<usize> = const { Cell::new(0) };
}

/// Does the work on a thread of its own, within the bounds; within other such work, on that one's, with the steps that it has left.
pub(crate) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Stopped> {
    if STACK_BEGIN.get() == 0 { run_within(STEPS_MAX, work) } else { run_here(work) }
}

/// Unwinding ends here: the work around it goes on, with the steps that are left.
fn run_here<T>(work: impl FnOnce() -> T) -> Result<T, Stopped> {
    let bytes_left = BYTES_LEFT.replace(MEMORY_BYTES_MAX);
    let worked = catch_unwind(AssertUnwindSafe(work));
    BYTES_LEFT.set(bytes_left);
    worked.map_err(|payload| reason(&*payload))
}

fn reason(payload: &(dyn Any + Send)) -> Stopped {
    payload.downcast_ref().copied().unwrap_or(Stopped::Panic)
}

/// As [`run`], with fewer steps.
pub(super) fn run_within<T: Send>(steps_max: u64, work: impl FnOnce() -> T + Send) -> Result<T, Stopped> {
    let counted = || {
        STEPS_LEFT.set(steps_max);
        BYTES_LEFT.set(MEMORY_BYTES_MAX);
        STACK_BEGIN.set(stack_address());
        work()
    };
    thread::scope(|scope| {
        let spawned = thread::Builder::new().name("json".to_owned()).stack_size(STACK_BYTES).spawn_scoped(scope, counted);
        let thread = spawned.map_err(|_| Stopped::NoThread)?;
        thread.join().map_err(|payload| reason(&*payload))
    })
}

/// Ends the work. This is no panic: no hook hears of it.
pub(crate) fn stop(reason: Stopped) -> ! {
    resume_unwind(Box::new(reason))
}

/// Counts steps.
pub(crate) fn spend(steps: usize) {
    let left = STEPS_LEFT.get().checked_sub(u64::try_from(steps).unwrap_or(u64::MAX));
    STEPS_LEFT.set(left.unwrap_or_else(|| stop(Stopped::Steps)));
}

/// Counts a term that is evaluated, or a context that is made for one.
pub(crate) fn spend_on_term() {
    spend(TERM_STEPS);
}

/// Counts the steps that so much text takes.
pub(crate) fn spend_on_text(bytes: usize) {
    spend(1 + bytes / BYTES_PER_STEP);
}

/// Counts memory, before it is taken.
pub(crate) fn allocate(bytes: usize) {
    let left = BYTES_LEFT.get().checked_sub(bytes);
    BYTES_LEFT.set(left.unwrap_or_else(|| stop(Stopped::Memory)));
}

/// Counts memory back that was taken and let go of.
pub(crate) fn release(bytes: usize) {
    BYTES_LEFT.set(BYTES_LEFT.get().saturating_add(bytes));
}

/// Looks at how much of the stack is used.
pub(crate) fn check_stack() {
    if STACK_BEGIN.get().saturating_sub(stack_address()) > RECURSION_BYTES_MAX {
        stop(Stopped::Recursion);
    }
}

/// About where the stack is now.
#[inline(never)]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_memory_end_at_their_bounds() {
        let steps = usize::try_from(STEPS_MAX).unwrap();
        assert_eq!(run(|| spend(steps)), Ok(()));
        assert_eq!(run(|| spend(steps + 1)), Err(Stopped::Steps));
        assert_eq!(run(|| (0..steps / TERM_STEPS).for_each(|_| spend_on_term())), Ok(()));
        assert_eq!(run(|| (0..=steps / TERM_STEPS).for_each(|_| spend_on_term())), Err(Stopped::Steps));
        assert_eq!(run(|| spend_on_text((steps - 1) * BYTES_PER_STEP)), Ok(()));
        assert_eq!(run(|| spend_on_text(steps * BYTES_PER_STEP)), Err(Stopped::Steps));
        assert_eq!(run(|| allocate(MEMORY_BYTES_MAX)), Ok(()));
        assert_eq!(run(|| allocate(MEMORY_BYTES_MAX + 1)), Err(Stopped::Memory));
        let again = || {
            allocate(MEMORY_BYTES_MAX);
            release(1);
            allocate(1);
        };
        assert_eq!(run(again), Ok(()));
    }

    #[test]
    fn work_within_work_shares_its_steps_and_has_memory_of_its_own() {
        let half = usize::try_from(STEPS_MAX / 2).unwrap();
        let both = |second: usize| {
            run(move || {
                allocate(MEMORY_BYTES_MAX);
                let first = run(|| {
                    allocate(MEMORY_BYTES_MAX);
                    spend(half);
                });
                (first, run(|| spend(second)))
            })
        };
        assert_eq!(both(half), Ok((Ok(()), Ok(()))));
        assert_eq!(both(half + 1), Ok((Ok(()), Err(Stopped::Steps))));
        let too_much = run(|| {
            let inner = run(|| allocate(MEMORY_BYTES_MAX + 1));
            allocate(MEMORY_BYTES_MAX);
            inner
        });
        assert_eq!(too_much, Ok(Err(Stopped::Memory)), "and what is around it goes on");
    }

    #[test]
    fn the_stack_is_left_in_time() {
        #[expect(unconditional_recursion, reason = "that is what is to be stopped")]
        fn deeper(here: [u8; 1024]) -> u8 {
            check_stack();
            deeper(std::hint::black_box(here)).wrapping_add(here[0])
        }
        assert_eq!(run(|| deeper([0; 1024])), Err(Stopped::Recursion));
        assert_eq!(run(check_stack), Ok(()));
    }

    #[test]
    fn a_panic_is_told_apart_and_nothing_is_counted_elsewhere() {
        assert_eq!(run(|| std::panic::resume_unwind(Box::new("panic"))), Err::<(), _>(Stopped::Panic));
        spend(usize::MAX / 2);
        allocate(usize::MAX / 2);
        release(usize::MAX);
        check_stack();
    }
}
