//! The workers' output: passed on line by line, its end remembered as last words.
//!
//! It runs in threads of its own and may block there: a full terminal or a slow log collector holds up the
//! workers that write too much, as it would without us, and never the primary.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    io::{self, Write},
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ganger_proto::{AgentId, Slot, WorkerId};
use tokio::{io::AsyncReadExt, net::unix::pipe, runtime::Builder, sync::Notify, sync::mpsc};

/// How many lines of stderr are remembered: a stack and the error before it …
const LINES: usize = 50;
/// … within so many bytes.
const BYTES: usize = 8 << 10;
/// How much of one line is remembered, in bytes.
const LINE: usize = 2000;
/// How many lines of one stack are remembered: a backtrace of Rust's would push out what it is the backtrace of.
const STACK: usize = 30;
/// A line longer than this is passed on in pieces, and others may come between them.
const LONGEST: usize = 64 << 10;

/// Who writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A worker, and its place.
    Worker(WorkerId, Slot),
    /// An agent.
    Agent(AgentId),
}

/// Passes on what workers and the agent write: their stdout to ours, their stderr to ours, whole lines at a time.
pub struct Output {
    /// The way to the thread of stdout, and to that of stderr.
    threads: [mpsc::UnboundedSender<Stream>; 2],
    words: Arc<Words>,
    prefix: Box<dyn Fn(Source) -> String + Send>,
}

struct Stream {
    source: Source,
    prefix: String,
    /// Whether it is stderr.
    error: bool,
    pipe: OwnedFd,
}

#[derive(Default)]
struct Words {
    sources: Mutex<BTreeMap<Source, Last>>,
    /// A stream has ended.
    ended: Notify,
    /// Bytes that were passed on.
    passed: AtomicU64,
}

#[derive(Default)]
struct Last {
    lines: VecDeque<String>,
    /// In `lines`.
    bytes: usize,
    /// So many lines up to here are frames of a stack.
    frames: usize,
    /// Streams that are still open.
    open: u32,
}

impl Output {
    /// Starts the threads. `prefix` is put before each line.
    ///
    /// # Errors
    /// If a thread or its event loop cannot be had.
    pub fn new(prefix: impl Fn(Source) -> String + Send + 'static) -> io::Result<Self> {
        let words = Arc::new(Words::default());
        let threads = [start("stdout", words.clone())?, start("stderr", words.clone())?];
        Ok(Self { threads, words, prefix: Box::new(prefix) })
    }

    /// Passes on what comes out of somebody's stdout and stderr.
    pub(super) fn pass(&self, source: Source, [stdout, stderr]: [Option<OwnedFd>; 2]) {
        let prefix = (self.prefix)(source);
        for ((pipe, error), thread) in [(stdout, false), (stderr, true)].into_iter().zip(&self.threads) {
            let Some(pipe) = pipe else { continue };
            self.words.lock().entry(source).or_default().open += 1;
            // The thread lives as long as we do.
            let _ = thread.send(Stream { source, prefix: prefix.clone(), error, pipe });
        }
    }

    /// Whether all that one of them wrote has been passed on; without one, all that anybody wrote.
    pub(super) fn is_closed(&self, source: Option<Source>) -> bool {
        let words = self.words.lock();
        match source {
            Some(source) => words.get(&source).is_none_or(|last| last.open == 0),
            None => words.values().all(|last| last.open == 0),
        }
    }

    /// Resolves when a stream has ended.
    pub(super) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let words = self.words.clone();
        async move { words.ended.notified().await }
    }

    /// How much has been passed on so far.
    pub(super) fn progress(&self) -> u64 {
        self.words.passed.load(Ordering::Relaxed)
    }

    /// The last lines that one of them wrote to stderr; it is forgotten then.
    pub(super) fn take_last_words(&self, source: Source) -> Vec<String> {
        self.words.lock().remove(&source).map(|last| last.lines.into()).unwrap_or_default()
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

impl Words {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Source, Last>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, source: Source, line: &[u8]) {
        if let Some(last) = self.lock().get_mut(&source) {
            last.remember(String::from_utf8_lossy(&line[..line.len().min(LINE)]).trim_end());
        }
    }

    fn close(&self, source: Source) {
        if let Some(last) = self.lock().get_mut(&source) {
            last.open -= 1;
        }
        self.ended.notify_one();
    }
}

