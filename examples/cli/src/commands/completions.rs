//! `backstay completions`

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{args::Cli, exit};

const EXAMPLES: &str = "\
Examples:
  backstay completions bash > /etc/bash_completion.d/backstay
  backstay completions zsh > \"${fpath[1]}/_backstay\"
  backstay completions fish > ~/.config/fish/completions/backstay.fish";

/// Print completions for a shell.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub fn run(self) -> u8 {
        // Into memory first: the generator panics when a pipe closes.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "backstay", &mut script);
        match std::io::stdout().write_all(&script) {
            Ok(()) => exit::OK,
            Err(_) => exit::INTERNAL,
        }
    }
}
