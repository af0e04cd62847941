//! `posthouse deliveries`

use clap::{Args, Subcommand};
use shared::names::DestinationName;

use super::{KeyArgs, reason};

/// `posthouse deliveries`
///
/// Region and credentials are found as by other AWS tools: AWS_REGION, AWS_PROFILE, single sign-on, roles.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct DeliveriesArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DeliveriesCommand,
}

/// The commands about deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// End a delivery for good: nothing tries it any more, and no redrive takes it
    Cancel(CancelArgs),
}

/// `posthouse deliveries cancel`
#[derive(Debug, Args)]
pub struct CancelArgs {
    /// Of which event.
    #[command(flatten)]
    pub key: KeyArgs,
    /// The destination that it goes to
    #[arg(value_parser = DestinationName::parse)]
    pub destination: DestinationName,
    /// Why, for whoever looks at it next
    #[arg(long, value_name = "TEXT", default_value = "by an operator", value_parser = reason)]
    pub reason: String,
    /// Say what would happen, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}
