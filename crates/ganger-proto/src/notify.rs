//! What a program says of itself on the socket that `NOTIFY_SOCKET` names: those words of `sd_notify(3)` that mean something to
//! a gang.
//!
//! A datagram is a few lines `NAME=value`. Whatever else it says (`MAINPID`, `FDSTORE`, a program's own) is nobody's business here.

/// The variable with the socket's path.
pub const SOCKET: &str = "NOTIFY_SOCKET";
/// The variable with the watchdog's time in microseconds (`sd_watchdog_enabled(3)`): who says nothing for so long counts as hung,
/// so a program had better say `WATCHDOG=1` twice in it.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// The variable with the process that is meant by the one above; without it, whoever finds that.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// The longest datagram, in bytes, that is listened to: systemd's `NOTIFY_BUFFER_MAX`.
pub const LONGEST: usize = 4096;
/// So many characters of a status are kept.
const STATUS: usize = 256;

/// What one datagram says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// `READY=1`: it has started up.
    pub ready: bool,
    /// `WATCHDOG=1`: it is there.
    pub alive: bool,
    /// `STOPPING=1`: it is going to end.
    pub stopping: bool,
    /// `STATUS=…`: what it is doing, in its own words; one line of at most 256 characters.
    pub status: Option<String>,
}

impl Notification {
    /// Of a datagram; what is not understood is left out.
    pub fn read(datagram: &[u8]) -> Self {
        let mut read = Self::default();
        for line in datagram.split(|byte| *byte == b'\n') {
            match line {
                b"READY=1" => read.ready = true,
                b"WATCHDOG=1" => read.alive = true,
                b"STOPPING=1" => read.stopping = true,
                _ => {
                    if let Some(status) = line.strip_prefix(b"STATUS=") {
                        let text = String::from_utf8_lossy(status);
                        read.status =
                            Some(text.chars().filter(|char| !char.is_control()).take(STATUS).collect());
                    }
                }
            }
        }
        read
    }

    /// Whether it says nothing that matters here.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_words_in_one_datagram() {
        let read = Notification::read(b"READY=1\nSTATUS=serving 3 clients\nMAINPID=7\nWATCHDOG=1");
        let status = Some("serving 3 clients".into());
        assert_eq!(read, Notification { ready: true, alive: true, stopping: false, status });
        assert!(Notification::read(b"STOPPING=1\n").stopping);
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for datagram in
            ["", "\n\n", "READY=0", "ready=1", "READY=1 ", "READY", "X_READY=1", "WATCHDOG=trigger", "\0"]
        {
            assert!(Notification::read(datagram.as_bytes()).is_empty(), "{datagram:?}");
        }
    }

    #[test]
    fn a_status_is_one_short_line_of_text() {
        let status = |datagram: &[u8]| Notification::read(datagram).status.unwrap();
        assert_eq!(status(b"STATUS=\x1b[2Jred\r\x07 \xff"), "[2Jred \u{fffd}");
        assert_eq!(status(b"STATUS=one\nSTATUS=two"), "two");
        assert_eq!(status(b"STATUS="), "");
        assert_eq!(status(format!("STATUS={}", "ä".repeat(2000)).as_bytes()), "ä".repeat(256));
    }
}
