#!/usr/bin/env bash
# Checks the deployment files as far as that goes without a container engine: performs the
# Dockerfile's own install steps in a scratch folder, reads compose.yml and the systemd unit with
# the tools at hand, and compares every version and option name with the place it comes from.
#
#   deploy/check.sh [--no-install] [--build] [--strict]
#
#   --no-install   do not install the agents (about 450 MB from the npm registry)
#   --build        also perform the image's release build, from nothing but what the image copies
#   --strict       a check that could not run is a failure
#
# Exit code: 0 nothing failed, 1 something failed, 2 wrong usage. What was not run is always listed.
# Writes only below a temporary folder, which it removes.
set -euo pipefail
cd "$(dirname "$0")/.."

install=yes build=no strict=no
for argument in "$@"; do
  case "$argument" in
    --no-install) install=no ;;
    --build) build=yes ;;
    --strict) strict=yes ;;
    *) sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=() skipped=()

ok() { printf '  ok    %s\n' "$*"; }
fail() { printf '  FAIL  %s\n' "$*"; failed+=("$*"); }
skip() { printf '  skip  %s\n' "$*"; skipped+=("$*"); }
have() { command -v "$1" >/dev/null 2>&1; }
# expect WHAT COMMAND…: runs it, shows its output only when it fails.
expect() {
  local what=$1
  shift
  if "$@" >"$scratch/output" 2>&1; then ok "$what"; else fail "$what"; sed 's/^/        /' "$scratch/output"; fi
}
# same WHAT LEFT RIGHT
same() { if [[ -n $2 && $2 == "$3" ]]; then ok "$1: $2"; else fail "$1: '$2' is not '$3'"; fi; }

# The body of one `RUN … <<'NAME'` block, to the letter.
run_block() { awk -v name="$1" '$0 == name { inside = 0 } inside { print } index($0, "<<\047" name "\047") { inside = 1 }' Dockerfile; }
# The default of one ARG.
pin() { sed -n "s/^ARG $1=//p" Dockerfile; }

check_build_context() {
  echo "The builder's context (Dockerfile, .dockerignore)"
  local image_rust source
  image_rust=$(sed -n 's/^FROM rust:\([0-9.]*\).*/\1/p' Dockerfile)
  same "Rust of the builder and of the workspace" "$image_rust" "$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
  mkdir "$scratch/src"
  # shellcheck disable=SC2013 # the sources of one COPY are words
  for source in $(sed -n '/^COPY --/d; s/^COPY \(.*\) [^ ]*$/\1/p' Dockerfile); do
    grep -qxF "!$source" .dockerignore || fail ".dockerignore keeps '$source' from the builder"
    cp -r "$source" "$scratch/src/"
  done
  if ! have cargo; then
    skip "the copied sources are a complete workspace: no cargo"
    return
  fi
  expect "the copied sources are a complete workspace" \
    cargo metadata --locked --format-version 1 --manifest-path "$scratch/src/Cargo.toml"
  if [[ $build == no ]]; then
    skip "the release build (--build performs it)"
    return
  fi
  run_block BUILD >"$scratch/build.sh"
  if (cd "$scratch/src" && CARGO_TARGET_DIR=$scratch/target OUT_DIR=$scratch/out sh "$scratch/build.sh"); then
    expect "the built binary starts" "$scratch/out/clawdforge" --version
  else
    fail "the release build"
  fi
}

check_agents() {
  echo "The agents (block INSTALL_AGENTS of the Dockerfile)"
  local arch agent package version
  case "$(uname -m)" in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=unknown ;; esac
  if [[ $install == no ]]; then
    skip "the install of the agents (--no-install)"
  elif ! have npm; then
    skip "the install of the agents: no npm"
  elif [[ $(uname -s) != Linux || $arch == unknown ]]; then
    skip "the install of the agents: not a platform of the image"
  else
    run_block INSTALL_AGENTS >"$scratch/install.sh"
    # A HOME of their own, so that a program that is only asked for its version leaves nothing behind.
    mkdir "$scratch/home"
    if npm_config_userconfig=$(npm config get userconfig 2>/dev/null) \
      npm_config_cache=$(npm config get cache 2>/dev/null) \
      CLAUDE_CODE_VERSION=$(pin CLAUDE_CODE_VERSION) \
      CLAUDE_AGENT_ACP_VERSION=$(pin CLAUDE_AGENT_ACP_VERSION) \
      ACPX_VERSION=$(pin ACPX_VERSION) \
      TARGETARCH=$arch AGENTS_DIR=$scratch/agents BIN_DIR=$scratch/bin HOME=$scratch/home \
      bash -c 'export npm_config_userconfig npm_config_cache; sh "$1"' install "$scratch/install.sh"; then
      while read -r agent version; do
        # `|| true`: a program that does not start prints no version, and that is what `same` reports.
        same "$agent --version" "$(HOME=$scratch/home "$scratch/bin/$agent" --version </dev/null 2>/dev/null | cut -d' ' -f1 || true)" "$version"
      done <<<"claude $(pin CLAUDE_CODE_VERSION)
claude-agent-acp $(pin CLAUDE_AGENT_ACP_VERSION)
acpx $(pin ACPX_VERSION)"
    else
      fail "the install of the agents"
    fi
    for package in claude-code-linux-x64 claude-code-linux-arm64; do
      same "$package is published" "$(npm view "@anthropic-ai/$package@$(pin CLAUDE_CODE_VERSION)" version 2>/dev/null)" "$(pin CLAUDE_CODE_VERSION)"
    done
  fi

  local catalogue=crates/clawdforge/src/agents/catalogue.rs
  if [[ ! -f $catalogue ]]; then
    skip "pins equal those of \`clawdforge agents install\`: no $catalogue"
    return
  fi
  while read -r package version; do
    if grep -qF "$package" "$catalogue" && grep -qF "\"$version\"" "$catalogue"; then
      ok "$package $version is what \`clawdforge agents install\` pins"
    else
      fail "$package $version is not what \`clawdforge agents install\` pins ($catalogue)"
    fi
  done <<<"claude-code-linux $(pin CLAUDE_CODE_VERSION)
claude-agent-acp $(pin CLAUDE_AGENT_ACP_VERSION)
acpx $(pin ACPX_VERSION)"
}

