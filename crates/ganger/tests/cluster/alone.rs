//! Primaries in a process of their own: this program, as [`VARIABLE`] says.

use std::{env, path::Path, process};

use ganger::{
    cluster::{Event, Primary, Settings, Worker},
    process::Command,
};
use serde_json::Value;

/// Says what the primary does.
const VARIABLE: &str = "GANGER_TEST_PRIMARY";

/// What this process is to do as a primary, if anything.
pub(crate) fn role() -> Option<String> {
    env::var(VARIABLE).ok()
}

/// A copy of this program as such a primary.
pub(crate) fn command_of(copy: &Path, what: &str) -> Command {
    let mut command = Command::new(copy);
    command.env(VARIABLE, what).guarded(true).kill_on_drop(true).kill_signal(9);
    command
}

/// This program as such a primary. With `settings` its workers are those, else itself with the same arguments.
pub(crate) fn command(what: &str, settings: Option<&Settings>, args: &[&str]) -> Command {
    let mut command = command_of(&env::current_exe().unwrap(), what);
    if let Some(settings) = settings {
        command.arg(settings.program.clone()).args(settings.args.iter().cloned());
    }
    command.args(args.iter().copied());
    command
}

pub(crate) fn play(what: &str) -> ! {
    let no_worker = async |_: Worker| Err("this process was started as a primary".into());
    let done = match what {
        "say the arguments of a worker" => ganger::main(say_arguments, no_worker),
        "listen where one may not" => ganger::main(listen_where_one_may_not, no_worker),
        "open what it was started with" => ganger::main(open_what_it_was_started_with, no_worker),
        "leave" => ganger::main(leave, no_worker),
        "panic" => ganger::main(fail, no_worker),
        other => panic!("no such primary: {other:?}"),
    };
    done.unwrap();
    process::exit(0)
}

/// Workers that run what the arguments say.
fn as_told(primary: &mut Primary) {
    let mut args = env::args_os().skip(1);
    let program = args.next().unwrap();
    let args = args.collect();
    primary.setup(|settings| (settings.program, settings.args) = (program, args));
}

/// The settings are as they come.
async fn say_arguments(mut primary: Primary) -> ganger::Result {
    let worker = primary.fork()?;
    primary.send(worker.id, &("args",))?;
    while let Some(event) = primary.next().await {
        match event {
            Event::Setup { settings } => println!("setup {:?}", settings.args),
            Event::Message { message, .. } => {
                println!("worker {}", message.parse::<Value>()?);
                primary.disconnect_all();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Says what two workers get that ask for a privileged port, what of it the primary is told, and how they end.
async fn listen_where_one_may_not(mut primary: Primary) -> ganger::Result {
    assert!(!rustix::process::geteuid().is_root());
    as_told(&mut primary);
    let ask = |primary: &mut Primary| -> ganger::Result {
        let worker = primary.fork()?;
        let place = serde_json::json!({ "host": "127.0.0.1", "port": PRIVILEGED });
        primary.send(worker.id, &("listen", "it", place))?;
        Ok(())
    };
    ask(&mut primary)?;
    while let Some(event) = primary.next().await {
        match event {
            Event::Message { message, worker } => {
                println!("{}", message.as_json());
                match worker.id.0 {
                    1 => ask(&mut primary)?,
                    _ => primary.disconnect_all(),
                }
            }
            Event::BindFailed { worker, address, error } => {
                println!("worker {} cannot listen on {address}: {error}", worker.id);
            }
            Event::Exit { exit, .. } => println!("{exit}"),
            Event::Listening { .. } => println!("it listens"),
            _ => {}
        }
    }
    Ok(())
}

/// Says where a worker listens on descriptor 5, and what the worker says of it; goes on until it is killed.
async fn open_what_it_was_started_with(mut primary: Primary) -> ganger::Result {
    as_told(&mut primary);
    let worker = primary.fork()?;
    let options = serde_json::json!({ "fd": 5, "type": "udp4" });
    primary.send(worker.id, &(env::var("WHAT")?, "it", options))?;
    let mut listens = None;
    while let Some(event) = primary.next().await {
        match event {
            Event::Listening { address, .. } => listens = Some(address.to_string()),
            Event::Message { message, .. } => {
                println!("{}", serde_json::json!([listens, message.parse::<Value>()?]))
            }
            _ => {}
        }
    }
    Ok(())
}

/// A port that not everybody may have.
pub(crate) const PRIVILEGED: u16 = 42;

/// Ends without any care as soon as a worker listens.
async fn leave(mut primary: Primary) -> ganger::Result {
    as_told(&mut primary);
    let worker = primary.fork()?;
    primary.send(worker.id, &("listen", "127.0.0.1:0"))?;
    while let Some(event) = primary.next().await {
        if let Event::Listening { worker, .. } = event {
            println!("{}", worker.pid);
            process::exit(0);
        }
    }
    Err("it did not listen".into())
}

/// Has a hook of its own for panics.
async fn fail(mut primary: Primary) -> ganger::Result {
    std::panic::set_hook(Box::new(|_| process::exit(42)));
    as_told(&mut primary);
    primary.fork()?;
    while let Some(event) = primary.next().await {
        assert!(!matches!(event, Event::Online { .. }), "meant to be");
    }
    Err("it was not online".into())
}
