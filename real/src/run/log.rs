//! Log lines. On their way to standard error they cannot block the daemon, end it, or fill the disk.
//!
//! ```text
//! any thread ─▶ limit by kind ─▶ queue of bounded size ─▶ the log's own thread ─▶ standard error
//! ```
//!
//! * A reader that stops reading fills the pipe, and then the queue. Further lines are lost and counted. Nothing waits.
//! * After a reader has gone each write fails. The line is lost.
//! * An attacker may be able to make the daemon log lines without end. So of each kind of line (a place in the code)
//!   some are written at once, and a few a minute after that. The others are counted.
//!
//! A line of its own tells what was lost or left out.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::privileges;
use crate::error::{Code, Failure};
use crate::settings::LogFormat;

/// Lines that may wait for standard error: some seconds of a busy log.
const QUEUE: usize = 1024;
/// The longest line, bytes. Longer lines are cut, so the queue has at most 16 MiB.
const LINE_BYTES: usize = 16 * 1024;
/// Lines of one kind that are written at once.
const BURST: u32 = 100;
/// After these, one line in this time: at most 43,000 lines of a kind in a day.
const PAUSE: Duration = Duration::from_secs(2);
/// The same for `debug` and `trace`, which only an operator in search of something turns on.
const BURST_DEBUG: u32 = 10_000;
const PAUSE_DEBUG: Duration = Duration::from_millis(10);
/// How often the log tells what was left out.
const TELL: Duration = Duration::from_secs(10);
/// How long a daemon that ends waits until its last lines are written.
const DRAIN: Duration = Duration::from_secs(1);

/// The one log of this process, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

enum Item {
    Line(Vec<u8>),
    /// Answers when all lines before this one are written.
    Drained(SyncSender<()>),
}

/// The queue of lines.
#[derive(Clone)]
struct Log {
    queue: SyncSender<Item>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Lines that found no room in the queue.
    lost: AtomicU64,
    kinds: Mutex<HashMap<tracing::callsite::Identifier, Kind>>,
}

/// The count of one kind of line.
struct Kind {
    limit: Limit,
    /// Lines left out since the log told so last.
    left_out: u64,
    /// One of the lines left out.
    example: Vec<u8>,
}

/// A token bucket.
struct Limit {
    burst: u32,
    pause: Duration,
    left: u32,
    /// When the last token came.
    since: Instant,
}

impl Limit {
    fn new(burst: u32, pause: Duration, now: Instant) -> Self {
        Self { burst, pause, left: burst, since: now }
    }

    /// Whether one more may pass at `now`.
    fn admits(&mut self, now: Instant) -> bool {
        let new = now.saturating_duration_since(self.since).as_nanos() / self.pause.as_nanos();
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        if new >= self.burst - self.left {
            self.left = self.burst;
            self.since = now;
        } else {
            self.left += new;
            self.since += self.pause * new;
        }
        let admits = self.left > 0;
        self.left -= u32::from(admits);
        admits
    }
}

