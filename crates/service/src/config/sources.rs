//! Loads a configuration from the command line, the environment or a file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::fault::{Faults, Remark, Warning};
use super::read;
use super::resolved::Config;

/// The largest configuration in bytes. Real ones have a few kilobytes; a larger file is another file.
const MAX_SIZE: u64 = 256 * 1024;

/// The argument that holds the YAML itself.
const BODY_ARGUMENT: &str = "--config-body";

/// Where to look for the configuration.
pub struct Sources<'a> {
    /// `--config`: a file name.
    pub file: Option<PathBuf>,
    /// `--config-body`: the YAML itself.
    pub body: Option<String>,
    /// `--strict`: whether an unknown key is a fault and not a warning.
    pub strict: bool,
    /// Looks up an environment variable; [`process_env`], except in tests.
    pub env: &'a dyn Fn(&str) -> Option<String>,
}

/// An environment variable of this process; `None` if it is unset or not UTF-8.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Loads the configuration. A body takes precedence over a file, wherever each comes from, and the command line over the environment (as
/// in the Go ingress).
///
/// # Errors
/// All faults together, also if there is no configuration or its file can't be read.
pub fn load(sources: &Sources<'_>) -> Result<(Config, Vec<Warning>), Faults> {
    let (name, text) = text(sources)?;
    let (config, faults, mut warnings) = read::read(&text, sources.strict, sources.env);
    let Some(config) = config else { return Err(Faults { source_name: name, faults, warnings }) };
    if name == BODY_ARGUMENT {
        let text = "every user of this machine can read it in the list of processes, secrets included: use --config with a file, or \
                    INGRESS_CONFIG_BODY";
        warnings.push(Remark { at: None, key: BODY_ARGUMENT.to_owned(), text: text.to_owned(), line: None });
    }
    Ok((config, warnings))
}

/// The name of the source, and the text.
fn text(sources: &Sources<'_>) -> Result<(String, String), Faults> {
    let env = |name| (sources.env)(name).filter(|text| !text.is_empty());
    if let Some(body) = sources.body.clone().filter(|body| !body.is_empty()) {
        return Ok((BODY_ARGUMENT.to_owned(), body));
    }
    if let Some(body) = env("INGRESS_CONFIG_BODY") {
        return Ok(("INGRESS_CONFIG_BODY".to_owned(), body));
    }
    let file = sources.file.clone().filter(|file| !file.as_os_str().is_empty());
    let Some(file) = file.or_else(|| env("INGRESS_CONFIG_FILE").map(PathBuf::from)) else {
        let text = "none is given: name a file with --config or INGRESS_CONFIG_FILE, or give the YAML itself with \
                    --config-body or INGRESS_CONFIG_BODY";
        return Err(unreadable("configuration".to_owned(), text.to_owned()));
    };
    let name = file.display().to_string();
    match read_file(&file) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(unreadable(name, format!("cannot be read: {error}"))),
    }
}

fn unreadable(source_name: String, text: String) -> Faults {
    let fault = Remark { at: None, key: String::new(), text, line: None };
    Faults { source_name, faults: vec![fault], warnings: Vec::new() }
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is longer than {MAX_SIZE} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
