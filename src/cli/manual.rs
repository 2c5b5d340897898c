//! `runtally completions` and `runtally man`: what other programs know of the command line.

use clap::Args;
use clap_complete::Shell;
use runtally::Error;

use super::{Exit, write};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally completions bash > ~/.local/share/bash-completion/completions/runtally
  runtally completions zsh > ~/.zfunc/_runtally
  runtally completions fish > ~/.config/fish/completions/runtally.fish")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, mut command: clap::Command) -> Result<Exit, Error> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "runtally", &mut script);
        write::to_stdout(|out| out.write_all(&script))?;
        Ok(Exit::Done)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  runtally man | man -l -
  runtally man show > ~/.local/share/man/man1/runtally-show.1")]
pub(super) struct Man {
    /// The command whose page is asked for.
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

impl Man {
    pub(super) fn run(&self, whole: &clap::Command) -> Result<Exit, Error> {
        let page = match &self.command {
            None => whole.clone(),
            Some(name) => {
                let found = whole.find_subcommand(name).ok_or_else(|| {
                    let names: Vec<_> = whole
                        .get_subcommands()
                        .map(clap::Command::get_name)
                        .collect();
                    Error::Usage {
                        problem: format!("there is no command {name:?}"),
                        hint: Some(format!("the commands are {}", names.join(", "))),
                    }
                })?;
                // The page is called as its command is, with a hyphen.
                found.clone().name(format!("runtally-{}", found.get_name()))
            }
        };
        write::to_stdout(|out| clap_mangen::Man::new(page).render(out))?;
        Ok(Exit::Done)
    }
}
