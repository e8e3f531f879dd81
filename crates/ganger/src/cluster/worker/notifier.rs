//! What a worker says to the ganger that has started it and does not know it by the channel: that it is ready, and without a
//! channel that it is there, in the words of `sd_notify(3)`.

use std::{
    ffi::OsString,
    io,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    sync::{Arc, Once},
    time::Duration,
};

use ganger_proto::notify;

use crate::sys::env;

#[derive(Debug)]
pub(super) struct Notifier {
    socket: UnixDatagram,
    path: PathBuf,
    /// How long it may be silent.
    watchdog: Option<Duration>,
    ready: Once,
}

impl Notifier {
    /// Takes what the environment says of it. None if nobody listens.
    pub(super) fn take() -> io::Result<Option<Self>> {
        let taken = env::take(&[notify::SOCKET, notify::WATCHDOG_USEC]).map_err(io::Error::other)?;
        let [path, watchdog] = <[Option<OsString>; 2]>::try_from(taken).unwrap_or_default();
        let Some(path) = path else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        // Whoever does not listen must not hold us up.
        socket.set_nonblocking(true)?;
        let watchdog = watchdog.and_then(|time| time.to_str()?.parse().ok()).map(Duration::from_micros);
        Ok(Some(Self { socket, path: path.into(), watchdog, ready: Once::new() }))
    }

    /// Says from now on that this process is there, as long as its runtime is, if nobody asks it. Needs a tokio runtime that
    /// has time.
    pub(super) fn start(self, is_unasked: bool) -> Arc<Self> {
        let this = Arc::new(self);
        if let Some(watchdog) = this.watchdog.filter(|watchdog| is_unasked && !watchdog.is_zero()) {
            let this = this.clone();
            tokio::spawn(async move {
                let mut ping = tokio::time::interval(watchdog / 2);
                loop {
                    ping.tick().await;
                    this.say("WATCHDOG=1");
                }
            });
        }
        this
    }

    /// It is ready; said once.
    pub(super) fn ready(&self) {
        self.ready.call_once(|| self.say("READY=1"));
    }

    fn say(&self, words: &str) {
        if let Err(error) = self.socket.send_to(words.as_bytes(), &self.path) {
            tracing::debug!(%error, words, "nobody listens");
        }
    }
}
