//! A child for any parent that speaks Node's wire, Node's own `child_process.fork` among them: it answers each
//! number with its square, and ends with its channel. `examples/node/parent.js` is a parent for it.
//!
//! ```sh
//! cargo build --example child && node examples/node/parent.js target/debug/examples/child
//! ```

use ganger::channel::Received;

fn main() -> ganger::Result {
    // First of all, before there are other threads.
    let Some(mut parent) = ganger::ipc::parent()? else {
        return Err("this program is a child: node examples/node/parent.js PATH-OF-THIS-PROGRAM".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while let Some(received) = parent.recv().await {
            match received {
                Received::Message(message) => {
                    let number: f64 = message.parse()?;
                    parent.send(&(number * number))?;
                }
                other => eprintln!("not understood: {other:?}"),
            }
        }
        Ok(())
    })
}
