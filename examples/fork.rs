//! Parent and children in one source: this program forks itself, and asks each child for the sum of a part.
//!
//! ```sh
//! cargo run --example fork
//! ```

use ganger::{
    channel::Received,
    process::{Command, Event},
};

fn main() -> ganger::Result {
    // First of all, before there are other threads: the children's own variables are taken out of the environment.
    let role = ganger::ipc::role()?;
    let channel = ganger::ipc::parent()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match (role.as_deref(), channel) {
            (Some("adder"), Some(channel)) => add(channel).await,
            _ => ask().await,
        }
    })
}

async fn ask() -> ganger::Result {
    let mut total = 0;
    for part in 0..4_u64 {
        let mut child = Command::fork_self("adder").spawn()?;
        child.send(&[part * 1000 + 1, part * 1000 + 1000])?;
        while let Some(event) = child.next().await {
            match event {
                Event::Message(sum) => {
                    total += sum.parse::<u64>()?;
                    // It has nothing else to do, and ends.
                    child.disconnect();
                }
                Event::Exit(exit) => println!("child {} ended: {exit}", child.pid()),
                _ => {}
            }
        }
    }
    println!("the numbers from 1 to 4000 add up to {total}");
    Ok(())
}

async fn add(mut parent: ganger::Channel) -> ganger::Result {
    while let Some(Received::Message(message)) = parent.recv().await {
        let [first, last] = message.parse::<[u64; 2]>()?;
        parent.send(&(first..=last).sum::<u64>())?;
    }
    Ok(())
}
