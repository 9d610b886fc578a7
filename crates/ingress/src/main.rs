//! The program: `ingress` serves; `ingress check-config` looks at a configuration; `ingress health` asks a running one; `ingress worker`
//! and `ingress registry` are for itself.
#![forbid(unsafe_code)]

mod health;
mod manual;

use clap::{Parser, Subcommand};
use confine::{Mode, Profile};
use service::config::{self, Config, Sources, Warning};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

/// Brings media from outside into LiveKit rooms.
#[derive(Parser)]
#[command(name = "ingress", version, about)]
struct Cli {
    #[command(flatten)]
    config: ConfigArgs,
    #[command(subcommand)]
    command: Option<Job>,
}

#[derive(clap::Args)]
struct ConfigArgs {
    /// The configuration file (or INGRESS_CONFIG_FILE)
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The configuration itself, as YAML; takes precedence over a file (or INGRESS_CONFIG_BODY)
    #[arg(long, global = true, value_name = "YAML")]
    config_body: Option<String>,
    /// Take a key that does not exist for an error, not for a warning
    #[arg(long, global = true)]
    strict: bool,
}

#[derive(Subcommand)]
enum Job {
    /// Serve (what happens without a command too)
    Serve,
    /// Say what is wrong with the configuration, or how it is understood
    CheckConfig,
    /// Ask the ingress that runs on this machine with this configuration whether it is alive; for health checks
    Health {
        /// Ask whether it takes new sessions
        #[arg(long)]
        available: bool,
    },
    /// Print the manual page (for man)
    Manual,
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// What a session starts for itself
    #[command(hide = true)]
    Worker {
        #[arg(value_parser = |name: &str| Profile::parse(name).ok_or("no such profile"))]
        profile: Profile,
        #[arg(value_parser = |name: &str| Mode::parse(name).ok_or("no such mode"))]
        mode: Mode,
    },
    /// What the service starts once, to find GStreamer's plugins
    #[command(hide = true)]
    Registry,
}

/// As in sysexits.h: the configuration is at fault.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Job::Worker { profile, mode }) => return work(profile, mode),
        Some(Job::Registry) => return worker::make_registry(),
        Some(Job::Manual) => return printed(manual::page()),
        Some(Job::Completions { shell }) => return printed(Ok(manual::completions(shell))),
        _ => {}
    }
    // From here on there are secrets: in the environment, in the configuration, and in all that serves.
    confine::service::hide();
    let sources = Sources {
        file: cli.config.config,
        body: cli.config.config_body,
        strict: cli.config.strict,
        env: &config::process_env,
    };
    let (config, warnings) = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("ingress: the configuration can't be used: {faults:#}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match cli.command {
        Some(Job::CheckConfig) => check_config(&config, &warnings),
        Some(Job::Health { available }) => health(&config, available),
        _ => serve(config, &warnings),
    }
}

/// Prints a text that is for another program.
fn printed(text: std::io::Result<Vec<u8>>) -> ExitCode {
    match text.and_then(|text| std::io::stdout().write_all(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ingress: {e}");
            ExitCode::FAILURE
        }
    }
}

fn health(config: &Config, available: bool) -> ExitCode {
    match health::ask(config, available) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("ingress health: {why}");
            ExitCode::FAILURE
        }
    }
}

fn check_config(config: &Config, warnings: &[Warning]) -> ExitCode {
    for warning in warnings {
        eprintln!("warning: {warning:#}");
    }
    println!("{}", config.describe());
    ExitCode::SUCCESS
}

fn serve(config: Config, warnings: &[Warning]) -> ExitCode {
    // Two crypto libraries may be linked in; without a choice made here, rustls panics at its first use.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let worker = service::WorkerProgram {
        program: "/proc/self/exe".into(),
        arguments: vec!["worker".to_owned()],
        registry_arguments: vec!["registry".to_owned()],
    };
    match service::run(config, warnings, worker) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("ingress: {fault}");
            ExitCode::FAILURE
        }
    }
}

/// The session that started this process has put its socket in the place of standard input.
fn work(profile: Profile, mode: Mode) -> ExitCode {
    match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(socket) => worker::run::<transcode::Transcoder, demux::Demuxer>(socket, profile, mode),
        Err(e) => {
            eprintln!("ingress worker: no socket: {e}");
            ExitCode::FAILURE
        }
    }
}
