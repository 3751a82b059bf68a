//! Arrows between our crates go one way: the whole list of allowed edges, compared with the manifests.
//!
//! Development dependencies are free; everything else that a crate of ours names is an edge.

use toml::{Table, Value};

use super::finding::Finding;
use super::tree::{File, Tree};

/// What a crate may depend on.
enum Reach {
    Only(&'static [&'static str]),
    Product,
    Everything,
}

use Reach::{Everything, Only, Product};

const EDGES: &[(&str, Reach)] = &[
    ("clawdforge-core", Only(&[])),
    ("clawdforge-api", Only(&["clawdforge-core"])),
    ("clawdforge-process", Only(&["clawdforge-core"])),
    ("clawdforge-store", Only(&["clawdforge-core"])),
    ("clawdforge-store-sql", Only(&["clawdforge-store", "clawdforge-core"])),
    ("clawdforge-egress", Only(&["clawdforge-core"])),
    ("clawdforge-agent", Only(&["clawdforge-process", "clawdforge-egress", "clawdforge-core"])),
    ("clawdforge-engine", Only(&["clawdforge-agent", "clawdforge-store", "clawdforge-process", "clawdforge-core"])),
    ("clawdforge-server", Only(&["clawdforge-engine", "clawdforge-api", "clawdforge-core"])),
    ("clawdforge-client", Only(&["clawdforge-api", "clawdforge-core"])),
    ("clawdforge", Product),
    ("clawdforge-testkit", Everything),
    ("xtask", Everything),
];

/// Crates that only tests and chores see.
const NOT_PRODUCT: [&str; 2] = ["clawdforge-testkit", "xtask"];

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.manifests().flat_map(check_manifest).collect()
}

fn check_manifest(file: &File) -> Vec<Finding> {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => return vec![Finding::offence(&file.path, 1, format!("this is not TOML: {error}"))],
    };
    let name =
        manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str).unwrap_or_default();
    let Some((_, reach)) = EDGES.iter().find(|(known, _)| *known == name) else {
        let sentence = format!(
            "the crate `{name}` has no row in xtask/src/tidy/edges.rs: a new crate needs a decision record and its edges"
        );
        return vec![Finding::offence(&file.path, file.line_of("name"), sentence)];
    };
    let allowed = |other: &str| match reach {
        Only(list) => list.contains(&other),
        Product => !NOT_PRODUCT.contains(&other),
        Everything => true,
    };
    ours(&manifest)
        .into_iter()
        .filter(|other| !allowed(other))
        .map(|other| {
            let sentence =
                format!("`{name}` must not depend on `{other}`: move the code to a crate that may know both");
            Finding::offence(&file.path, file.line_of(&other), sentence)
        })
        .collect()
}

/// The crates of ours that a manifest depends on outside of tests.
fn ours(manifest: &Table) -> Vec<String> {
    let platforms = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(Table::values)
        .filter_map(Value::as_table);
    std::iter::once(manifest)
        .chain(platforms)
        .flat_map(|table| {
            ["dependencies", "build-dependencies"].into_iter().filter_map(|kind| table.get(kind)?.as_table())
        })
        .flat_map(Table::iter)
        .map(|(key, how)| how.get("package").and_then(Value::as_str).unwrap_or(key).to_owned())
        .filter(|name| name == "clawdforge" || name == "xtask" || name.starts_with("clawdforge-"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(name: &str, rest: &str) -> Vec<String> {
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        places(&check(&Tree::of(&[("crates/x/Cargo.toml", &text)])))
    }

    #[test]
    fn an_edge_that_is_not_in_the_table_is_found() {
        assert_eq!(
            found("clawdforge-server", "[dependencies]\nclawdforge-store.workspace = true\n"),
            ["crates/x/Cargo.toml:4"]
        );
        assert_eq!(found("clawdforge-core", "[build-dependencies]\nclawdforge-api.workspace = true\n").len(), 1);
        assert_eq!(
            found("clawdforge-core", "[target.'cfg(unix)'.dependencies]\nclawdforge-process.workspace = true\n").len(),
            1
        );
        assert_eq!(
            found(
                "clawdforge-api",
                "[dependencies]\nshort = { package = \"clawdforge-engine\", path = \"../engine\" }\n"
            )
            .len(),
            1
        );
    }

    #[test]
    fn nothing_but_tests_and_chores_depends_on_the_testkit() {
        let testkit = "[dependencies]\nclawdforge-testkit.workspace = true\n";
        assert_eq!(found("clawdforge", testkit).len(), 1);
        assert!(found("xtask", testkit).is_empty());
        assert!(found("clawdforge", "[dev-dependencies]\nclawdforge-testkit.workspace = true\n").is_empty());
    }

    #[test]
    fn allowed_edges_and_foreign_crates_are_left_alone() {
        assert!(
            found("clawdforge-engine", "[dependencies]\nclawdforge-agent.workspace = true\ntokio.workspace = true\n")
                .is_empty()
        );
        assert!(found("clawdforge", "[dependencies]\nclawdforge-store-sql.workspace = true\n").is_empty());
    }

    #[test]
    fn a_crate_without_a_row_and_a_broken_manifest_are_found() {
        assert_eq!(found("clawdforge-new", "").len(), 1);
        assert_eq!(found("clawdforge", "[dependencies").len(), 1);
    }
}
