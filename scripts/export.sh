#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# The in-batch document's name of scripts/export_model.sh.
exec bash "$(dirname "${BASH_SOURCE[0]}")/export_model.sh" "$@"
