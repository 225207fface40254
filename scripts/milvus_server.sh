#!/usr/bin/env bash
# A Milvus server on loopback for tests and benchmarks, from the PyPI package milvus==2.3.5 in an environment of its own.
#   bash scripts/milvus_server.sh start DIR [PORT]    start it, or go on with the data of DIR; prints its address
#   bash scripts/milvus_server.sh stop DIR            stop it; the data stay
# DIR is made; PORT is 19530 where left out. DIR/server.pid holds the process's id. MILVUS_VENV=.venv-milvus names the
# environment, PYTHON the Python that it is made with. For real use: deploy/milvus/.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/pythons.sh
source "$root/scripts/pythons.sh"

fail() { echo "error: $*" >&2; exit 2; }

[ $# -ge 2 ] || fail "usage: milvus_server.sh start DIR [PORT], or stop DIR"
verb=$1 port=${3:-19530}
mkdir -p "$2"
dir=$(cd "$2" && pwd) venv=${MILVUS_VENV:-$root/.venv-milvus}
pid=$(cat "$dir/server.pid" 2>/dev/null || true)
running() { [ -n "$pid" ] && [[ "$(readlink "/proc/$pid/exe" 2>/dev/null)" == */server/bin/milvus ]]; }

install() {
    local python=${PYTHON:-} version
    for version in "${PYTHONS[@]}"; do
        [ -n "$python" ] || python=$(find_python "$version" || true)
    done
    [ -n "$python" ] || fail "no Python 3.10, 3.11 or 3.12 was found; PYTHON= names one"
    echo "+ $python -m venv $venv; pip install milvus" >&2
    # Under another name first: two that start at once, or a kill, leave no half of an environment. The name is the
    # script's, not this function's: the trap runs when the script ends.
    partial=$venv.$$
    trap 'rm -rf "$partial"' EXIT
    "$python" -m venv "$partial"
    "$partial/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
        -r "$root/requirements/milvus_server.txt" || fail "the package milvus could not be installed"
    # The binaries are packed; unpacked once, not for each DIR.
    "$partial/bin/python" -c 'import sys, milvus; milvus._initialize_data_files(sys.argv[1])' "$partial/server"
    [ -d "$venv" ] || mv -T "$partial" "$venv" 2>/dev/null || [ -d "$venv" ]
}

case $verb in
    start)
        ! running || fail "$dir: its server runs already (process $pid)"
        [ -d "$venv" ] || install
        # The environment may have been renamed: its Python is called by path, nothing in bin/ is.
        ln -sfn "$(cd "$venv" && pwd)/server/bin" "$dir/bin"
        "$venv/bin/python" - "$dir" "$port" <<'PYTHON' || fail "$dir: the server did not start; see $dir/logs"
import os
import socket
import sys
import time

from milvus import MilvusServer, MilvusServerConfig

directory, port = sys.argv[1], int(sys.argv[2])
server = MilvusServer(MilvusServerConfig(data_dir=directory, proxy_port=port), wait_for_started=False)
for part in ("rootCoord", "proxy", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode"):
    server.config.set(f"{part}.ip", "127.0.0.1")  # else each takes the first address that the machine has
server.config.set("common.session.ttl", 5)  # seconds; a start after kill -9 waits until the dead one's sessions are over


def bound(port):
    """Return a socket at a port, None where another process has it; one that was killed just now may still."""
    for turn in range(100):
        try:
            return socket.create_server(("127.0.0.1", port))  # with SO_REUSEADDR: a dead server's connections linger
        except OSError:
            time.sleep(0.1)


def free(count):
    """Return ports that nobody has: two servers on one machine take none from each other."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


names = [name for name in server.config.configurable_items if name.endswith("_port") and name != "proxy_port"]
*ports, peers, server.webservice_port = free(len(names) + 2)
own = dict(zip(names, ports))
server.config.configs.update(own)
etcd = os.path.join(directory, "etcd.yaml")  # of the etcd within it, which would take 2379 and 2380
with open(etcd, "w") as file:
    for name, number in (("client", own["etcd_port"]), ("peer", peers)):
        file.write(f"listen-{name}-urls: http://127.0.0.1:{number}\n")
    file.write(f"advertise-client-urls: http://127.0.0.1:{own['etcd_port']}\n")
    file.write(f"initial-advertise-peer-urls: http://127.0.0.1:{peers}\n")
    file.write(f"initial-cluster: default=http://127.0.0.1:{peers}\n")
server.config.template_text = server.config.template_text.replace("\netcd:\n", f"\netcd:\n  config:\n    path: {etcd}\n")
server.config.try_bind_port = bound
os.setpgrp()
server.start()
with open(os.path.join(directory, "server.pid"), "w") as file:
    file.write(str(server.server_proc.pid))
try:
    server.wait_started()
except (RuntimeError, TimeoutError) as error:
    sys.exit(str(error))
if server.server_proc.poll() is not None:
    sys.exit("it ended at once")
sys.stdout.write(f"http://127.0.0.1:{port}\n")
sys.stdout.flush()
os._exit(0)  # the object's end would stop the server
PYTHON
        ;;
    stop)
        running || exit 0
        kill "$pid"
        for _ in $(seq 100); do
            running || exit 0
            sleep 0.1
        done
        kill -9 "$pid"
        ;;
    *) fail "unknown verb $verb; known: start, stop" ;;
esac
