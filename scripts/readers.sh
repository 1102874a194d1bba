#!/usr/bin/env bash
# Writes docs/reference/readers.md: what programs of others read out of our SEG and RTSTRUCT. usage: scripts/readers.sh [FILE]
# Their libraries need other versions than the node's, so they have an environment of their own (.venv-readers).
set -euo pipefail
cd "$(dirname "$0")/.."
readers=.venv-readers
if ! cmp --quiet scripts/readers/requirements.txt $readers/.ready; then
  echo "readers: installing into $readers (once; a minute)"
  "${PYTHON:-python3}" -m venv $readers
  $readers/bin/python -m pip install --quiet --no-deps --requirement scripts/readers/requirements.txt
  cp scripts/readers/requirements.txt $readers/.ready
fi
scripts/npm-packages.sh scripts/readers/npm-packages.txt $readers/npm .venv
exec .venv/bin/python -m scripts.readers.table "${1:-docs/reference/readers.md}" --readers $readers
