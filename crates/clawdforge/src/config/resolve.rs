//! From four layers to one value, with the origin remembered.

use super::Inputs;
use super::env;
use super::file::FileLayer;
use super::kinds::Kind;
use super::options::{Opt, Spec};
use super::origin::{ConfigError, Origin};
use super::raw::Raw;
use super::show::Row;

/// Walks the layers for one option after the other and gathers rows and errors.
pub struct Resolver<'a> {
    inputs: &'a Inputs,
    file: &'a FileLayer,
    /// The effective value of each option so far.
    pub rows: Vec<Row>,
    /// Everything wrong so far.
    pub errors: Vec<ConfigError>,
}

impl<'a> Resolver<'a> {
    /// A resolver that has resolved nothing; `errors` are those of reading the file.
    pub fn new(inputs: &'a Inputs, file: &'a FileLayer, errors: Vec<ConfigError>) -> Self {
        Self { inputs, file, rows: Vec::new(), errors }
    }

    /// The effective value of an option; `None` where the highest layer that speaks is wrong.
    ///
    /// Lower layers are read as well, so that an error does not come up only when the flag that
    /// hides it is taken away.
    pub fn value<K: Kind>(&mut self, option: &Opt<K>) -> Option<K::Value> {
        let spec = &option.spec;
        let mut effective = None;
        for (raw, origin) in self.layers(spec) {
            let base = if matches!(origin, Origin::File { .. }) { &self.file.dir } else { &self.inputs.cwd };
            effective = match option.kind.read(&raw, base) {
                Ok(value) => Some((value, origin)),
                Err(message) => {
                    self.errors.push(ConfigError { origin, message: format!("`{}` {message}", spec.key) });
                    None
                }
            };
        }
        let (value, origin) = effective?;
        let (human, json) = (option.kind.human(&value), option.kind.json(&value));
        self.rows.push(Row { key: spec.key.to_owned(), value: human, json, origin });
        Some(value)
    }

    /// The row of an option that was resolved.
    pub fn row(&mut self, key: &str) -> Option<&mut Row> {
        self.rows.iter_mut().find(|row| row.key == key)
    }

    /// What each layer says about an option, lowest layer first.
    fn layers(&mut self, spec: &Spec) -> Vec<(Raw, Origin)> {
        let mut layers = vec![(Raw::Plain(spec.default.to_owned()), Origin::Default)];
        layers.extend(self.file.entries.get(spec.key).cloned());
        match env::lookup(&self.inputs.env, spec) {
            Ok(said) => layers.extend(said.map(|(name, text)| (Raw::Plain(text), Origin::Env(name.to_owned())))),
            Err(error) => self.errors.push(error),
        }
        let flag = self.inputs.flags.values.get(spec.key);
        layers.extend(flag.map(|text| (Raw::Plain(text.clone()), Origin::Flag(format!("--{}", spec.flag())))));
        layers
    }
}
