//! What a process writes, line by line, as it comes.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Instant;

use super::LIMIT;

/// All lines of both streams.
pub(crate) struct Lines {
    command: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether it is stdout's, and the line without its end.
    lines: Vec<(bool, String)>,
    /// Streams that are still open.
    open: usize,
}

impl Lines {
    /// `command` is for those who read a failure.
    pub(super) fn new(command: String) -> Self {
        Self { command, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Collects a stream in a thread, to its end.
    pub(super) fn collect(self: &Arc<Self>, mut stream: impl Read + Send + 'static, stdout: bool) {
        self.lock().open += 1;
        let lines = self.clone();
        thread::spawn(move || {
            let (mut pending, mut buffer) = (Vec::new(), vec![0; 65_536]);
            // A terminal ends with an error.
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                pending.extend_from_slice(&buffer[..read]);
                while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = pending.drain(..=end).collect();
                    let line = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                    lines.lock().lines.push((stdout, line));
                }
                lines.changed.notify_all();
            }
            let mut state = lines.lock();
            if !pending.is_empty() {
                state.lines.push((stdout, String::from_utf8_lossy(&pending).into_owned()));
            }
            state.open -= 1;
            lines.changed.notify_all();
        });
    }

    /// All lines of stdout, or of stderr, until now.
    pub(crate) fn of(&self, stdout: bool) -> Vec<String> {
        let state = self.lock();
        state
            .lines
            .iter()
            .filter(|(is_stdout, _)| *is_stdout == stdout)
            .map(|(_, line)| line.clone())
            .collect()
    }

    /// The first line that is wanted, once it is there. `what` is for those who read a failure.
    pub(crate) fn wait(&self, stdout: bool, wanted: impl Fn(&str) -> bool, what: &str) -> String {
        let find = |state: &State| {
            let found = state.lines.iter().find(|(is_stdout, line)| *is_stdout == stdout && wanted(line));
            found.map(|(_, line)| line.clone())
        };
        self.wait_until(|state| find(state).map_or(state.open == 0, |_| true));
        let found = find(&self.lock());
        found.unwrap_or_else(|| self.fail(&format!("the line `{what}`")))
    }

    /// Waits until so many lines are wanted.
    pub(crate) fn wait_for(&self, stdout: bool, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let find = |state: &State| -> Vec<String> {
            let wanted = |line: &&(bool, String)| line.0 == stdout && wanted(&line.1);
            state.lines.iter().filter(wanted).map(|(_, line)| line.clone()).collect()
        };
        self.wait_until(|state| find(state).len() >= count || state.open == 0);
        let found = find(&self.lock());
        if found.len() < count {
            self.fail(&format!("{count} lines of a kind"));
        }
        found
    }

    /// Waits until nobody can write any more.
    pub(super) fn wait_for_end(&self) {
        if !self.wait_until(|state| state.open == 0) {
            self.fail("the end of its output: somebody still holds it");
        }
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        panic!("waited in vain for {what}\n{self}")
    }

    fn wait_until(&self, done: impl Fn(&State) -> bool) -> bool {
        let until = Instant::now() + LIMIT;
        let mut state = self.lock();
        while !done(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl fmt::Display for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.command)?;
        for (stdout, line) in &self.lock().lines {
            let line: String = line.chars().take(500).collect();
            writeln!(f, "{} {line}", if *stdout { "out|" } else { "err|" })?;
        }
        Ok(())
    }
}
