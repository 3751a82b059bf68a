//! `~/.config/clawdforge/cf.env`: `KEY=VALUE` lines with a shell's quoting, private to its owner.
//!
//! It is read, not executed: nothing is expanded and nothing is run. Errors name the line and never
//! what is on it, since that is a token.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::limits::SETTINGS_BYTES_MAX;

/// The values of a configuration file; empty where there is none. No `Debug`: it holds secrets.
#[derive(Default)]
pub(super) struct EnvFile(BTreeMap<String, String>);

/// Why a configuration file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvFileError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not used: {problem}", path.display())]
    Unsafe { path: PathBuf, problem: Unsafe },
    #[error("{} line {line}: {problem}", path.display())]
    Syntax { path: PathBuf, line: usize, problem: Syntax },
}

/// What makes a file unfit to hold a token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unsafe {
    NoFile,
    Mode(u32),
    Owner(u32),
    TooLong,
}

/// What a line cannot be read for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Syntax {
    NoAssignment,
    BadName,
    OpenQuote,
    Expansion,
    Trailing,
}

impl EnvFile {
    /// A value that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Reads the file at `path`, if there is one.
pub(super) fn load(path: &Path) -> Result<EnvFile, EnvFileError> {
    let failed = |source: io::Error| EnvFileError::Read { path: path.to_owned(), source };
    let refuse = |problem: Unsafe| EnvFileError::Unsafe { path: path.to_owned(), problem };
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(refuse(Unsafe::NoFile)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(EnvFile::default());
        }
        Err(error) => return Err(failed(error)),
    }
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that what was checked is what is read.
    let found = file.metadata().map_err(failed)?;
    check(found.mode(), found.uid(), rustix::process::geteuid().as_raw()).map_err(refuse)?;
    if found.len() > SETTINGS_BYTES_MAX {
        return Err(refuse(Unsafe::TooLong));
    }
    let mut text = String::new();
    file.take(SETTINGS_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    parse(&text).map_err(|(line, problem)| EnvFileError::Syntax { path: path.to_owned(), line, problem })
}

fn check(mode: u32, owner: u32, me: u32) -> Result<(), Unsafe> {
    let mode = mode & 0o7777;
    if owner != me {
        Err(Unsafe::Owner(owner))
    } else if mode != 0o600 && mode != 0o400 {
        Err(Unsafe::Mode(mode))
    } else {
        Ok(())
    }
}

fn parse(text: &str) -> Result<EnvFile, (usize, Syntax)> {
    let mut values = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let at = |problem| (index + 1, problem);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, value) = line.split_once('=').ok_or(at(Syntax::NoAssignment))?;
        let named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if name.is_empty() || !named || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(at(Syntax::BadName));
        }
        values.insert(name.to_owned(), unquote(value).map_err(at)?);
    }
    Ok(EnvFile(values))
}

/// One word as a shell would read it, without expansions.
fn unquote(text: &str) -> Result<String, Syntax> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => loop {
                match chars.next().ok_or(Syntax::OpenQuote)? {
                    '\'' => break,
                    inside => value.push(inside),
                }
            },
            '"' => loop {
                match chars.next().ok_or(Syntax::OpenQuote)? {
                    '"' => break,
                    '$' | '`' => return Err(Syntax::Expansion),
                    '\\' => match chars.next().ok_or(Syntax::OpenQuote)? {
                        escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                        other => value.extend(['\\', other]),
                    },
                    inside => value.push(inside),
                }
            },
            '\\' => value.push(chars.next().ok_or(Syntax::OpenQuote)?),
            '$' | '`' => return Err(Syntax::Expansion),
            ';' | '&' | '|' | '<' | '>' | '(' | ')' => return Err(Syntax::Trailing),
            c if c.is_whitespace() => {
                let rest = chars.as_str().trim_start();
                return if rest.is_empty() || rest.starts_with('#') { Ok(value) } else { Err(Syntax::Trailing) };
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile => f.write_str("it is no regular file"),
            Self::Mode(mode) => {
                write!(f, "its mode is {mode:04o}, and a file with tokens must be 0600 or 0400 (chmod 600)")
            }
            Self::Owner(owner) => {
                write!(f, "it belongs to user {owner}. Make it your own (chown), or write a new one with mode 0600")
            }
            Self::TooLong => write!(f, "it is longer than {SETTINGS_BYTES_MAX} bytes"),
        }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAssignment => "is not KEY=VALUE",
            Self::BadName => "the part before `=` is no variable's name",
            Self::OpenQuote => "a quote or a backslash is not finished",
            Self::Expansion => "nothing is expanded here; put a value with `$` or a backquote into single quotes",
            Self::Trailing => "something stands after the value; put a value with spaces or signs into quotes",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Result<String, Syntax> {
        match parse(line) {
            Ok(file) => Ok(file.0.into_values().next().unwrap_or_default()),
            Err((_, problem)) => Err(problem),
        }
    }

    #[test]
    fn values_are_read_as_a_shell_reads_them() {
        for (line, expected) in [
            ("A=plain", "plain"),
            ("  export A=plain  ", "plain"),
            ("A=", ""),
            ("A='one \" $two'", "one \" $two"),
            (r#"A="one \" \$two \n""#, "one \" $two \\n"),
            (r"A=one\ two", "one two"),
            ("A=one # a remark", "one"),
            ("A=one#two", "one#two"),
            ("A='one'\"two\"three", "onetwothree"),
            ("A=http://h:1/?x=y", "http://h:1/?x=y"),
        ] {
            assert_eq!(value(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_no_plain_assignment_is_refused() {
        for (line, problem) in [
            ("just words", Syntax::NoAssignment),
            ("=x", Syntax::BadName),
            ("A B=x", Syntax::BadName),
            ("1A=x", Syntax::BadName),
            ("A='x", Syntax::OpenQuote),
            ("A=\"x", Syntax::OpenQuote),
            ("A=x\\", Syntax::OpenQuote),
            ("A=$HOME", Syntax::Expansion),
            ("A=\"`id`\"", Syntax::Expansion),
            ("A=x y", Syntax::Trailing),
            ("A=x;id", Syntax::Trailing),
        ] {
            assert_eq!(value(line), Err(problem), "{line}");
        }
    }

    #[test]
    fn a_fault_names_its_line_and_later_lines_win() {
        assert_eq!(parse("# one\n\nA=1\nA=$2\n").err(), Some((4, Syntax::Expansion)));
        assert_eq!(parse("A=1\r\nA=2\r\n").ok().as_ref().and_then(|file| file.get("A")), Some("2"));
    }

    #[test]
    fn only_a_private_file_of_ones_own_is_used() {
        assert_eq!(check(0o100_600, 7, 7), Ok(()));
        assert_eq!(check(0o100_400, 7, 7), Ok(()));
        for mode in [0o644, 0o640, 0o700, 0o666, 0o4600, 0o000] {
            assert_eq!(check(0o100_000 | mode, 7, 7), Err(Unsafe::Mode(mode)));
        }
        assert_eq!(check(0o100_600, 0, 7), Err(Unsafe::Owner(0)));
    }
}
