//! What a rule found: a place and a sentence that says what to do.

/// Whether a finding fails the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// The rule is broken.
    Offence,
    /// Worth a look, nothing more.
    Note,
}

/// One place that a rule has something to say about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root of the repository.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Whether it fails the check.
    pub weight: Weight,
    /// What is wrong and what to do.
    pub sentence: String,
}

impl Finding {
    /// A broken rule.
    pub fn offence(path: &str, line: usize, sentence: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, weight: Weight::Offence, sentence: sentence.into() }
    }

    /// A remark.
    pub fn note(path: &str, line: usize, sentence: impl Into<String>) -> Self {
        Self { weight: Weight::Note, ..Self::offence(path, line, sentence) }
    }

    /// `path:line: rule: sentence`.
    pub fn show(&self, rule: &str) -> String {
        let note = if self.weight == Weight::Note { " (note)" } else { "" };
        format!("{}:{}: {rule}{note}: {}", self.path, self.line, self.sentence)
    }
}

/// The places of findings as `path:line`, for tests.
#[cfg(test)]
pub fn places(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_as_place_rule_and_sentence() {
        assert_eq!(Finding::offence("a/b.rs", 7, "do this").show("edges"), "a/b.rs:7: edges: do this");
        assert_eq!(Finding::note("a/b.rs", 1, "look").show("edges"), "a/b.rs:1: edges (note): look");
    }
}
