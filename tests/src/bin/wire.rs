//! `wire --listen 127.0.0.1:PORT --upstream 127.0.0.1:PORT`: see [`tests::wire`].

use std::process::ExitCode;

use tests::{server, wire::Wire};

#[tokio::main]
async fn main() -> ExitCode {
    server::run(["--listen", "--upstream"], |listener, [_, upstream]| Wire::new(upstream).serve(listener)).await
}
