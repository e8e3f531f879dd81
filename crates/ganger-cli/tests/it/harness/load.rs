//! Clients that come without a pause, and what became of each of their requests.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::client::{Broken, Connection, connect, get, read_answer, request};

/// Between two requests a client leaves the machine to others for so long.
const BREATH: Duration = Duration::from_millis(2);

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Those that got their answer.
    pub(crate) answered: usize,
    /// Those among them that were asked a second time, since the connection that was kept had closed before the answer began.
    pub(crate) repeated: usize,
    /// Why others did not.
    pub(crate) failed: Vec<String>,
}

/// Does something while clients come, one of each kind of `clients`.
pub(crate) fn under_load<T>(port: u16, clients: &[Connection], act: impl FnOnce() -> T) -> (T, Outcome) {
    let outcome = Mutex::new(Outcome::default());
    let done = thread::scope(|scope| {
        // Dropped, they end the clients, also when it fails.
        let _ends: Vec<_> = clients
            .iter()
            .map(|client| {
                let (end, ended) = mpsc::channel::<()>();
                let outcome = &outcome;
                scope.spawn(move || {
                    let mut kept = None;
                    while ended.recv_timeout(BREATH) == Err(RecvTimeoutError::Timeout) {
                        let answer = match client {
                            Connection::Close => {
                                get(port, "/").map(|_| false).map_err(|error| error.to_string())
                            }
                            Connection::KeepAlive => ask(port, &mut kept),
                        };
                        let mut outcome = outcome.lock().unwrap();
                        match answer {
                            Ok(repeated) => {
                                outcome.answered += 1;
                                outcome.repeated += usize::from(repeated);
                            }
                            Err(error) => outcome.failed.push(format!("{client:?}: {error}")),
                        }
                    }
                });
                end
            })
            .collect();
        act()
    });
    (done, outcome.into_inner().unwrap())
}

/// One request on the connection that is kept, or on a new one, which is kept then. Whether it had to be repeated.
fn ask(port: u16, kept: &mut Option<TcpStream>) -> Result<bool, String> {
    let broken = match kept.take() {
        Some(stream) => match exchange(stream, kept) {
            Ok(()) => return Ok(false),
            Err(broken) => Some(broken),
        },
        None => None,
    };
    if let Some(Broken::Within(error)) = broken {
        return Err(error.to_string());
    }
    let stream = connect(port).map_err(|error| format!("connect: {error}"))?;
    match exchange(stream, kept) {
        Ok(()) => Ok(broken.is_some()),
        Err(Broken::Before(error) | Broken::Within(error)) => Err(error.to_string()),
    }
}

fn exchange(mut stream: TcpStream, kept: &mut Option<TcpStream>) -> Result<(), Broken> {
    request(&mut stream, "/", Connection::KeepAlive).map_err(Broken::Before)?;
    let answer = read_answer(&mut stream)?;
    *kept = (!answer.closes).then_some(stream);
    Ok(())
}
