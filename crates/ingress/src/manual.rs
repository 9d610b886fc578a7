//! The manual page and the shells' completions, made from the command line's own description.

use clap::{Command, CommandFactory};

/// The manual page, for `man`.
///
/// # Errors
/// None in practice: it is written to memory.
pub(crate) fn page() -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(crate::Cli::command()).render(&mut page)?;
    Ok(page)
}

/// The completions of a shell, to be read by it.
pub(crate) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut offered(), "ingress", &mut script);
    script
}

/// The command line without what the program has for itself; completions would offer that too.
fn offered() -> Command {
    let whole = crate::Cli::command();
    let shown = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    Command::new("ingress").args(whole.get_arguments().cloned()).subcommands(shown)
}
