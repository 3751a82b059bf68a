//! The file: finding it, reading it, and reporting everything in it that means nothing.
//!
//! Messages name keys and lines and never quote a line, because a line may hold a secret.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::agents::{self, Agents};
use super::kinds::absolute;
use super::options::{self, OPTIONS, Reach};
use super::origin::{ConfigError, Origin};
use super::raw::Raw;
use super::{Inputs, env, suggest};

/// The environment variable that names the file.
pub const CONFIG_ENV: &str = "CLAWDFORGE_CONFIG";

/// The file in the working directory that is read when no other was named.
pub const LOCAL_FILE: &str = "clawdforge.toml";

/// Bytes of a configuration file; the example with every option is a hundredth of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What the file says; empty without a file.
#[derive(Default)]
pub struct FileLayer {
    /// The directory of the file, from which relative paths start.
    pub dir: PathBuf,
    /// What it says about options, by key.
    pub entries: BTreeMap<&'static str, (Raw, Origin)>,
    /// Its agents.
    pub agents: Agents,
    /// Whether parts of it could not be read, so that what is missing proves nothing.
    pub damaged: bool,
}

/// The text of a file together with what messages about it need.
pub struct Page<'a> {
    /// The file as it was named or found.
    pub path: &'a Path,
    /// Its directory, absolute.
    pub dir: &'a Path,
    /// Its text.
    pub text: &'a str,
}

impl Page<'_> {
    /// The line where something begins.
    pub fn origin(&self, span: &Range<usize>) -> Origin {
        let before = self.text.as_bytes().iter().take(span.start);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File { path: self.path.to_owned(), line }
    }

    /// An error at the line where something begins.
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>) -> ConfigError {
        ConfigError { origin: self.origin(span), message: message.into() }
    }
}

/// Finds the file and reads it. A named file must be there; the others may be missing.
pub fn read(inputs: &Inputs, errors: &mut Vec<ConfigError>) -> FileLayer {
    match open(inputs) {
        Ok(None) => FileLayer::default(),
        Ok(Some((path, text))) => {
            let absolute = absolute(&path, &inputs.cwd);
            let dir = absolute.parent().unwrap_or(&inputs.cwd);
            parse(&Page { path: &path, dir, text: &text }, errors)
        }
        Err(error) => {
            errors.push(error);
            FileLayer { damaged: true, ..FileLayer::default() }
        }
    }
}

fn open(inputs: &Inputs) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let named = match &inputs.flags.config {
        Some(path) => Some((path.clone(), Origin::Flag("--config".to_owned()))),
        None => env::text_of(&inputs.env, CONFIG_ENV)?.map(|path| (path, Origin::Env(CONFIG_ENV.to_owned()))),
    };
    if let Some((path, origin)) = named {
        let text = read_text(&inputs.cwd.join(&path), FILE_BYTES_MAX)
            .map_err(|error| ConfigError { origin, message: format!("cannot read {path}: {error}") })?;
        return Ok(Some((PathBuf::from(path), text)));
    }
    for path in [Path::new(LOCAL_FILE), &inputs.system_file] {
        match read_text(&inputs.cwd.join(path), FILE_BYTES_MAX) {
            Ok(text) => return Ok(Some((path.to_owned(), text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let origin = Origin::File { path: path.to_owned(), line: 0 };
                return Err(ConfigError { origin, message: format!("cannot be read: {error}") });
            }
        }
    }
    Ok(None)
}

/// The text of a file of bounded size.
pub fn read_text(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > bytes_max {
        let message = format!("the file is larger than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

fn parse(page: &Page<'_>, errors: &mut Vec<ConfigError>) -> FileLayer {
    let (document, damages) = DeTable::parse_recoverable(page.text);
    for damage in &damages {
        // Only the message: the error's full text quotes the line.
        errors.push(page.error(&damage.span().unwrap_or_default(), damage.message()));
    }
    let mut layer = FileLayer { dir: page.dir.to_owned(), damaged: !damages.is_empty(), ..FileLayer::default() };
    if layer.damaged {
        // What a damaged document seems to say would only raise misleading errors.
        return layer;
    }
    for (key, value) in document.get_ref() {
        let (name, at) = (key.get_ref().as_ref(), key.span());
        match (name, value.get_ref(), options::find(name)) {
            (agents::TABLE, DeValue::Table(tables), _) => layer.agents = agents::read(tables, page, errors),
            (agents::TABLE, _, _) => errors.push(page.error(&at, "`agents` must be tables such as `[agents.claude]`")),
            (_, value, Some(option)) if option.spec().reach == Reach::Everywhere => {
                layer.entries.insert(option.spec().key, (Raw::of(value), page.origin(&at)));
            }
            (_, _, Some(_)) => errors.push(page.error(&at, not_in_a_file(name))),
            (_, _, None) => errors.push(page.error(&at, unknown(name))),
        }
    }
    layer
}

fn not_in_a_file(key: &str) -> String {
    let env = options::find(key).and_then(|option| option.spec().env.first()).unwrap_or(&"the environment");
    format!("`{key}` does not belong into this file; set `{env}`, or name a file with `{key}_file`")
}

fn unknown(key: &str) -> String {
    let known = OPTIONS.iter().map(|option| option.spec().key).chain([agents::TABLE]);
    format!("unknown key `{key}`{}", suggest::did_you_mean(key, known))
}