check_option_names() {
  echo "Option names in the deployment files and the guide"
  local known=docs/reference/configuration.md name unknown=no
  [[ -f $known ]] || known=crates/clawdforge/src/config/options.rs
  if [[ ! -f $known ]]; then
    skip "option names: neither the reference page nor the option table is there"
    return
  fi
  # The client's variables are declared by the client.
  grep -rhoE '\b(CLAWDFORGE_[A-Z_]+|ALLOW_CIDRS)\b' "$known" crates/clawdforge-client/src | sort -u >"$scratch/known"
  # shellcheck disable=SC2013 # a name is a word
  for name in $(grep -hoE '\b(CLAWDFORGE_[A-Z_]+|ALLOW_CIDRS)\b' \
    .env.example compose.yml compose.plain-user.yml Dockerfile deploy/systemd/* docs/guides/install.md | sort -u); do
    grep -qxF "$name" "$scratch/known" || { fail "$name is no option ($known)"; unknown=yes; }
  done
  if [[ $unknown == no ]]; then ok "all are options ($known)"; fi
}

check_compose() {
  echo "compose.yml, compose.plain-user.yml"
  mkdir "$scratch/compose"
  cp compose.yml compose.plain-user.yml "$scratch/compose/"
  cp .env.example "$scratch/compose/.env"
  local compose=()
  if have docker && docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
  elif have docker-compose && docker-compose version --short 2>/dev/null | grep -q '^v\?[2-9]'; then
    compose=(docker-compose)
  fi
  if ((${#compose[@]} > 0)); then
    local files=(-f "$scratch/compose/compose.yml")
    expect "${compose[*]} config" "${compose[@]}" --project-directory "$scratch/compose" "${files[@]}" config -q
    files+=(-f "$scratch/compose/compose.plain-user.yml")
    expect "${compose[*]} config, as a plain user" "${compose[@]}" --project-directory "$scratch/compose" "${files[@]}" config -q
  else
    skip "docker compose config: no client that has compose"
  fi
  if have python3 && python3 -c 'import yaml' 2>/dev/null; then
    expect "its facts agree with the Dockerfile and .env.example" python3 deploy/check_compose.py
  else
    skip "the facts of compose.yml: no python3 with PyYAML"
  fi
}

# An unknown key is a line of output and exit code 0, so any word about our unit counts as a failure;
# what verify says about the host's other units does not.
verify_unit() {
  local said status=0
  said=$(systemd-analyze verify --man=no "$1" 2>&1) || status=$?
  echo "$said"
  ((status == 0)) && ! grep -qF clawdforge.service <<<"$said"
}

check_unit() {
  echo "deploy/systemd/clawdforge.service"
  local unit=deploy/systemd/clawdforge.service stop drain
  stop=$(sed -n 's/^TimeoutStopSec=//p' "$unit")
  drain=$(sed -n 's/^#CLAWDFORGE_DRAIN_DEADLINE_SECS=//p' .env.example)
  if ((stop > drain)); then ok "stops after the drain deadline: $stop s > $drain s"; else fail "TimeoutStopSec $stop is not above the drain deadline $drain"; fi
  if have systemd-analyze; then
    # The binary is not installed here, and verify insists on one.
    sed 's#^ExecStart=/usr/local/bin/clawdforge .*#ExecStart=/bin/true#' "$unit" >"$scratch/clawdforge.service"
    expect "systemd-analyze verify" verify_unit "$scratch/clawdforge.service"
  else
    skip "systemd-analyze verify: not installed"
  fi
}

check_build_context
check_agents
check_option_names
check_compose
check_unit

echo
echo "never run by this script: docker build, docker compose up, the unit under a running systemd"
if ((${#skipped[@]} > 0)); then printf 'not run: %s\n' "${skipped[@]}"; fi
if ((${#failed[@]} > 0)); then
  printf 'FAILED:  %s\n' "${failed[@]}"
  exit 1
fi
if [[ $strict == yes ]] && ((${#skipped[@]} > 0)); then
  echo "FAILED: --strict, and not everything was run"
  exit 1
fi
echo "all checks that ran passed"
