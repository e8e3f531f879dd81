//! The command as its users meet it: started as a process, with real Node workers, judged by its exit
//! status, its lines and what clients get.

mod abuse;
mod agent;
mod axum;
mod causes;
mod config;
mod drain;
mod failing;
mod golden;
mod guard;
mod harness;
mod hello;
mod input;
mod load;
mod mixed;
mod node;
mod notify;
mod output;
mod probe;
mod program;
mod reload;
mod restart;
mod serve;
mod stop;
mod watchdog;
