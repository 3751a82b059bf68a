//! The flags: the last layer, built for `clap` from the table of options.

use std::collections::BTreeMap;

use clap::builder::NonEmptyStringValueParser;
use clap::{Arg, ArgMatches, Command};

use super::file::CONFIG_ENV;
use super::options::{AnyOption, OPTIONS, Reach};

const CONFIG_ARG: &str = "config";

/// What was said by flags.
#[derive(Clone, Default)]
pub struct Flags {
    /// The file that `--config` names.
    pub config: Option<String>,
    /// The text of each option that was given, by key.
    pub values: BTreeMap<&'static str, String>,
}

impl Flags {
    /// Collects what was given to a command made with [`serve_args`].
    pub fn of(matches: &ArgMatches) -> Self {
        // A name the command does not know was not given either.
        let given = |id: &str| matches.try_get_one::<String>(id).ok().flatten().cloned();
        let keys = OPTIONS.iter().map(|option| option.spec().key);
        Self { config: given(CONFIG_ARG), values: keys.filter_map(|key| Some((key, given(key)?))).collect() }
    }
}

/// Adds `--config` and the flag of every option to a command.
pub fn serve_args(command: Command) -> Command {
    let config =
        Arg::new(CONFIG_ARG).long(CONFIG_ARG).value_name("FILE").value_parser(NonEmptyStringValueParser::new()).help(
            format!(
                "The configuration file [default: ./clawdforge.toml, else {}] [env: {CONFIG_ENV}]",
                super::SYSTEM_FILE
            ),
        );
    let options = OPTIONS.iter().filter(|option| option.spec().reach == Reach::Everywhere);
    command.arg(config).args(options.map(|option| arg(*option)))
}

fn arg(option: &dyn AnyOption) -> Arg {
    let spec = option.spec();
    let default = if spec.default.is_empty() { String::new() } else { format!(" [default: {}]", spec.default) };
    let env = spec.env.first().map(|name| format!(" [env: {name}]")).unwrap_or_default();
    let arg = Arg::new(spec.key)
        .long(spec.flag())
        .value_name(option.placeholder())
        .help(format!("{}{default}{env}", spec.help))
        .help_heading(spec.group.title())
        .allow_negative_numbers(true);
    if option.is_switch() { arg.num_args(0..=1).require_equals(true).default_missing_value("true") } else { arg }
}
