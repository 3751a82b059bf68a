//! A prompt in the protocol's words.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_client_protocol::v1::schema::{ContentBlock, ResourceLink, TextContent};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::Prompt;

/// What must not stand as it is in the path of an address (RFC 3986, section 3.3).
const PATH_KEPT_OUT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What goes before the prompt, its attachments as links, then the prompt itself.
pub(crate) fn blocks(prompt: Prompt) -> Vec<ContentBlock> {
    let text = |text: String| ContentBlock::Text(TextContent::new(text));
    let mut blocks: Vec<ContentBlock> = prompt.before.into_iter().map(text).collect();
    blocks.extend(prompt.attachments.iter().map(|path| ContentBlock::ResourceLink(link_to(path))));
    // A prompt that begins with a slash would be taken for a command of the agent's program.
    let asked = if prompt.text.starts_with('/') { format!("\n{}", prompt.text) } else { prompt.text };
    blocks.push(text(asked));
    blocks
}

fn link_to(path: &Path) -> ResourceLink {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let encoded = percent_encode(path.as_os_str().as_bytes(), PATH_KEPT_OUT);
    ResourceLink::new(name, format!("file://{encoded}"))
}
