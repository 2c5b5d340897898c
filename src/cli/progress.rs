//! How far a question has come, on a terminal's standard error, once it takes long enough to wonder.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use runtally::Engine;
use runtally::output::amount;

/// What takes less long shows nothing.
const PATIENCE: Duration = Duration::from_millis(400);
/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);

/// Shows progress until it is dropped.
pub(super) struct Progress {
    is_over: Arc<AtomicBool>,
    shown_by: Option<JoinHandle<()>>,
}

impl Progress {
    /// Watches an engine that reads files of so many bytes in all.
    pub(super) fn watch(engine: Engine, n_bytes_there: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_over);
        Self {
            is_over,
            shown_by: Some(thread::spawn(move || show(&engine, n_bytes_there, &stop))),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(shown_by) = self.shown_by.take() {
            Thread::unpark(shown_by.thread());
            // It ends by itself, and its failure would be no one's loss.
            let _ = shown_by.join();
        }
    }
}

fn show(engine: &Engine, n_bytes_there: u64, is_over: &AtomicBool) {
    let began = Instant::now();
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} {bar:14} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    while !is_over.load(Ordering::Relaxed) {
        thread::park_timeout(PERIOD);
        if began.elapsed() < PATIENCE {
            continue;
        }
        let progress = engine.progress();
        let n_files = u64::try_from(progress.n_files).unwrap_or(u64::MAX);
        let n_files_there = u64::try_from(progress.n_files_there).unwrap_or(u64::MAX);
        let is_json = n_files_there == 0 && progress.n_json_bytes > 0;
        let (done, all) = if is_json {
            let all = n_bytes_there.max(progress.n_json_bytes);
            (progress.n_json_bytes, all)
        } else {
            (n_files, n_files_there)
        };
        bar.set_length(all.max(1));
        bar.set_position(done);
        bar.set_message(if is_json {
            format!(
                "{} of {} of JSON · {}/s",
                ByteSize(done),
                ByteSize(all),
                ByteSize(per_second(done, began.elapsed())),
            )
        } else if n_files_there == 0 {
            "reading footers".to_owned()
        } else {
            format!(
                "{n_files}/{n_files_there} files · {} of {} · {} runs · {}/s",
                ByteSize(progress.n_bytes),
                ByteSize(n_bytes_there),
                amount(progress.n_rows.into()),
                amount(per_second(progress.n_rows, began.elapsed()).into()),
            )
        });
        bar.tick();
    }
    bar.finish_and_clear();
}

fn per_second(n: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    n.saturating_mul(1_000) / milliseconds.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_a_second() {
        assert_eq!(per_second(500, Duration::from_millis(250)), 2_000);
    }
}
