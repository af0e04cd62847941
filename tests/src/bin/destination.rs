//! `destination --listen 127.0.0.1:PORT`: see [`tests::destination`].

use std::process::ExitCode;

use tests::{destination::Destination, server};

#[tokio::main]
async fn main() -> ExitCode {
    server::run(["--listen"], |listener, _| Destination::default().serve(listener)).await
}
