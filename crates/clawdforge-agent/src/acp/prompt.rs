//! A prompt in the protocol's words.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_client_protocol::v1::schema::{
    ContentBlock, EmbeddedResource, EmbeddedResourceResource, ResourceLink, TextContent, TextResourceContents,
};
use percent_encoding::{AsciiSet, CONTROLS, percent_encode};

use crate::Prompt;
use crate::files::small_text;

/// Bytes of an attached text that is put into the prompt itself, where the agent takes that: about 8,000 tokens.
/// Larger ones, and what is no text, it opens when it needs to.
const EMBEDDED_BYTES_MAX: u64 = 32 * 1024;

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

/// What goes before the prompt, its attachments, then the prompt itself. Attachments are links; with `embeds`,
/// small texts come whole.
pub(crate) async fn blocks(prompt: Prompt, embeds: bool) -> Vec<ContentBlock> {
    let text = |text: String| ContentBlock::Text(TextContent::new(text));
    let mut blocks: Vec<ContentBlock> = prompt.before.into_iter().map(text).collect();
    for path in &prompt.attachments {
        let text = if embeds { small_text(path, EMBEDDED_BYTES_MAX).await } else { None };
        blocks.push(match text {
            Some(text) => ContentBlock::Resource(EmbeddedResource::new(
                EmbeddedResourceResource::TextResourceContents(TextResourceContents::new(text, address_of(path))),
            )),
            None => ContentBlock::ResourceLink(link_to(path)),
        });
    }
    // A prompt that begins with a slash would be taken for a command of the agent's program.
    let asked = if prompt.text.starts_with('/') { format!("\n{}", prompt.text) } else { prompt.text };
    blocks.push(text(asked));
    blocks
}

fn link_to(path: &Path) -> ResourceLink {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ResourceLink::new(name, address_of(path))
}

fn address_of(path: &Path) -> String {
    format!("file://{}", percent_encode(path.as_os_str().as_bytes(), PATH_KEPT_OUT))
}
