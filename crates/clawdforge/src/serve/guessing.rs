//! How hard a token that a person chose is to guess: an estimate that errs towards "easy".
//!
//! What a guesser tries first counts for nothing: words of placeholders, runs such as `1234` and `aaaa`, a text said
//! over and over. What is left is worth its characters' own entropy.

/// Bits a token must be worth. Sixteen random hexadecimal digits come to about 41, a person's `nas-forge-2026` to 20.
const BITS_MIN: f64 = 40.0;

/// Words that placeholders and quick choices are made of.
const WORDS: [&str; 48] = [
    "clawdforge",
    "placeholder",
    "changethis",
    "changeme",
    "password",
    "passw0rd",
    "internal",
    "operator",
    "production",
    "replace",
    "example",
    "default",
    "insecure",
    "bootstrap",
    "service",
    "generate",
    "cfadmin",
    "bearer",
    "secret",
    "access",
    "change",
    "master",
    "please",
    "server",
    "private",
    "letmein",
    "welcome",
    "qwerty",
    "asdf",
    "zxcv",
    "admin",
    "token",
    "forge",
    "claude",
    "agent",
    "dummy",
    "there",
    "value",
    "local",
    "test",
    "pass",
    "root",
    "user",
    "your",
    "todo",
    "here",
    "this",
    "with",
];

/// Whether a token is a placeholder or otherwise easy to guess.
pub fn is_easy(token: &str) -> bool {
    bits(token) < BITS_MIN
}

fn bits(token: &str) -> f64 {
    let mut rest = token.to_ascii_lowercase();
    for word in WORDS {
        rest = rest.replace(word, " ");
    }
    let unit = unit(&without_runs(&rest)).to_vec();
    let mut counts = [0_u32; 256];
    for byte in &unit {
        counts[usize::from(*byte)] += 1;
    }
    let length = f64::from(u32::try_from(unit.len()).unwrap_or(u32::MAX));
    let of = |count: u32| f64::from(count) * (length / f64::from(count)).log2();
    counts.into_iter().filter(|count| *count > 0).map(of).sum()
}

/// The text without what follows from the character before: the same, the next or the previous one.
fn without_runs(text: &str) -> Vec<u8> {
    let bytes = text.bytes();
    let mut last = None;
    bytes.filter(|byte| last.replace(*byte).is_none_or(|last: u8| last.abs_diff(*byte) > 1)).collect()
}

/// The shortest beginning that, said over and over, is the whole.
fn unit(text: &[u8]) -> &[u8] {
    let repeats = |length: &usize| text.iter().zip(text.iter().skip(*length)).all(|(a, b)| a == b);
    let length = (1..text.len()).find(repeats).unwrap_or(text.len());
    &text[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_runs_and_repetitions_are_easy() {
        for token in [
            "changemechangeme",
            "CHANGE-ME-CHANGE-ME",
            "replace-this-with-your-secret-token",
            "your_admin_token_here",
            "0123456789abcdef",
            "0123456789abcdef0123456789abcdef",
            "aaaaaaaaaaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabcabc",
            "x7qx7qx7qx7qx7qx7qx7qx7qx7q",
            "password12345678",
            "clawdforge-admin-token",
            "nas-forge-admin-2026",
            "test-token-for-local-use",
            "................",
        ] {
            assert!(is_easy(token), "{token}: {} bits", bits(token));
        }
    }

    #[test]
    fn what_was_drawn_at_random_is_not() {
        for token in [
            // 64, 128 and 256 bits, as usual tools write them.
            "f3a91c7e08d25b64",
            "9f86d081884c7d659a2feaa0c55ad015",
            "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9",
            "Zr4uTq9XwLm2Kp7Vd3Hs",
            "kJ8s+2Qf/9vLxW0pYbTnEw==",
            "correct-horse-battery-staple",
            "cfadmin_own_7w3k0q5m2x9p4r8s1t6v7w3k0q5m2x9p4r8s1t6v7w3k0q5m2x9p_abcdef",
        ] {
            assert!(!is_easy(token), "{token}: {} bits", bits(token));
        }
    }
}