/// The writer of one line.
struct Writer {
    log: Log,
    line: Vec<u8>,
    /// The kind, if the line is counted and not written.
    left_out: Option<tracing::callsite::Identifier>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        match &self.left_out {
            None => self.log.push(line),
            Some(kind) => {
                if let Some(kind) = self.log.kinds().get_mut(kind) {
                    kind.left_out += 1;
                    kind.example = line;
                }
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer { log: self.clone(), line: Vec::new(), left_out: None }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Writer {
        let mut writer = self.make_writer();
        if !self.admits(metadata, Instant::now()) {
            writer.left_out = Some(metadata.callsite());
        }
        writer
    }
}

impl Log {
    fn kinds(&self) -> std::sync::MutexGuard<'_, HashMap<tracing::callsite::Identifier, Kind>> {
        self.shared.kinds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admits(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        let (burst, pause) = if *metadata.level() <= Level::INFO { (BURST, PAUSE) } else { (BURST_DEBUG, PAUSE_DEBUG) };
        let mut kinds = self.kinds();
        let new = || Kind { limit: Limit::new(burst, pause, now), left_out: 0, example: Vec::new() };
        kinds.entry(metadata.callsite()).or_insert_with(new).limit.admits(now)
    }

    /// Queues a line. Never waits.
    fn push(&self, line: Vec<u8>) {
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Logs how much was lost or left out, if anything was.
    fn tell(&self) {
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!(lines = lost, "log lines were lost: standard error was not read");
        }
        let mut told = Vec::new();
        for kind in self.kinds().values_mut().filter(|kind| kind.left_out > 0) {
            told.push((std::mem::take(&mut kind.left_out), std::mem::take(&mut kind.example)));
        }
        for (lines, example) in told {
            let last = String::from_utf8_lossy(&example);
            tracing::warn!(lines, last = last.trim_end(), "more lines of this kind were left out");
        }
    }

    /// Writes lines until the process ends.
    fn write(&self, lines: &Receiver<Item>, out: &mut impl Write) {
        let mut next = Instant::now() + TELL;
        loop {
            match lines.recv_timeout(next.saturating_duration_since(Instant::now())) {
                // A line that cannot be written is lost.
                Ok(Item::Line(line)) => {
                    let _ = out.write_all(&line);
                }
                Ok(Item::Drained(done)) => {
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= next {
                self.tell();
                next = Instant::now() + TELL;
            }
        }
    }
}

/// Makes log lines go to standard error. A second call changes nothing.
pub fn log(filter: Option<&str>, format: Option<LogFormat>) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).map_err(|error| {
        Failure::new(Code::Config, format!("`log`: {error}"), "use error, warn, info, debug, trace or a filter")
    })?;
    let (queue, lines) = sync_channel(QUEUE);
    let log = Log { queue, shared: Arc::default() };
    if LOG.set(log.clone()).is_err() {
        return Ok(());
    }
    let writer = log.clone();
    // The log's thread may hang in a write, so it cannot drop its privileges later. It needs none, and drops them now.
    let thread = std::thread::Builder::new().name("log".to_owned());
    let spawned = thread.spawn(move || {
        let _ = privileges::give_up_all_of_this_thread();
        writer.write(&lines, &mut io::stderr());
    });
    spawned.map_err(Failure::other)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log).with_target(false);
    // The library would report its own errors to standard error in a way that panics if nobody reads it.
    let builder = builder.log_internal_errors(false);
    // Under systemd the journal adds the time.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let timer = Timer(!journal);
    let _ = match format {
        Some(LogFormat::Json) => builder.json().flatten_event(true).try_init(),
        Some(LogFormat::Text) | None => builder.with_ansi(false).with_timer(timer).try_init(),
    };
    Ok(())
}

/// Writes to standard error after all log lines, and waits a moment until that is done. Without a log the text is
/// written at once.
pub fn last_words(text: &str) {
    let Some(log) = LOG.get() else {
        let _ = io::stderr().write_all(text.as_bytes());
        return;
    };
    log.tell();
    log.push(text.as_bytes().to_vec());
    let (done, drained) = sync_channel(1);
    let end = Instant::now() + DRAIN;
    if log.queue.try_send(Item::Drained(done)).is_ok() {
        let _ = drained.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

struct Timer(bool);

impl FormatTime for Timer {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        if self.0 { SystemTime.format_time(writer) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_of_line_may_come_in_a_burst_and_then_at_a_steady_rate() {
        let begin = Instant::now();
        let mut limit = Limit::new(3, Duration::from_secs(2), begin);
        let admitted = |limit: &mut Limit, from: u64, to: u64| {
            (from..to).filter(|ms| limit.admits(begin + Duration::from_millis(*ms))).count()
        };
        assert_eq!(admitted(&mut limit, 0, 1_000), 3, "the burst");
        assert_eq!(admitted(&mut limit, 1_000, 11_000), 5, "one in two seconds");
        assert_eq!(admitted(&mut limit, 111_000, 112_000), 3, "after a rest, a burst again");
    }

    /// A log that writes its lines to memory once `open` allows it.
    fn memory(queue: usize) -> (Log, Receiver<Item>) {
        let (queue, lines) = sync_channel(queue);
        (Log { queue, shared: Arc::default() }, lines)
    }

    #[test]
    fn a_flood_of_one_kind_of_line_is_counted_and_another_kind_is_heard_beside_it() {
        let (log, lines) = memory(QUEUE);
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..20_000 {
                tracing::info!(number, "by a stranger");
            }
            tracing::info!("of our own");
            log.tell();
        });
        drop(log);
        let text: String = lines.try_iter().map(text_of).collect();
        let written = text.lines().filter(|line| line.contains("by a stranger") && !line.contains("WARN")).count();
        // A slow test admits a few more lines than the burst.
        assert!((BURST as usize..BURST as usize + 20).contains(&written), "{written}");
        let left_out = format!("lines={}", 20_000 - written);
        assert!(text.contains("of our own") && text.contains(&left_out) && text.contains("number=19999"), "{text}");
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_nothing_and_what_it_misses_is_counted() {
        let (log, lines) = memory(2);
        for number in 0..5 {
            log.push(vec![number]);
        }
        assert_eq!(log.shared.lost.load(Ordering::Relaxed), 3);
        drop((log, lines));
    }

    #[test]
    fn a_reader_that_is_gone_costs_its_lines_and_nothing_else() {
        struct Gone(u32);
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (log, lines) = memory(8);
        log.push(b"one".to_vec());
        log.push(b"two".to_vec());
        let (done, drained) = sync_channel(1);
        log.queue.try_send(Item::Drained(done)).unwrap();
        let shared = Log { queue: sync_channel(1).0, shared: log.shared.clone() };
        drop(log);
        let mut gone = Gone(0);
        shared.write(&lines, &mut gone);
        assert_eq!((gone.0, drained.try_recv()), (2, Ok(())), "it goes on to the end");
    }

    fn text_of(item: Item) -> String {
        match item {
            Item::Line(line) => String::from_utf8(line).unwrap(),
            Item::Drained(_) => String::new(),
        }
    }
}
