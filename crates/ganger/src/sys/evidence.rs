//! What a process that does not answer is doing: looked at before it is killed. Nothing here changes anything.

use std::{fmt, fs};

use serde::Serialize;

/// So much of a stack is kept.
const FRAMES: usize = 32;

/// What the main thread of a process was doing at one moment, as far as the kernel tells us.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Evidence {
    /// Whether it runs, sleeps, …
    pub state: State,
    /// The function of the kernel that it waits in. `None` if it does not wait, or it is another user's.
    pub wait_channel: Option<String>,
    /// Its stack in the kernel, innermost first, up to 32 frames. Empty but for root.
    pub stack: Vec<String>,
}

/// The state of a process, as `/proc/PID/stat` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum State {
    /// `R`: it runs, or would if there were a CPU: an endless loop, in most cases.
    Running,
    /// `S`: it waits for something.
    Sleeping,
    /// `D`: it waits for something that is not interrupted by signals: a disk, a network file system.
    Uninterruptible,
    /// `T`: a signal stopped it.
    Stopped,
    /// `t`: a debugger holds it.
    Traced,
    /// `Z`: it has ended and nobody has reaped it.
    Zombie,
    /// What this version has no word for.
    Other,
}

impl Evidence {
    /// Of process `pid`. `None` if there is no such process.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may have anything in it, parentheses too.
        let after = stat.iter().rposition(|byte| *byte == b')')?;
        let state = State::of(*stat.get(after + 2)?);
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let wait_channel = read("wchan").filter(|name| !name.is_empty() && name != "0");
        let stack = read("stack").unwrap_or_default();
        let frames = stack.lines().map(|line| line.split_once("] ").map_or(line, |(_, frame)| frame));
        Some(Self { state, wait_channel, stack: frames.take(FRAMES).map(str::to_owned).collect() })
    }
}

impl State {
    fn of(letter: u8) -> Self {
        match letter {
            b'R' => Self::Running,
            // `I` is an idle thread of the kernel's.
            b'S' | b'I' => Self::Sleeping,
            b'D' => Self::Uninterruptible,
            b'T' => Self::Stopped,
            b't' => Self::Traced,
            b'Z' | b'X' => Self::Zombie,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Uninterruptible => "in an uninterruptible wait",
            Self::Stopped => "stopped by a signal",
            Self::Traced => "held by a debugger",
            Self::Zombie => "dead",
            Self::Other => "in an unknown state",
        })
    }
}

/// `sleeping in ep_poll`.
impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        match &self.wait_channel {
            Some(channel) => write!(f, " in {channel}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

    use super::*;

    #[test]
    fn a_process_is_seen_stopped_running_and_dead() {
        let mut child = Command::new("sh");
        let mut child =
            child.args(["-c", "echo; while :; do :; done"]).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let (pid, number) = (Pid::from_child(&child), child.id().cast_signed());
        assert_eq!(Evidence::of(number).unwrap().state, State::Running);
        kill_process(pid, Signal::STOP).unwrap();
        waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        let stopped = Evidence::of(number).unwrap();
        assert_eq!(stopped.state, State::Stopped);
        assert!(stopped.to_string().starts_with("stopped by a signal"), "{stopped}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Evidence::of(number), None);
    }

    #[test]
    fn where_it_waits_is_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // On its way there it may be anywhere, and the files are read one after the other.
        let evidence = loop {
            let evidence = Evidence::of(child.id().cast_signed()).unwrap();
            if evidence.state == State::Sleeping && evidence.wait_channel.is_some() {
                break evidence;
            }
            std::thread::yield_now();
        };
        assert!(evidence.to_string().starts_with("sleeping in "), "{evidence}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
