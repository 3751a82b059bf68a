//! Every relative link in a Markdown page leads somewhere: to a file of ours, and to a heading in it.

use std::collections::BTreeMap;

use super::finding::Finding;
use super::tree::{File, Tree};

pub fn check(tree: &Tree) -> Vec<Finding> {
    let pages = || tree.files().iter().filter(|file| file.path.ends_with(".md"));
    let anchors: BTreeMap<_, _> = pages().map(|page| (page.path.as_str(), anchors(page))).collect();
    let mut findings = Vec::new();
    for page in pages() {
        for (line, target) in links(page) {
            let (path, anchor) =
                target.split_once('#').map_or((target.as_str(), None), |(path, anchor)| (path, Some(anchor)));
            let Some(path) = resolve(&page.path, path).filter(|path| tree.has(path)) else {
                findings.push(Finding::offence(
                    &page.path,
                    line,
                    format!("`{target}` leads to no file of the repository: correct the link"),
                ));
                continue;
            };
            // Only pages have headings that we know.
            if let (Some(anchor), Some(known)) = (anchor, anchors.get(path.as_str()))
                && !known.iter().any(|known| known == anchor)
            {
                findings.push(Finding::offence(
                    &page.path,
                    line,
                    format!("`{target}`: `{path}` has no heading `#{anchor}`: correct the link"),
                ));
            }
        }
    }
    findings
}

/// The lines of a page that are neither code nor in a fence, without their inline code.
fn prose(page: &File) -> impl Iterator<Item = (usize, String)> {
    let mut fence: Option<&str> = None;
    page.lines().filter_map(move |(number, line)| {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (None, None) => return Some((number, without_code(line))),
            _ => {}
        }
        None
    })
}

fn without_code(line: &str) -> String {
    // Every second piece is between backticks; what is left keeps its words apart.
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

/// Relative targets with their lines.
fn links(page: &File) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(page) {
        let inline = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
        let reference = line
            .trim_start()
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("]: "))
            .and_then(|(_, target)| target.split(' ').next());
        for target in inline.chain(reference).map(|target| target.trim_matches(['<', '>'])) {
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push((number, target.to_owned()));
            }
        }
    }
    found
}

/// The path from the root that a link on a page means; `None` when it leaves the repository.
fn resolve(page: &str, target: &str) -> Option<String> {
    if target.is_empty() {
        return Some(page.to_owned());
    }
    let mut parts: Vec<_> = page.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors of a page: its headings as the usual renderers name them, and explicit ids.
fn anchors(page: &File) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut fenced = false;
    for (_, line) in page.lines() {
        let start = line.trim_start();
        fenced ^= start.starts_with("```") || start.starts_with("~~~");
        let title = line.trim_start_matches('#');
        if !fenced && title.len() < line.len() && title.starts_with(' ') {
            let slug = slug(title);
            let earlier = found.iter().filter(|known| **known == slug).count();
            found.push(if earlier == 0 { slug } else { format!("{slug}-{earlier}") });
        }
        found.extend(line.split(" id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
    }
    found
}

fn slug(title: &str) -> String {
    // Of a link in a heading only its words are seen.
    let words: String = title
        .trim()
        .split("](")
        .enumerate()
        .map(|(index, part)| if index == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) })
        .collect();
    words
        .chars()
        .filter_map(|character| match character {
            ' ' => Some('-'),
            '-' | '_' => Some(character),
            other => other.is_alphanumeric().then_some(other),
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::of(&[
            ("docs/guides/page.md", text),
            (
                "docs/other.md",
                "# Title\n## `GET /run`, the *first*\n## Again\n## Again\n<a id=\"kept\"></a>\n```sh\n# no heading\n```\n",
            ),
            ("LICENSE", "text"),
        ]);
        places(&check(&tree))
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        for target in [
            "missing.md",
            "../missing/",
            "../../../outside.md",
            "../other.md#absent",
            "#absent",
            "../other.md#no-heading",
        ] {
            assert_eq!(found(&format!("\nsee [this]({target}).\n")), ["docs/guides/page.md:2"], "{target}");
        }
        assert_eq!(found("[this]: missing.md\n").len(), 1);
    }

    #[test]
    fn links_to_files_folders_and_headings_are_fine() {
        let targets = [
            "../other.md",
            "../other.md#title",
            "../other.md#get-run-the-first",
            "../other.md#again-1",
            "../other.md#kept",
        ];
        for target in targets.into_iter().chain([
            "../",
            "../../LICENSE",
            "#here",
            "page.md#here",
            "https://host.example/x",
            "mailto:a@b.example",
        ]) {
            assert_eq!(
                found(&format!("# Here\n[this]({target}) and [that]({target} \"title\")\n")),
                Vec::<String>::new(),
                "{target}"
            );
        }
    }

    #[test]
    fn code_has_no_links() {
        assert!(found("`[a](missing.md)`\n```md\n[a](missing.md)\n```\n").is_empty());
    }
}
