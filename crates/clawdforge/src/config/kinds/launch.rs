//! Kinds that say how a program is started: its path, its arguments, the names of its variables.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::{Kind, absolute};
use crate::config::raw::Raw;

/// Names one list of variables may hold; each is compared with every variable at each start.
const NAMES_MAX: usize = 256;

/// A program: a bare name stays one, a path becomes absolute.
pub struct Program;

impl Kind for Program {
    type Value = PathBuf;

    fn expected(&self) -> String {
        "the name or the path of a program".to_owned()
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<PathBuf, String> {
        let text =
            raw.text().filter(|text| !text.is_empty() && !text.contains('\0')).ok_or_else(|| self.refuse(raw))?;
        Ok(if text.contains('/') { absolute(text, base) } else { PathBuf::from(text) })
    }

    fn json(&self, value: &PathBuf) -> Json {
        json!(value.display().to_string())
    }

    fn placeholder(&self) -> &'static str {
        "PROGRAM"
    }
}

/// Strings that are taken as they are.
pub struct Words;

impl Kind for Words {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of strings".to_owned()
    }

    fn read(&self, raw: &Raw, _base: &Path) -> Result<Vec<String>, String> {
        match raw {
            Raw::List(items) if items.iter().all(|item| !item.contains('\0')) => Ok(items.clone()),
            _ => Err(self.refuse(raw)),
        }
    }

    fn json(&self, value: &Vec<String>) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "WORDS"
    }
}

/// Names of variables, or beginnings of names with a `*` behind.
pub struct EnvNames;

impl Kind for EnvNames {
    type Value = Vec<String>;

    fn expected(&self) -> String {
        "a list of variable names; a `*` may end a name, but not stand alone".to_owned()
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<Vec<String>, String> {
        let names = Words.read(raw, base).map_err(|_| self.refuse(raw))?;
        if names.len() > NAMES_MAX {
            return Err(format!("lists {} names; {NAMES_MAX} are allowed", names.len()));
        }
        match names.iter().find(|name| !is_env_name(name.strip_suffix('*').unwrap_or(name))) {
            Some(bad) => Err(format!("must be {}; `{bad}` is not one", self.expected())),
            None => Ok(names),
        }
    }

    fn json(&self, value: &Vec<String>) -> Json {
        json!(value)
    }

    fn placeholder(&self) -> &'static str {
        "NAMES"
    }
}

/// Whether a text can name a variable in every shell.
pub fn is_env_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(allowed)
}
