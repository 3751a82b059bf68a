//! A file is one thought: past 400 lines it is looked at, past 700 it is split.

use super::finding::Finding;
use super::tree::Tree;

const NOTED_LINES: usize = 400;
const LINES_MAX: usize = 700;

/// Longer files that are meant, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

pub fn check(tree: &Tree) -> Vec<Finding> {
    check_with(tree, EXCEPTIONS)
}

fn check_with(tree: &Tree, exceptions: &[(&str, &str)]) -> Vec<Finding> {
    let long = tree.rust().filter_map(|file| {
        let lines = file.text.lines().count();
        let excepted = exceptions.iter().find(|(path, _)| *path == file.path);
        match (lines, excepted) {
            (LINES_MAX.., Some((_, reason))) if lines > LINES_MAX => {
                Some(Finding::note(&file.path, lines, format!("{lines} lines, which is meant: {reason}")))
            }
            (LINES_MAX.., None) if lines > LINES_MAX => Some(Finding::offence(
                &file.path,
                lines,
                format!("{lines} lines are more than {LINES_MAX}: split the file by thoughts"),
            )),
            (_, Some(_)) => Some(Finding::offence(
                &file.path,
                1,
                "no longer an exception: take it off the list in xtask/src/tidy/file_length.rs",
            )),
            (NOTED_LINES.., None) if lines > NOTED_LINES => {
                Some(Finding::note(&file.path, lines, format!("{lines} lines: is this still one thought?")))
            }
            (_, None) => None,
        }
    });
    let gone = exceptions.iter().filter(|(path, _)| !tree.has(path));
    let gone = gone.map(|(path, _)| {
        Finding::offence(
            path,
            1,
            "an exception for a file that is gone: take it off the list in xtask/src/tidy/file_length.rs",
        )
    });
    long.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Weight;
    use super::*;

    fn weights(lines: usize, exceptions: &[(&str, &str)]) -> Vec<Weight> {
        let text = "// line\n".repeat(lines);
        check_with(&Tree::of(&[("a.rs", &text)]), exceptions).into_iter().map(|finding| finding.weight).collect()
    }

    #[test]
    fn long_files_are_noted_and_longer_ones_refused() {
        assert_eq!(weights(400, &[]), []);
        assert_eq!(weights(401, &[]), [Weight::Note]);
        assert_eq!(weights(700, &[]), [Weight::Note]);
        assert_eq!(weights(701, &[]), [Weight::Offence]);
    }

    #[test]
    fn a_recorded_exception_is_a_note_while_it_is_needed() {
        assert_eq!(weights(701, &[("a.rs", "one table")]), [Weight::Note]);
        assert_eq!(weights(700, &[("a.rs", "one table")]), [Weight::Offence]);
        assert_eq!(weights(1, &[("gone.rs", "one table")]), [Weight::Offence]);
    }
}
