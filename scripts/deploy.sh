#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# The documents' name of deploy/python/deploy.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/../deploy/python/deploy.sh" "$@"
