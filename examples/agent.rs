//! Primary, workers and agent in one source: the agent counts the visits of all workers. Under `ganger run -n 2 --agent
//! target/debug/examples/agent target/debug/examples/agent` it is a worker and an agent just so. `PORT` says where.
//!
//! ```sh
//! cargo run --example agent
//! ```

use ganger::{
    Guard,
    cluster::{Agent, AgentSettings, Connection, Letter, Primary, To, Worker, messenger::Sender},
    guard::{Config, Report},
};
use tokio::{io::AsyncWriteExt, sync::mpsc};

fn main() -> ganger::Result {
    ganger::main_with_agent(primary, worker, agent)
}

async fn primary(mut cluster: Primary) -> ganger::Result {
    let mut config = Config::default();
    config.workers = 2;
    let agent = AgentSettings::this_program()?;
    cluster.setup(|settings| settings.agent = Some(agent));
    // The guard starts the agent first, and the workers when it is ready.
    let mut guard = Guard::new(cluster, config, None);
    while let Some(report) = guard.next().await {
        if let Report::Notice { notice, .. } = report {
            println!("{notice:?}");
        }
    }
    Ok(())
}

async fn agent(agent: Agent) -> ganger::Result {
    agent.ready()?;
    let mut visits = 0;
    // There is none any more when all workers have gone.
    while let Some(message) = agent.recv().await {
        if let Some(Letter { action, from: Sender::Worker { id, .. }, .. }) = message.letter()
            && action == "visit"
        {
            visits += 1;
            agent.send_letter(To::Worker(id), "visited", &visits)?;
        }
    }
    Ok(())
}

async fn worker(worker: Worker) -> ganger::Result {
    let port: u16 = std::env::var("PORT").map_or(Ok(8000), |port| port.parse())?;
    let mut listener = worker.listen(port).await?;
    // Answers come in the order of the questions.
    let (sender, mut waiting) = mpsc::unbounded_channel::<Connection>();
    let asked = worker.clone();
    let answers = tokio::spawn(async move {
        while let Some(message) = asked.recv().await {
            let Some(visits) = message.letter().and_then(|letter| letter.parse::<u64>().ok()) else {
                continue;
            };
            let Some(mut connection) = waiting.recv().await else { break };
            let text = format!("visit {visits} of all workers, served by worker {}\n", asked.id());
            // The client may be gone already.
            let _ = connection.write_all(text.as_bytes()).await;
            let _ = connection.shutdown().await;
        }
    });
    while let Some(connection) = listener.accept().await {
        sender.send(connection)?;
        worker.send_letter(To::Agent, "visit", &())?;
    }
    drop(sender);
    answers.abort();
    Ok(())
}
