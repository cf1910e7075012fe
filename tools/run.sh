#!/usr/bin/env bash
# Runs the study on a machine without network and git, from an archive of `make bundle`:
#
#   tar xf reid-COMMIT.tar
#   bash reid-COMMIT/run.sh MINUTES [what to run, as for `reid reproduce`]
#   bash reid-COMMIT/run.sh 50 --budget small --seeds 0,1,2
#
# It needs Python 3.12 with torch, torchvision, numpy and pip (PYTHON=…, else python3.12 or python3), and the start
# weights resnet50.safetensors beside the archive (or START=FILE). All that it writes stays in the folder of this script,
# but for the cache if REID_CACHE names another place. The same line again continues.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    echo "error: $*" >&2
    exit 1
}

[[ ${1:-} =~ ^[0-9.]+$ ]] || fail "say for how many minutes runs may be started: run.sh 50 --budget small --seeds 0,1,2"
minutes=$1
shift

# The code and the packages appear complete or not at all.
new=$(mktemp -d "$here/.new.XXXXXX")
trap 'rm -rf "$new"' EXIT

fits='import sys; from importlib.util import find_spec as has
sys.exit(sys.version_info[:2] != (3, 12) or not all(map(has, ("torch", "torchvision", "numpy", "pip"))))'
choices=(python3.12 python3)
[ -z "${PYTHON:-}" ] || choices=("$PYTHON")
python=
for one in "${choices[@]}"; do
    if "$one" -c "$fits" 2>/dev/null; then
        python=$("$one" -c 'import sys; print(sys.executable)')
        break
    fi
done
[ -n "$python" ] || fail "no Python 3.12 with torch, torchvision, numpy and pip; name one: PYTHON=/path/to/python3.12"

if [ ! -d "$here/study" ]; then
    tar xzf "$here/study.tar.gz" -C "$new"
    mv "$new/study" "$here/study"
fi

if [ ! -d "$here/packages" ]; then
    mkdir "$new/packages"
    shopt -s nullglob
    wheels=("$here"/wheels/*.whl)
    if [ ${#wheels[@]} -gt 0 ]; then
        "$python" -m pip --isolated install --quiet --no-index --no-deps --target "$new/packages" "${wheels[@]}"
    fi
    mv "$new/packages" "$here/packages"
fi

weights=$here/study/results/start/resnet50.safetensors
if [ ! -f "$weights" ]; then
    found=${START:-$here/../resnet50.safetensors}
    [ -f "$found" ] || fail "$found: missing; put resnet50.safetensors there, or name it: START=FILE"
    digest=$(sha256sum <"$found")
    [ "${digest:0:16}" = "$(cat "${weights%.safetensors}.sha256")" ] || fail "$found: not the file that belongs to this code"
    cp "$found" "$new/weights"
    mv "$new/weights" "$weights"
fi

# The command `reid`, for this script and for you. Nothing outside this folder takes the place of its code and packages.
# The packages come first, because a kernel that is started in study/ removes that folder from the head of the path.
mkdir -p "$here/bin" "$here/.settings"
cat >"$here/bin/reid" <<END
#!/usr/bin/env bash
unset REID_HOME REID_RESULTS
export MPLCONFIGDIR=$(printf %q "$here/.settings/matplotlib") IPYTHONDIR=$(printf %q "$here/.settings/ipython")
export PYTHONSAFEPATH=1 PYTHONPATH=$(printf %q "$here/packages:$here/study")\${PYTHONPATH:+:\$PYTHONPATH}
exec $(printf %q "$python") -c 'from reidlib.cli import main; main()' "\$@"
END
chmod +x "$here/bin/reid"
PATH=$here/bin:$PATH

status=0
reid reproduce "$@" --for "$minutes" || status=$?

# The notebooks that wait for no run, one a core.
waiting='import json, shlex, sys
print(*(shlex.join(one["command"]) for one in json.load(sys.stdin)["chapters"] if not one["after"]), sep="\n")'
reid reproduce "$@" --dry-run --json | "$python" -c "$waiting" |
    OMP_NUM_THREADS=1 xargs -r -d '\n' -n 1 -P "$(nproc)" bash -c || status=$?

carry=
reid pack "$here/records.zip" && carry="$here/records.zip (\`reid merge records.zip\`) and " || status=$?
tar czf "$here/notebooks.tar.gz" -C "$here/study" results/notebooks
echo "Carry home $carry$here/notebooks.tar.gz (unpack it in the checkout)."
exit $status
