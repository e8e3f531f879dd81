//! Where there is no primary, the signals are what a worker is told to leave by.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};

use super::life::Life;

/// From now on `SIGTERM` and `SIGINT` (Ctrl-C) stop the worker gracefully; a second one ends it at once, as the first one
/// would have. Needs a tokio runtime.
pub(super) fn heed(life: &Life) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let life = life.clone();
    tokio::spawn(async move {
        let mut told = false;
        loop {
            let kind = tokio::select! {
                _ = term.recv() => SignalKind::terminate(),
                _ = int.recv() => SignalKind::interrupt(),
            };
            if told {
                // What a shell says of a program that a signal has ended.
                process::exit(128 + kind.as_raw_value());
            }
            told = true;
            life.stop();
        }
    });
    Ok(())
}
