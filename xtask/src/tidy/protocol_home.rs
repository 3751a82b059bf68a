//! Only `agent/src/acp/` knows the crate of the Agent Client Protocol, which churns; the rest of the product goes by ours.

use super::finding::Finding;
use super::tree::{File, Tree};

const HOME: &str = "crates/clawdforge-agent/src/acp/";

/// Where the product's own code is: tests and the testkit may speak the protocol from the other side.
const PRODUCT: [&str; 2] = ["crates/", "/src/"];

const CRATE: &str = "agent_client_protocol";

pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust().filter(|file| is_bound(&file.path)).flat_map(check_code).collect()
}

fn is_bound(path: &str) -> bool {
    PRODUCT.iter().all(|part| path.contains(part)) && !path.starts_with(HOME) && !path.contains("clawdforge-testkit/")
}

fn check_code(file: &File) -> Vec<Finding> {
    let uses = file.code.iter().filter(|token| token.text == CRATE);
    let sentence = "the protocol's crate is known in `agent/src/acp/` alone: use what that module offers, or add to it";
    uses.map(|token| Finding::offence(&file.path, token.line, sentence)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::places;
    use super::*;

    fn found(path: &str) -> Vec<String> {
        places(&check(&Tree::of(&[(path, "//! A.\nuse agent_client_protocol::Error;\n")])))
    }

    #[test]
    fn the_protocol_outside_its_home_is_found() {
        let path = "crates/clawdforge-agent/src/acpx/stream.rs";
        assert_eq!(found(path), [format!("{path}:2")]);
        for fine in [
            "crates/clawdforge-agent/src/acp/peer.rs",
            "crates/clawdforge-agent/tests/it/acp.rs",
            "crates/clawdforge-testkit/src/a.rs",
            "xtask/src/a.rs",
        ] {
            assert!(found(fine).is_empty(), "{fine}");
        }
    }
}
