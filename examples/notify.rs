//! A server that knows nothing of ganger. It opens its own port, and says how it is in the words of `sd_notify(3)`, as it would say it
//! to systemd: that it is ready, that it is there, that it is going to end.
//!
//! `ganger run -n 1 --watchdog 2s target/debug/examples/notify`, and ask for `/hang`, or for `/stop`
//!
//! With arguments it says only these and ends, as `systemd-notify` does for scripts.

use std::{env, io, os::unix::net::UnixDatagram, process, thread, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::interval,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if !words.is_empty() {
        return say(&words.join("\n"));
    }
    let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8000);
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{} serves {}", process::id(), listener.local_addr()?);
    // From the first of these on it is expected to go on saying that it is there.
    say("READY=1\nWATCHDOG=1\nSTATUS=serving")?;

    // Twice in the time after which it would count as hung.
    let watchdog =
        env::var("WATCHDOG_USEC").ok().and_then(|time| time.parse().ok()).map(Duration::from_micros);
    let mut ping = interval(watchdog.unwrap_or(Duration::MAX) / 2);
    loop {
        tokio::select! {
            connection = listener.accept() => {
                if serve(connection?.0).await? == "/stop" {
                    break;
                }
            }
            _ = ping.tick(), if watchdog.is_some() => say("WATCHDOG=1")?,
        }
    }
    say("STOPPING=1")
}

/// Answers one request; which path it was for.
async fn serve(mut connection: TcpStream) -> io::Result<String> {
    let mut request = vec![0; 4096];
    let length = connection.read(&mut request).await?;
    let request = String::from_utf8_lossy(&request[..length]);
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    if path == "/hang" {
        say("STATUS=thinking")?;
        loop {
            thread::park();
        }
    }
    let text = format!("hello from process {}\n", process::id());
    let answer =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}", text.len());
    connection.write_all(answer.as_bytes()).await?;
    Ok(path)
}

/// Says something to whoever has started this process, if that wants to hear it.
fn say(words: &str) -> io::Result<()> {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    UnixDatagram::unbound()?.send_to(words.as_bytes(), socket).map(drop)
}
