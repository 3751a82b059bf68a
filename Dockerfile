# syntax=docker/dockerfile:1
#
# The image of clawdforge: the service, and the agents it drives, at pinned versions.
#
#   docker build -t clawdforge:local .
#
# Needs BuildKit (the default builder since Docker 23) for cache mounts and heredocs. Builds for
# linux/amd64 and linux/arm64; each platform is compiled on itself, so another than the host's
# needs emulation. `deploy/check.sh` performs the two RUN blocks named BUILD and INSTALL_AGENTS
# without a container engine: keep their names, and keep whatever is specific to a container
# outside of them.

# --- the service ----------------------------------------------------------------------------------
FROM rust:1.95-bookworm AS build
ARG TARGETARCH
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY crates crates
COPY xtask xtask
ENV CARGO_TARGET_DIR=/cache/target/${TARGETARCH} \
    OUT_DIR=/out
# Dependencies are kept between builds by the two cache mounts rather than by a layer of their own:
# a layer would have to forge a source file for every member of the workspace.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/cache \
    <<'BUILD'
set -eu
cargo build --locked --release --package clawdforge --bin clawdforge
install -D "$CARGO_TARGET_DIR/release/clawdforge" "$OUT_DIR/clawdforge"
BUILD

# --- the image ------------------------------------------------------------------------------------
FROM node:22-bookworm-slim

# What the agents call: certificates for their own TLS, git for their work in repositories, ps to
# end what their shell tools started.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates git procps \
 && rm -rf /var/lib/apt/lists/*

# The same versions as `clawdforge agents install` uses; deploy/check.sh compares them.
ARG TARGETARCH
ARG CLAUDE_CODE_VERSION=2.1.330
ARG CLAUDE_AGENT_ACP_VERSION=0.101.0
ARG ACPX_VERSION=0.19.1
ARG AGENTS_DIR=/opt/agents
ARG BIN_DIR=/usr/local/bin
# No package's install script runs. That is why the native package of the platform is named:
# `@anthropic-ai/claude-code` itself is a stub that its install script replaces by this very binary.
# Optional packages stay out because the adapter's would be a second, older `claude` of 300 MB.
# All three share one folder, where acpx finds the adapter instead of fetching one.
RUN --mount=type=cache,target=/root/.npm \
    <<'INSTALL_AGENTS'
set -eu
case "$TARGETARCH" in
  amd64) claude="claude-code-linux-x64" ;;
  arm64) claude="claude-code-linux-arm64" ;;
  *) echo "there is no claude for the architecture '$TARGETARCH'" >&2; exit 1 ;;
esac
mkdir -p "$AGENTS_DIR" "$BIN_DIR"
npm install --prefix "$AGENTS_DIR" \
  --save-exact --ignore-scripts --omit=optional --no-audit --no-fund --loglevel=error \
  "@anthropic-ai/$claude@$CLAUDE_CODE_VERSION" \
  "@agentclientprotocol/claude-agent-acp@$CLAUDE_AGENT_ACP_VERSION" \
  "acpx@$ACPX_VERSION"
ln -s "$AGENTS_DIR/node_modules/@anthropic-ai/$claude/claude" "$BIN_DIR/claude"
ln -s "$AGENTS_DIR/node_modules/.bin/claude-agent-acp" "$BIN_DIR/claude-agent-acp"
ln -s "$AGENTS_DIR/node_modules/.bin/acpx" "$BIN_DIR/acpx"
"$BIN_DIR/claude" --version
"$BIN_DIR/claude-agent-acp" --version
"$BIN_DIR/acpx" --version
INSTALL_AGENTS

# The service starts as root and gives root up for each agent: every app's agents run as a user of their own
# (ISOLATION_USERS below), and none of them as 10001. That one is for `--user 10001:10001` (compose.plain-user.yml), with
# all agents as one user; the folders are its own because a named volume takes owner and modes from the image the first
# time it is used, and root may write in them either way. The agents' programs stay root's: an agent cannot change what it is.
RUN groupadd --gid 10001 clawdforge \
 && useradd --uid 10001 --gid 10001 --create-home --home-dir /home/clawdforge --shell /bin/bash clawdforge \
 && install -d -o clawdforge -g clawdforge -m 0700 \
      /data \
      /home/clawdforge/.claude \
      /home/clawdforge/.config /home/clawdforge/.config/claude \
      /home/clawdforge/.acpx /home/clawdforge/.acpx/sessions

COPY --from=build /out/clawdforge /usr/local/bin/clawdforge

WORKDIR /home/clawdforge
# CLAUDE_CONFIG_DIR brings ~/.claude.json, which lies beside ~/.claude otherwise, into the volume.
# CLAUDE_CODE_EXECUTABLE is the `claude` the adapter starts. The updater is off: the pin decides.
ENV HOME=/home/clawdforge \
    CLAWDFORGE_LISTEN=0.0.0.0:8800 \
    CLAWDFORGE_DATA_DIR=/data \
    CLAWDFORGE_ISOLATION_USERS=20000-29999 \
    CLAUDE_CONFIG_DIR=/home/clawdforge/.claude \
    CLAUDE_CODE_EXECUTABLE=/usr/local/bin/claude \
    DISABLE_AUTOUPDATER=1
VOLUME ["/data"]
EXPOSE 8800

# Asks 127.0.0.1:8800, which the allow-list always admits.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["clawdforge", "healthz"]
ENTRYPOINT ["clawdforge"]
CMD ["serve"]
