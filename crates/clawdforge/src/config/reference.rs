//! The example file and the reference page, written from the table of options.

use std::io::{self, Write};

use super::SYSTEM_FILE;
use super::agents::AGENT_KEYS;
use super::file::CONFIG_ENV;
use super::options::{AnyOption, Group, OPTIONS, Reach};

/// Writes a file that shows every option with its default, all commented out: prose after `# `,
/// settings after `#` alone.
pub fn example(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# clawdforge.toml: every option with its default.")?;
    writeln!(out, "# Take away the `#` in front of what you want to change. The environment and flags override it.")?;
    for group in Group::ALL {
        writeln!(out, "\n# {0}\n# {1}", group.title(), "-".repeat(group.title().len()))?;
        for option in in_group(group) {
            let spec = option.spec();
            writeln!(out, "\n# {}", spec.help)?;
            if spec.reach == Reach::EnvironmentOnly {
                writeln!(out, "# Not in this file: set {}.", spec.env.join(" or "))?;
                continue;
            }
            writeln!(out, "# {}.", capitalised(&option.expected()))?;
            match option.toml_default() {
                Some(value) => writeln!(out, "#{} = {value}", spec.key)?,
                None => writeln!(out, "#{} = \"…\"", spec.key)?,
            }
        }
    }
    writeln!(out, "\n# One table for each agent that is not to be as it comes.\n#[agents.claude]")?;
    for key in AGENT_KEYS {
        writeln!(out, "# {}\n#{} = {}", key.help, key.key, key.example)?;
    }
    Ok(())
}

/// Writes `docs/reference/configuration.md`.
pub fn page(out: &mut dyn Write) -> io::Result<()> {
    let system_file = SYSTEM_FILE;
    write!(
        out,
        "<!-- Written by `clawdforge config reference`; change crates/clawdforge/src/config/options.rs instead. -->\n\
         # Configuration\n\n\
         An option takes its value from the last of these that names it:\n\n\
         1. its default;\n\
         2. the file: the one named by `--config` or `{CONFIG_ENV}`, else `./clawdforge.toml`, else `{system_file}`;\n\
         3. the environment, where an empty variable counts as not set;\n\
         4. flags of `clawdforge serve`.\n\n\
         `clawdforge config show` prints the values in force and where each comes from, \
         `clawdforge config example` a file with every option. Unknown keys and wrong values are errors, \
         all reported at once, even where a later layer overrides them. \
         Relative paths in the file start from the file's directory, others from the working directory. \
         Lists in the environment and in flags are separated by commas or spaces.\n"
    )?;
    for group in Group::ALL {
        writeln!(out, "\n## {}", group.title())?;
        for option in in_group(group) {
            section(option, out)?;
        }
    }
    writeln!(
        out,
        "\n## Agents of your own\n\n\
         A table `[agents.<name>]` in the file describes one agent; the name has 1 to 64 characters out of \
         a-z, A-Z, 0-9, `_` and `-`.\n\n\
         | key | example | meaning |\n|---|---|---|"
    )?;
    for key in AGENT_KEYS {
        writeln!(out, "| `{}` | `{}` | {} |", key.key, key.example, key.help)?;
    }
    Ok(())
}

fn section(option: &dyn AnyOption, out: &mut dyn Write) -> io::Result<()> {
    let spec = option.spec();
    let (everywhere, names) = (spec.reach == Reach::Everywhere, spec.env.join("`, `"));
    writeln!(out, "\n### `{}`\n\n{}\n\n| | |\n|---|---|", spec.key, spec.help)?;
    writeln!(out, "| value | {} |", option.expected())?;
    match spec.default {
        "" => writeln!(out, "| default | none |")?,
        default => writeln!(out, "| default | `{default}` |")?,
    }
    writeln!(out, "| environment | `{names}` |")?;
    if everywhere {
        writeln!(out, "| flag | `--{}` |", spec.flag())?;
    } else {
        writeln!(out, "| flag, file | no: the value is a secret |")?;
    }
    writeln!(out, "| since | {} |", spec.since)
}

fn in_group(group: Group) -> impl Iterator<Item = &'static dyn AnyOption> {
    OPTIONS.iter().copied().filter(move |option| option.spec().group == group)
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
