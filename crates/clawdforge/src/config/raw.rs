//! A value before it is understood: what a layer said, with the shape it said it in.
//!
//! The environment, the flags and the defaults know only text. The file knows shapes, and is held
//! to them: `slots = "8"` is an error there, so that the file stays what other tools expect of it.
//!
//! There is no `Debug`, because the text may be a secret.

use toml::de::DeValue;

/// Characters of a refused value that a message repeats: enough to recognise it.
const SHOWN_CHARS_MAX: usize = 80;

/// What a layer said.
#[derive(Clone)]
pub enum Raw {
    /// Text without a shape, from the environment, a flag or a default.
    Plain(String),
    /// A string in the file.
    String(String),
    /// A whole number in the file, in decimal digits.
    Integer(String),
    /// `true` or `false` in the file.
    Boolean(bool),
    /// A list of strings in the file.
    List(Vec<String>),
    /// Anything else in the file, by what it is called.
    Other(&'static str),
}

impl Raw {
    /// Takes over a value of the file.
    pub fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::String(text) => Self::String(text.to_string()),
            DeValue::Integer(number) => match i128::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Self::Integer(number.to_string()),
                Err(_) => Self::Other("a number beyond all bounds"),
            },
            DeValue::Boolean(truth) => Self::Boolean(*truth),
            DeValue::Array(items) => {
                let texts = items.iter().map(|item| item.get_ref().as_str().map(str::to_owned));
                texts.collect::<Option<Vec<_>>>().map_or(Self::Other("a list with more than strings in it"), Self::List)
            }
            DeValue::Float(_) => Self::Other("a number with a fraction"),
            DeValue::Datetime(_) => Self::Other("a date"),
            DeValue::Table(_) => Self::Other("a table"),
        }
    }

    /// The text, where text is meant.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::String(text) => Some(text),
            Self::Integer(_) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The digits, where a whole number is meant.
    pub fn number(&self) -> Option<i128> {
        match self {
            Self::Plain(text) | Self::Integer(text) => text.parse().ok(),
            Self::String(_) | Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The digits or the text, where a size such as `8GiB` or `4096` is meant.
    pub fn size(&self) -> Option<&str> {
        match self {
            Self::Plain(text) | Self::Integer(text) | Self::String(text) => Some(text),
            Self::Boolean(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// Yes or no, where that is meant.
    pub fn switch(&self) -> Option<bool> {
        match self {
            Self::Boolean(truth) => Some(*truth),
            Self::Plain(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Some(true),
                "false" | "0" | "no" | "off" => Some(false),
                _ => None,
            },
            Self::String(_) | Self::Integer(_) | Self::List(_) | Self::Other(_) => None,
        }
    }

    /// The parts of a list: as the file lists them, or parted by commas and white space.
    pub fn list(&self) -> Option<Vec<&str>> {
        match self {
            Self::Plain(text) | Self::String(text) => Some(parts(text).collect()),
            Self::List(items) => Some(items.iter().flat_map(|item| parts(item)).collect()),
            Self::Integer(_) | Self::Boolean(_) | Self::Other(_) => None,
        }
    }

    /// What a message about a refused value says it found. Never used for secrets.
    pub fn found(&self) -> String {
        match self {
            Self::Plain(text) | Self::String(text) if text.is_empty() => "an empty string".to_owned(),
            Self::Plain(text) | Self::Integer(text) => format!("`{}`", shortened(text)),
            Self::String(text) => format!("the string `{}`", shortened(text)),
            Self::Boolean(truth) => format!("`{truth}`"),
            Self::List(_) => "a list".to_owned(),
            Self::Other(what) => (*what).to_owned(),
        }
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
