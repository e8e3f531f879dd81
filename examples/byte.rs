//! Workers that answer every connection with one byte and close it: the smallest server there is, for
//! measuring what sharing a port costs. `PORT` says where.

use ganger::cluster::{Event, Primary, Worker};
use tokio::io::AsyncWriteExt;

fn main() -> ganger::Result {
    ganger::main(primary, worker)
}

async fn primary(mut cluster: Primary) -> ganger::Result {
    cluster.fork()?;
    cluster.fork()?;
    while let Some(event) = cluster.next().await {
        if let Event::Exit { worker, exit, .. } = event {
            println!("worker {} died: {exit}", worker.pid);
        }
    }
    Ok(())
}

async fn worker(worker: Worker) -> ganger::Result {
    let port: u16 = std::env::var("PORT").map_or(Ok(8000), |port| port.parse())?;
    let mut listener = worker.listen(port).await?;
    while let Some(mut connection) = listener.accept().await {
        // One byte fits into an empty socket, so this does not wait; the client may be gone already.
        let _ = connection.write_all(b".").await;
    }
    Ok(())
}
