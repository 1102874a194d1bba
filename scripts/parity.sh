#!/usr/bin/env bash
# Full-size comparison with `voxtell` 0.1.2 from PyPI (see scripts/parity/compare.py). Needs 16 GB of memory and, on two
# cores, about half an hour. usage: scripts/parity.sh [CT.nii.gz [--prompts N]]
set -euo pipefail
cd "$(dirname "$0")/.."
upstream=.venv-upstream
# Values that the own code of SegVol, Text3DSAM and the challenge computed, where they are at hand: each folder has a check.py of its own.
references=${VOXTELL_REFERENCES:-../shared/engine/references}
for check in segvol:build text3dsam:build challenge:score; do
  folder=$references/${check%:*}
  if [ -d "$folder" ]; then
    .venv/bin/python "$folder/check.py" "scripts.parity.$check" "$folder"
  else
    echo "parity: $folder is not there; ${check%:*} is not compared (set VOXTELL_REFERENCES)" >&2
  fi
done
image=${1:-${VOXTELL_TEST_DATA:-../shared/data}/ct_totalseg_nifti/ct_small.nii.gz}
if [ ! -f "$image" ]; then
  echo "parity: $image is not there; name a CT as NIfTI, or set VOXTELL_TEST_DATA" >&2
  exit 1
fi
if [ ! -f $upstream/.ready ]; then
  echo "parity: installing voxtell 0.1.2 into $upstream (once; a few minutes)"
  "${PYTHON:-python3}" -m venv $upstream
  $upstream/bin/python -m pip install --quiet --constraint constraints.txt torch
  $upstream/bin/python -m pip install --quiet --constraint constraints.txt voxtell==0.1.2
  touch $upstream/.ready
fi
export HF_HUB_OFFLINE=1
exec .venv/bin/python -m scripts.parity.compare "$image" --upstream-python $upstream/bin/python --work $upstream/work "${@:2}"