impl Last {
    fn remember(&mut self, line: &str) {
        self.frames = if is_frame(line) { self.frames + 1 } else { 0 };
        if self.frames > STACK {
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.lines.len() > LINES || self.bytes > BYTES {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }
}

/// `    at main (app.js:1:2)` is Node's, `  12: server::main` Rust's, with `             at src/main.rs:3:4` below it.
fn is_frame(line: &str) -> bool {
    let text = line.trim_start();
    let numbered =
        || text.split_once(": ").is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() < line.len() && (text.starts_with("at ") || numbered())
}

/// The thread that writes to one of our outputs: who reads the other does not have to wait for it.
fn start(name: &str, words: Arc<Words>) -> io::Result<mpsc::UnboundedSender<Stream>> {
    let runtime = Builder::new_current_thread().enable_io().build()?;
    let (sender, mut streams) = mpsc::unbounded_channel::<Stream>();
    thread::Builder::new().name(name.into()).spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            while let Some(stream) = streams.recv().await {
                tokio::task::spawn_local(pass(stream, words.clone()));
            }
        });
    })?;
    Ok(sender)
}

/// One stream, from its beginning to its end.
async fn pass(stream: Stream, words: Arc<Words>) {
    if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(stream.pipe) {
        let mut pending = Vec::new();
        loop {
            let read = pipe.read_buf(&mut pending).await;
            let ended = !matches!(read, Ok(1..));
            if ended && pending.last().is_some_and(|last| *last != b'\n') {
                // The next one's line must not be glued to it.
                pending.push(b'\n');
            }
            let whole = match pending.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                None if pending.len() >= LONGEST => pending.len(),
                None => 0,
            };
            for line in pending[..whole].split_inclusive(|byte| *byte == b'\n') {
                if stream.error {
                    words.remember(stream.source, line);
                }
            }
            write(&stream.prefix, stream.error, &pending[..whole]);
            words.passed.fetch_add(whole as u64, Ordering::Relaxed);
            pending.drain(..whole);
            pending.shrink_to(LONGEST);
            if ended {
                break;
            }
        }
    }
    words.close(stream.source);
}

/// Writes whole lines. Who reads them may be gone: then there is nobody to tell.
fn write(prefix: &str, error: bool, lines: &[u8]) {
    let mut out: Box<dyn Write> =
        if error { Box::new(io::stderr().lock()) } else { Box::new(io::stdout().lock()) };
    if prefix.is_empty() {
        let _ = out.write_all(lines);
    } else {
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let _ = out.write_all(&[prefix.as_bytes(), line].concat());
        }
    }
    let _ = out.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_long_stack_is_of_is_remembered() {
        let mut last = Last::default();
        last.remember("thread 'main' panicked at src/main.rs:3:4:");
        for frame in 0..100 {
            last.remember(&format!("  {frame}: server::main"));
            last.remember("             at ./src/main.rs:3:4");
        }
        last.remember("note: that was it");
        assert_eq!(last.lines.len(), STACK + 2);
        assert!(last.lines[0].contains("panicked at") && last.lines[STACK + 1].starts_with("note:"));
    }

    #[test]
    fn no_more_than_so_many_lines_are_remembered() {
        let mut last = Last::default();
        (0..1000).for_each(|number| last.remember(&format!("{number}: at no place")));
        assert_eq!((last.lines.len(), last.lines[0].as_str()), (LINES, "950: at no place"));
        last.remember(&"x".repeat(BYTES));
        assert_eq!((last.lines.len(), last.bytes), (1, BYTES));
    }
}
