//! Where control groups are made.

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use super::{Kind, absolute};
use crate::config::raw::Raw;

/// Where agents get control groups of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupChoice {
    /// In the service's own group, where it was delegated.
    Auto,
    /// Nowhere.
    None,
    /// In this directory, which must be one for it.
    At(PathBuf),
}

/// A place for control groups.
pub struct CgroupPlace;

impl Kind for CgroupPlace {
    type Value = CgroupChoice;

    fn expected(&self) -> String {
        "`auto`, `none`, or a directory such as `/sys/fs/cgroup/clawdforge`".to_owned()
    }

    fn read(&self, raw: &Raw, base: &Path) -> Result<CgroupChoice, String> {
        match raw.text() {
            Some("auto") => Ok(CgroupChoice::Auto),
            Some("none") => Ok(CgroupChoice::None),
            // A word that is misspelt is no path.
            Some(text) if text.contains('/') && !text.contains('\0') => Ok(CgroupChoice::At(absolute(text, base))),
            _ => Err(self.refuse(raw)),
        }
    }

    fn json(&self, value: &CgroupChoice) -> Json {
        match value {
            CgroupChoice::Auto => json!("auto"),
            CgroupChoice::None => json!("none"),
            CgroupChoice::At(path) => json!(path.display().to_string()),
        }
    }

    fn placeholder(&self) -> &'static str {
        "auto|none|DIR"
    }
}
