//! The command line, as an operator has it.

use std::{
    env,
    process::{Command, Output},
};

use tests::stack::Stack;

/// What the command said, and its exit status.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) text: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn is(&self, status: i32, words: &str) {
        assert!(self.status == status && self.text.contains(words), "not {status} and `{words}`: {} {}", self.status, self.text);
    }
}

/// Runs `posthouse GROUP COMMAND …` on the stack.
pub(crate) fn posthouse(stack: &Stack, group: &str, args: &[&str]) -> Said {
    let (command, rest) = args.split_first().expect("a command");
    run(stack, &[&[group, command, "--stack", stack.output("StackName")], rest].concat())
}

/// Runs the command with credentials and region from the environment.
pub(crate) fn run(stack: &Stack, args: &[&str]) -> Said {
    // Beside the folder that the journeys themselves are in.
    let journeys = env::current_exe().unwrap();
    let program = journeys.ancestors().nth(2).unwrap().join("posthouse");
    let Output { status, stdout, stderr } = Command::new(&program)
        .args(args)
        .env_clear()
        .env("AWS_ENDPOINT_URL", stack.aws.endpoint_url().unwrap())
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}; build it with `make build-local`", program.display()));
    let text = [stdout, stderr].concat();
    Said { status: status.code().unwrap(), text: String::from_utf8(text).unwrap() }
}
