//! The signals that the primary understands, taken before the first worker is started.

use std::fs;
use std::io::{self, IsTerminal};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// End the gang gracefully; a second time: at once.
    Stop(&'static str),
    /// Replace every worker by one of the program as it is now.
    Reload,
    /// One worker more.
    More,
    /// One worker fewer.
    Fewer,
    /// Something that this version does not have.
    Absent {
        /// The signal.
        signal: &'static str,
        /// What it will mean.
        meaning: &'static str,
    },
}

/// All signals that are listened to.
pub(crate) struct Signals {
    signals: Vec<(Signal, Request)>,
}

impl Signals {
    /// Takes over the signals from their default, which would end the primary or stop it.
    ///
    /// # Errors
    /// Those of `sigaction`.
    pub(crate) fn new() -> io::Result<Self> {
        let mut wanted = vec![
            (SignalKind::terminate(), Request::Stop("SIGTERM")),
            (SignalKind::interrupt(), Request::Stop("SIGINT")),
            (SignalKind::quit(), Request::Stop("SIGQUIT")),
            (SignalKind::user_defined1(), absent("SIGUSR1", "reopening log files")),
            (SignalKind::user_defined2(), absent("SIGUSR2", "the upgrade of the primary")),
            (raw(rustix::process::Signal::TTIN), Request::More),
            (raw(rustix::process::Signal::TTOU), Request::Fewer),
        ];
        // Ignored at the start, as by nohup: it stays so.
        if !is_ignored(rustix::process::Signal::HUP) {
            let request = match io::stdin().is_terminal() {
                true => Request::Stop("SIGHUP"),
                false => Request::Reload,
            };
            wanted.push((SignalKind::hangup(), request));
        }
        let take = |(kind, request)| Ok((signal(kind)?, request));
        Ok(Self { signals: wanted.into_iter().map(take).collect::<io::Result<_>>()? })
    }

    /// The next request. Cancel safe.
    pub(crate) async fn next(&mut self) -> Request {
        std::future::poll_fn(|context| {
            for (signal, request) in &mut self.signals {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*request);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

fn absent(signal: &'static str, meaning: &'static str) -> Request {
    Request::Absent { signal, meaning }
}

fn raw(signal: rustix::process::Signal) -> SignalKind {
    SignalKind::from_raw(signal.as_raw())
}

fn is_ignored(signal: rustix::process::Signal) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| names_ignored(&status, signal))
}

/// Whether `SigIgn` in `/proc/self/status` has the signal.
fn names_ignored(status: &str, signal: rustix::process::Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "SigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000000002\n";
        assert!(names_ignored(status, Signal::HUP));
        assert!(names_ignored(status, Signal::PIPE));
        assert!(!names_ignored(status, Signal::INT));
        assert!(!names_ignored("", Signal::HUP));
    }
}
