# shellcheck shell=bash
# Where and with what something was measured. Read by docker/run.sh and bench/run.sh, which set `root`.

# A text as it stands in a JSON string: its first line.
text() { sed 's/[\\"]/\\&/g' <<<"$1" | head -1; }

# How many processes wanted a processor in the last minute, on average: other work on this machine is in it.
load() { cut -d' ' -f1 /proc/loadavg; }

# loads RUN COLUMN CSV: the least and the greatest load in the rows of a run, whose name is in the first column.
loads() {
    awk -F, -v run="$1" -v column="$2" '
        $1 == run && (n++ == 0 || $column + 0 < low) { low = $column + 0 }
        $1 == run && $column + 0 > high { high = $column + 0 }
        END { if (n) printf "%s to %s", low, high }' "$3" 2>/dev/null || true
}

# provenance_of RUN FROM COMMAND VERSION: members of a JSON object, without the last comma.
provenance_of() {
    local commit changed=false
    commit=$(git -C "$root" rev-parse HEAD 2>/dev/null) || commit=unknown
    [[ -z $(git -C "$root" status --porcelain 2>/dev/null) ]] || changed=true
    cat <<JSON
  "run": "$(text "$1")",
  "from": "$2",
  "until": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "command": "$(text "$3")",
  "commit": "$commit",
  "uncommitted_changes": $changed,
  "program": "$(text "$4")",
  "toolchain": "$(text "$(rustc --version 2>/dev/null || true)")",
  "host": "$(text "$(hostname)")",
  "cpu": "$(text "$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo)")",
  "cores": $(nproc),
  "kernel": "$(text "$(uname -srvm)")"
JSON
}
