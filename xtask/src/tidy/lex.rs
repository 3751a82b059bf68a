//! Rust source as words and marks, so that rules see code and never the inside of a text or a comment.
//!
//! Not a parser: macros are read like any other code, which is what the rules want. Texts, characters
//! and comments are left out; a lifetime is one token, so `'static` is not the word `static`.

/// A word (identifier, keyword, number), a lifetime or one mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// As written.
    pub text: String,
    /// Line, from 1.
    pub line: usize,
    /// Whether it is inside an item marked `#[cfg(test)]`.
    pub test: bool,
}

impl Token {
    /// Whether this is an identifier, a keyword or a number.
    pub fn is_word(&self) -> bool {
        self.text.starts_with(is_word_char)
    }
}

/// Reads a source file.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut found = scan(source);
    mark_tests(&mut found);
    found
}

/// The tokens, not yet marked as tests.
fn scan(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(next) = source[at..].chars().next() {
        let rest = &source[at..];
        let (length, is_token) = if next.is_whitespace() {
            (next.len_utf8(), false)
        } else if let Some(length) = comment(rest).or_else(|| text(rest)).or_else(|| character(rest)) {
            (length, false)
        } else if next == '\'' || is_word_char(next) {
            (next.len_utf8() + word(&rest[next.len_utf8()..]), true)
        } else {
            (next.len_utf8(), true)
        };
        let piece = &rest[..length];
        if is_token {
            found.push(Token { text: piece.to_owned(), line, test: false });
        }
        line += piece.matches('\n').count();
        at += length;
    }
    found
}

/// Where a sequence of tokens, written as code, begins.
pub fn find(tokens: &[Token], code: &str) -> Vec<usize> {
    let wanted = scan(code);
    let same = |window: &[Token]| window.iter().zip(&wanted).all(|(one, other)| one.text == other.text);
    tokens.windows(wanted.len()).enumerate().filter(|(_, window)| same(window)).map(|(index, _)| index).collect()
}

/// The index of the mark that closes the one at `open`; the end of the tokens when there is none.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len().saturating_sub(1)
}

fn is_word_char(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Bytes of the word characters at the start.
fn word(rest: &str) -> usize {
    rest.find(|character| !is_word_char(character)).unwrap_or(rest.len())
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        let (step, change) = match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at += step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            break;
        }
    }
    Some(at)
}

/// A string of any kind: plain, byte, C, raw.
fn text(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        let opens = if prefix.ends_with('r') { after.trim_start_matches('#') } else { after };
        opens.starts_with('"')
    })?;
    let after = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = after.len() - after.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        let body = prefix.len() + hashes + 1;
        return Some(rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len()));
    }
    let mut escaped = false;
    for (at, byte) in after.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(prefix.len() + at + 1),
            _ => {}
        }
    }
    Some(rest.len())
}

/// A character or byte literal; not a lifetime.
fn character(rest: &str) -> Option<usize> {
    let prefix = usize::from(rest.starts_with("b'"));
    let after = rest[prefix..].strip_prefix('\'')?;
    let inner = match after.strip_prefix('\\') {
        // The escaped character itself may be a quote.
        Some(escape) => {
            1 + escape.chars().next()?.len_utf8() + escape.chars().skip(1).take_while(|c| *c != '\'').count()
        }
        None => after.chars().next()?.len_utf8(),
    };
    after.get(inner..)?.starts_with('\'').then_some(prefix + 1 + inner + 1)
}

fn mark_tests(tokens: &mut [Token]) {
    for start in find(tokens, "#[cfg(test)]") {
        let after = start + scan("#[cfg(test)]").len();
        // The item ends with its block, or at the semicolon before any.
        let opens = (after..tokens.len()).find(|index| matches!(tokens[*index].text.as_str(), "{" | ";"));
        let Some(opens) = opens else { continue };
        let end = if tokens[opens].text == "{" { closing(tokens, opens) } else { opens };
        for token in &mut tokens[start..=end] {
            token.test = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn texts_comments_and_characters_are_not_code() {
        let source = r####"a /* x /* y */ z */ "s \" s" b // c
            r#"q " q"# br"w" b"v" c"u" '"' '\'' '\u{1F600}' b'\\' 'é' d"####;
        assert_eq!(words(source), ["a", "b", "d"]);
    }

    #[test]
    fn a_lifetime_is_not_a_word() {
        assert_eq!(words("&'static mut T"), ["&", "'static", "mut", "T"]);
        assert!(!tokens("'static")[0].is_word());
        assert!(tokens("static")[0].is_word());
    }

    #[test]
    fn an_unfinished_text_ends_with_the_file() {
        assert_eq!(words("a \"b"), ["a"]);
        assert_eq!(words("a r#\"b\""), ["a"]);
        assert_eq!(words("a /* b"), ["a"]);
    }

    #[test]
    fn tokens_know_their_line() {
        let lines: Vec<_> =
            tokens("a\n\"x\ny\" b\n/*\n*/ c").into_iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(lines, [("a".to_owned(), 1), ("b".to_owned(), 3), ("c".to_owned(), 5)]);
    }

    #[test]
    fn a_sequence_is_found_whatever_the_spacing() {
        let source = tokens("x; Instant :: now(); \"Instant::now\"; Instant::\n now");
        assert_eq!(find(&source, "Instant::now").len(), 2);
    }

    #[test]
    fn an_item_for_tests_is_marked_to_its_end() {
        let source = tokens("a; #[cfg(test)] mod tests { b { c } } d; #[cfg(test)] mod e; f");
        let marked = |word: &str| source.iter().find(|token| token.text == word).unwrap().test;
        assert_eq!(["a", "b", "c", "d", "e", "f"].map(marked), [false, true, true, false, true, false]);
    }
}
