#!/usr/bin/env bash
# Installs the Debian packages listed in a file, those that are missing only; root or sudo.
set -euo pipefail
missing=()
while read -r package; do
    [[ -z $package || $package == \#* ]] && continue
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done < "$1"
((${#missing[@]})) || exit 0
as_root=()
if ((EUID)); then
    command -v sudo >/dev/null || { echo "Debian packages are missing (${missing[*]}): install them as root, or install sudo." >&2; exit 1; }
    as_root=(sudo)
fi
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get update --quiet --quiet
"${as_root[@]}" apt-get install --yes --quiet --quiet --no-install-recommends "${missing[@]}"
