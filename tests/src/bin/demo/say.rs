//! How the demo speaks: a numbered line for what is done, labelled lines for what was seen.

use std::{
    fmt::{Debug, Display},
    io::{self, IsTerminal as _, Write as _},
    pin::pin,
    time::{Duration, Instant},
};

use tokio::time::{Instant as TokioInstant, interval_at};

/// A wait that is longer is told.
const PATIENCE: Duration = Duration::from_secs(2);

/// The width of the labels.
const LABEL_CHARS: usize = 11;

/// What is done next.
pub(crate) fn title(text: &str) {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}{text}{plain}");
}

/// What was seen.
pub(crate) fn line(label: &str, text: impl Display) {
    println!("   {label:LABEL_CHARS$} {text}");
}

/// Waits for `work`, and says so when it takes longer than [`PATIENCE`].
pub(crate) async fn waiting<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let mut work = pin!(work);
    let mut ticks = interval_at(TokioInstant::now() + PATIENCE, Duration::from_secs(1));
    let mut told = false;
    loop {
        tokio::select! {
            value = &mut work => {
                if told {
                    println!(" {} s", began.elapsed().as_secs());
                }
                return value;
            }
            _ = ticks.tick() => {
                if told {
                    print!(".");
                } else {
                    print!("   {:LABEL_CHARS$} waiting for {what} ..", "");
                }
                told = true;
                // A broken pipe shows at the next whole line.
                let _ = io::stdout().flush();
            }
        }
    }
}

/// Goes on only if what was seen is what was expected.
///
/// # Panics
/// When it is not: the demo's hook shows the message and ends.
pub(crate) fn expect<T: PartialEq + Debug>(what: &str, seen: &T, expected: &T) {
    assert!(seen == expected, "{what}\n  expected  {expected:?}\n  seen      {seen:?}");
}
