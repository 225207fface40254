#!/usr/bin/env bash
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # the recipe says sh
# The SimCSE document's name of scripts/train_simcse.sh; with flags it is its train.py.
exec bash "$(dirname "${BASH_SOURCE[0]}")/train_simcse.sh" "$@"
